/**
 * Low-rank adapters of a linear layer: LoRA (Hu et al. 2021), rsLoRA (Kalajdzievski 2023), DoRA (Liu et al. 2024), with
 * PEFT's parameter names and semantics.
 *
 * LoRA: `y = x Wᵀ + b + s · dropout(x) Aᵀ Bᵀ`, with s = alpha / rank, or alpha / √rank for rsLoRA.
 * DoRA: the rows of `W + s B A` are scaled to the learnt magnitudes m; their norm is a constant to the gradient (§4.3).
 */
import { UsageError } from '../base/errors.js';
import { type DType, linear, noGrad, scope, type Tensor } from '../torch/index.js';
import { dropout, type DropoutMasks } from './dropout.js';
import { uniform, allZeros } from './initializers.js';
import { Module } from './module.js';
import type { Weight } from './weight.js';

export interface LoraOptions {
  /** Rank of the product B A. */
  rank: number;
  /** Numerator of the scaling. */
  alpha: number;
  /** Probability with which an input element is dropped while training. @default 0 */
  dropout?: number;
  /** Divide alpha by √rank instead of rank. @default false */
  rsLora?: boolean;
  /** Learn the magnitude of each row apart (DoRA). @default false */
  dora?: boolean;
  /** Of the adapter's parameters; its products are computed in it. @default 'float32' */
  dtype?: DType;
}

/** The layer that an adapter stands beside. */
export interface LoraHost {
  readonly inFeatures: number;
  readonly outFeatures: number;
  readonly base: Weight;
  readonly bias: Tensor | undefined;
}

/** Parameters `lora_A.weight` (rank, in), `lora_B.weight` (out, rank) and, for DoRA, `lora_magnitude_vector` (out). */
export class LoraAdapter extends Module {
  readonly #host: LoraHost;
  /** May change; 0 for an adapter that does not train. */
  dropout: number;
  readonly dora: boolean;
  readonly rsLora: boolean;
  /** The factor s of the product B A. */
  readonly scaling: number;

  constructor(
    host: LoraHost,
    { rank, alpha, dropout = 0, rsLora = false, dora = false, dtype = 'float32' }: LoraOptions,
  ) {
    super();
    if (!Number.isSafeInteger(rank) || rank < 1 || !(dropout >= 0 && dropout < 1)) {
      throw new UsageError(`An adapter cannot have rank ${rank} and dropout ${dropout}.`, {
        code: 'E_LORA',
        hint: 'Give a whole rank of at least 1 and a dropout from 0 to below 1.',
      });
    }
    this.#host = host;
    this.dropout = dropout;
    this.dora = dora;
    this.rsLora = rsLora;
    this.scaling = alpha / (rsLora ? Math.sqrt(rank) : rank);
    const { inFeatures, outFeatures } = host;
    this.addParameter(
      'lora_A.weight',
      [rank, inFeatures],
      dtype,
      uniform(1 / Math.sqrt(inFeatures)),
    );
    this.addParameter('lora_B.weight', [outFeatures, rank], dtype, allZeros);
    if (dora) {
      this.addParameter('lora_magnitude_vector', [outFeatures], dtype, (magnitude) => {
        noGrad(() => scope(() => void magnitude.copy_(this.#rowNorm())));
      });
    }
  }

  get rank(): number {
    return this.a.shape[0]!;
  }

  get a(): Tensor {
    return this.parameter('lora_A.weight');
  }

  get b(): Tensor {
    return this.parameter('lora_B.weight');
  }

  get magnitude(): Tensor {
    return this.parameter('lora_magnitude_vector');
  }

  /** The adapted layer: x (..., in) -> (..., out), in the dtype of x. */
  forward(x: Tensor, masks?: DropoutMasks): Tensor {
    return scope(() => {
      const { base, bias } = this.#host;
      const s = this.scaling;
      const dropped = dropout(x, this.dropout, masks);
      const product = linear(linear(dropped.to(this.a.dtype), this.a), this.b);
      // In place: what the sum overwrites is saved for no gradient.
      if (!this.dora) return base.product(x, bias).add_(product, { alpha: s });
      const scale = this.magnitude.div(this.#rowNorm());
      const plain = base.product(dropped);
      const scaled = plain.add(product, { alpha: s }).mul(scale);
      // PEFT drops the input of the change that DoRA makes to the layer, not of the layer itself.
      if (dropped !== x) return base.product(x, bias).add(scaled.sub(plain)).to(x.dtype);
      return (bias === undefined ? scaled : scaled.add(bias)).to(x.dtype);
    });
  }

  /** The weight with the adapter folded in, computed in fp32: `W + s B A`, for DoRA its rows scaled to the magnitudes. */
  merged(): Tensor {
    return noGrad(() =>
      scope(() => {
        const weight = this.#host.base.dense();
        const [w, a, b] = [weight, this.a, this.b].map((t) => t.to('float32')) as [
          Tensor,
          Tensor,
          Tensor,
        ];
        const sum = w.add(b.matmul(a), { alpha: this.scaling });
        if (!this.dora) return sum.to(weight.dtype);
        const norm = sum.linalgVectorNorm(2, [1], true);
        return sum.mul(this.magnitude.to('float32').unsqueeze(1).div(norm)).to(weight.dtype);
      }),
    );
  }

  /**
   * Norms of the rows of `W + s B A` in fp32, (out), without making that matrix:
   * `‖w + s b A‖² = ‖w‖² + b · (2 s A w + s² A Aᵀ b)`.
   */
  #rowNorm(): Tensor {
    return noGrad(() =>
      scope(() => {
        const weight = this.#host.base.dense();
        const [a, b] = [this.a.to('float32'), this.b.to('float32')];
        const square = weight.linalgVectorNorm(2, [1], false, { dtype: 'float32' }).square();
        const cross = linear(weight, this.a.to(weight.dtype))
          .to('float32')
          .mul(2 * this.scaling);
        const own = b.matmul(linear(a, a)).mul(this.scaling ** 2);
        return square.add(b.mul(cross.add(own)).sum([1])).sqrt();
      }),
    );
  }
}
