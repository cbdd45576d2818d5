/**
 * Matrices in 4-bit NormalFloat (Dettmers et al. 2023, "QLoRA"), to the bit as bitsandbytes keeps them: blocks of 64 weights with the
 * largest magnitude of each as its scale, and with double quantisation the scales themselves in bytes. The operators are in native/nf4.cc.
 */
import {
  type Device,
  type DType,
  dtypeBytes,
  empty,
  fromTypedArray,
  nf4QuantiseScales,
  type Tensor,
} from '../torch/index.js';
import type { PartForm, QuantisedForm } from './quantised-form.js';
import type { Weight } from './weight.js';

/** Weights, and scales, that share a scale. */
export const NF4_BLOCK = 64;
export const NF4_NESTED_BLOCK = 256;

/** What is kept of a matrix; `nested`, `nestedCode` and `offset` with double quantisation alone. */
export interface Nf4Parts {
  /** Two codes a byte, the first in the high half (ceil(n / 2), 1). */
  readonly packed: Tensor;
  /** Scales of the blocks: fp32, or bytes. */
  readonly absmax: Tensor;
  /** The 16 values that codes stand for. */
  readonly code: Tensor;
  /** Scales of the scales, fp32. */
  readonly nested?: Tensor;
  /** The 256 values that bytes stand for. */
  readonly nestedCode?: Tensor;
  /** Mean of the scales (1). */
  readonly offset?: Tensor;
}

export type Nf4Part = keyof Nf4Parts;

/** What follows a layer's name in that of each part: bitsandbytes' names, but for the offset, which it keeps in JSON. */
export const NF4_LEAVES: Readonly<Record<Nf4Part, string>> = {
  packed: 'weight',
  absmax: 'weight.absmax',
  code: 'weight.quant_map',
  nested: 'weight.nested_absmax',
  nestedCode: 'weight.nested_quant_map',
  offset: 'weight.nested_offset',
};

export interface Nf4Form {
  /** Whether scales are bytes. */
  readonly doubleQuantised: boolean;
  /** Type that the weights had: what codes stand for is rounded to it. @default that of products */
  readonly type?: DType | undefined;
}

/** What is kept of a matrix of so many weights. */
export function nf4Shapes(
  count: number,
  { doubleQuantised }: Nf4Form,
): ReadonlyMap<Nf4Part, PartForm> {
  const blocks = Math.ceil(count / NF4_BLOCK);
  const parts = new Map<Nf4Part, PartForm>([
    ['packed', { shape: [Math.ceil(count / 2), 1], dtype: 'uint8' }],
    ['absmax', { shape: [blocks], dtype: doubleQuantised ? 'uint8' : 'float32' }],
    ['code', { shape: [16], dtype: 'float32' }],
  ]);
  if (doubleQuantised) {
    const nested = Math.ceil(blocks / NF4_NESTED_BLOCK);
    parts.set('nested', { shape: [nested], dtype: 'float32' });
    parts.set('nestedCode', { shape: [256], dtype: 'float32' });
    parts.set('offset', { shape: [1], dtype: 'float32' });
  }
  return parts;
}

/** Memory of a matrix of so many weights. */
export function nf4Bytes(count: number, form: Nf4Form): number {
  const parts = [...nf4Shapes(count, form).values()];
  return parts.reduce(
    (sum, { shape, dtype }) => sum + shape.reduce((a, b) => a * b, 1) * dtypeBytes(dtype),
    0,
  );
}

/** A matrix in NF4, on its device. NaN is not kept: whoever quantises looks for it before. */
export function quantiseNf4(weight: Tensor, { doubleQuantised }: Nf4Form): Nf4Parts {
  const code = onDevice(NF4_CODE, weight.device);
  const [packed, absmax] = weight.nf4Quantise(code);
  if (!doubleQuantised) return { packed, absmax, code };
  const nestedCode = onDevice(DYNAMIC_CODE, weight.device);
  const [bytes, nested, offset] = nf4QuantiseScales(absmax, nestedCode);
  return { packed, absmax: bytes, code, nested, nestedCode, offset };
}

/** Fills a tensor with the weights: `code · scale` in fp32, rounded to the type that they had, and to that of the tensor. */
export function dequantiseNf4(parts: Nf4Parts, into: Tensor, type: DType = into.dtype): Tensor {
  return into.nf4Dequantise_(...inOrder(parts), { type });
}

/** As the operators take them. */
function inOrder({ packed, absmax, code, nested, nestedCode, offset }: Nf4Parts) {
  return [packed, absmax, code, nested ?? null, nestedCode ?? null, offset ?? null] as const;
}

function onDevice(values: Float32Array, device: Device): Tensor {
  return fromTypedArray(values, [values.length], 'float32').to(device);
}

/** The form as layers keep it. */
export class Nf4 implements QuantisedForm<Nf4Parts>, Nf4Form {
  readonly dtype = 'nf4';
  readonly leaves = NF4_LEAVES;
  readonly doubleQuantised: boolean;
  readonly type: DType | undefined;

  constructor({ doubleQuantised, type }: Nf4Form) {
    this.doubleQuantised = doubleQuantised;
    this.type = type;
  }

  shapes([rows, columns]: readonly [number, number]): ReadonlyMap<Nf4Part, PartForm> {
    return nf4Shapes(rows * columns, this);
  }

  quantise(weight: Tensor): Nf4Parts {
    return quantiseNf4(weight, this);
  }

  denseInto(parts: Nf4Parts, into: Tensor): void {
    dequantiseNf4(parts, into, this.type);
  }

  weight(shape: readonly [number, number], dtype: DType, parts: () => Nf4Parts): Nf4Weight {
    return new Nf4Weight(shape, dtype, this, parts);
  }
}

/** A frozen weight in NF4: made dense for each product, in one tensor that goes when it is done. */
export class Nf4Weight implements Weight {
  /**
   * @param parts gives the parameters of the module that owns them
   * @param dtype of products
   */
  constructor(
    readonly shape: readonly [number, number],
    readonly dtype: DType,
    readonly form: Nf4,
    private readonly parts: () => Nf4Parts,
  ) {}

  get bytes(): number {
    return nf4Bytes(this.shape[0] * this.shape[1], this.form);
  }

  product(x: Tensor, bias?: Tensor): Tensor {
    const { type = this.dtype } = this.form;
    return x.nf4Linear(this.shape[0], bias ?? null, ...inOrder(this.parts()), { type });
  }

  inputProduct(g: Tensor): Tensor {
    const dense = this.dense();
    const product = g.matmul(dense);
    dense.dispose();
    return product;
  }

  dense(): Tensor {
    const { device } = this.parts().packed;
    const dense = empty(this.shape, { dtype: this.dtype, device });
    this.denseInto(dense);
    return dense;
  }

  denseInto(rows: Tensor): void {
    this.form.denseInto(this.parts(), rows);
  }
}

/** Quantiles of the normal distribution, as bitsandbytes has them. */
export const NF4_CODE = Float32Array.of(
  ...[-1, -0.6961928009986877, -0.5250730514526367, -0.39491748809814453],
  ...[-0.28444138169288635, -0.18477343022823334, -0.09105003625154495, 0],
  ...[0.07958029955625534, 0.16093020141124725, 0.24611230194568634, 0.33791524171829224],
  ...[0.44070982933044434, 0.5626170039176941, 0.7229568362236023, 1],
);

/**
 * The dynamic values of Dettmers 2016 ("8-bit approximations"), as bitsandbytes has them: for each power of ten from 1e-6 to 1 the
 * middles of twice as many equal intervals of 0.1 to 1 as for the one before, of either sign; 0; and 1.
 */
export const DYNAMIC_CODE = dynamicCode();

function dynamicCode(): Float32Array {
  const { fround } = Math;
  const half: number[] = [];
  for (let power = 0; power < 7; power++) {
    const intervals = 2 ** power;
    const step = fround(fround(1 - fround(0.1)) / intervals);
    // From whichever end is nearer, as torch's linspace does.
    const edge = (k: number): number =>
      fround(k < (intervals + 1) / 2 ? fround(0.1) + step * k : 1 - step * (intervals - k));
    for (let k = 0; k < intervals; k++) {
      const middle = fround(fround(edge(k) + edge(k + 1)) / 2);
      half.push(fround(fround(10 ** (power - 6)) * middle));
    }
  }
  return Float32Array.from([...half, ...half.map((value) => -value), 0, 1]).sort();
}
