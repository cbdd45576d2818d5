/**
 * Matrices in 8-bit floating point (e4m3) with one scale in fp32 for each row, and products of which both sides are so: the input is
 * quantised row by row on its way. The mathematics is in native/fp8.cc.
 *
 * Backward, the scales of the matrix are multiplied into the gradient before that is quantised, row by row, so that the codes are those
 * of the forward. The product wants them in the other layout, which is made for each product and goes with it: 2 bytes of traffic a
 * weight, about 4 ms for each backward of 8 billion on an H200, where keeping it would take 1 byte a weight, 6.5 GiB.
 */
import {
  type DType,
  dtypeBytes,
  empty,
  fp8Project,
  fp8ProjectBackward,
  scope,
  type Tensor,
} from '../torch/index.js';
import type { PartForm, QuantisedForm } from './quantised-form.js';
import type { Weight } from './weight.js';

/** Of weights and of what they multiply. */
export const FP8 = 'float8_e4m3fn' satisfies DType;
/**
 * Of gradients. With a scale for each row, three bits of mantissa are worth more than the exponents of e5m2: gradients of inputs are off by
 * 2.3 % in the quickstart, with e5m2 by 4.6 % (recipes/quickstart/bases.full.test.ts).
 */
export const FP8_GRADIENT = 'float8_e4m3fn' satisfies DType;

/** What is kept of a matrix (outFeatures, inFeatures). */
export interface Fp8Parts {
  /** (outFeatures, inFeatures), e4m3 */
  readonly codes: Tensor;
  /** (outFeatures, 1), fp32 */
  readonly scales: Tensor;
}

/** Rows of an input (N, channels), quantised: codes, and scales (N, 1). */
export type Fp8Rows = readonly [codes: Tensor, scales: Tensor];

/** The scale of a row is its largest magnitude / 448, at least 2^-126; one with NaN or infinities becomes NaN as a whole. */
export class Fp8Form implements QuantisedForm<Fp8Parts> {
  readonly dtype = 'fp8';
  readonly leaves = { codes: 'weight', scales: 'weight_scale' };

  shapes([rows, columns]: readonly [number, number]): ReadonlyMap<string, PartForm> {
    return new Map<string, PartForm>([
      ['codes', { shape: [rows, columns], dtype: FP8 }],
      ['scales', { shape: [rows, 1], dtype: 'float32' }],
    ]);
  }

  quantise(weight: Tensor): Fp8Parts {
    const [codes, scales] = weight.quantiseRowsFp8(null, FP8);
    return { codes, scales };
  }

  denseInto({ codes, scales }: Fp8Parts, into: Tensor): void {
    scope(() => void into.copy_(codes.to('float32').mul(scales)));
  }

  weight(shape: readonly [number, number], dtype: DType, parts: () => Fp8Parts): Fp8Weight {
    return new Fp8Weight(shape, dtype, this, parts);
  }
}

/** A frozen weight in fp8. */
export class Fp8Weight implements Weight {
  constructor(
    readonly shape: readonly [number, number],
    readonly dtype: DType,
    readonly form: Fp8Form,
    private readonly parts: () => Fp8Parts,
  ) {}

  get bytes(): number {
    const [rows, columns] = this.shape;
    return rows * (columns + dtypeBytes('float32'));
  }

  get codes(): Tensor {
    return this.parts().codes;
  }

  get scales(): Tensor {
    return this.parts().scales;
  }

  get rowParts(): readonly Tensor[] {
    return [this.codes, this.scales];
  }

  product(x: Tensor, bias?: Tensor): Tensor {
    return x.fp8Linear(bias ?? null, this.codes, this.scales);
  }

  inputProduct(g: Tensor): Tensor {
    return fp8InputProduct([this], g);
  }

  dense(): Tensor {
    const dense = empty(this.shape, { dtype: this.dtype, device: this.codes.device });
    this.form.denseInto(this.parts(), dense);
    return dense;
  }
}

/** `x Wᵀ + b` of several weights side by side: (..., I) -> (..., O) */
export function fp8Product(
  weights: readonly Fp8Weight[],
  x: Tensor,
  biases: readonly (Tensor | null)[],
  rows?: Fp8Rows,
): Tensor {
  return scope(() => {
    const [codes, scales] = rows ?? x.flatten(0, -2).quantiseRowsFp8(null, FP8);
    const matrices = [
      weights.map((each) => each.codes),
      weights.map((each) => each.scales),
    ] as const;
    const product = fp8Project(codes, scales, ...matrices, biases, x.dtype);
    return product.view([...x.shape.slice(0, -1), product.shape[1]!]);
  });
}

/** `g W`: (N, O) -> (N, I) */
export function fp8InputProduct(weights: readonly Fp8Weight[], gNO: Tensor): Tensor {
  return fp8ProjectBackward(
    gNO,
    weights.map((each) => each.codes),
    weights.map((each) => each.scales),
    FP8_GRADIENT,
  );
}
