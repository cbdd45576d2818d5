/**
 * The matrix W (outFeatures, inFeatures) of a linear layer, behind what a layer and its adapter ask of it, so that a form of fewer
 * bits is another class.
 *
 * A weight keeps no derived copy: it reads its tensors at every call, since their storage may be freed and refilled in between.
 */
import { type DType, linear, type Tensor } from '../torch/index.js';
import type { QuantisedForm } from './quantised-form.js';

export interface Weight {
  /** (outFeatures, inFeatures) */
  readonly shape: readonly number[];
  /** Of products, and of the dense form. */
  readonly dtype: DType;
  /** Memory that it takes as it is stored. */
  readonly bytes: number;
  /** Of fewer bits, in which it is kept. */
  readonly form?: QuantisedForm;
  /** Tensors of which row i is of row i of W, which may lie side by side with those of other layers. */
  readonly rowParts?: readonly Tensor[];
  /** `x Wᵀ + b`: x (..., inFeatures) -> (..., outFeatures) */
  product(x: Tensor, bias?: Tensor): Tensor;
  /** The gradient of x for that of the product, `g W`: (..., outFeatures) -> (..., inFeatures) */
  inputProduct(g: Tensor): Tensor;
  /** W as one tensor, for reading alone. */
  dense(): Tensor;
  /** Fills `rows` with W, where a product has to make it dense first. */
  denseInto?(rows: Tensor): void;
}

/** A weight that is a parameter. */
export class DenseWeight implements Weight {
  /** @param read gives the parameter of the module that owns it */
  constructor(private readonly read: () => Tensor) {}

  get shape(): readonly number[] {
    return this.read().shape;
  }

  get dtype(): DType {
    return this.read().dtype;
  }

  get bytes(): number {
    return this.read().bytes;
  }

  get rowParts(): readonly Tensor[] {
    return [this.read()];
  }

  product(x: Tensor, bias?: Tensor): Tensor {
    return linear(x, this.read(), bias);
  }

  inputProduct(g: Tensor): Tensor {
    return g.matmul(this.read());
  }

  dense(): Tensor {
    return this.read();
  }
}
