/**
 * Products with the weights of layers that share their input, as one: parameters that lie side by side, weights that are made dense one
 * above the other for the purpose, or weights in fp8.
 *
 * N: rows, I: input features, O: output features of all layers together.
 */
import { empty, project, projectBackward, type Tensor } from '../torch/index.js';
import { fp8InputProduct, fp8Product, type Fp8Rows, Fp8Weight } from './fp8.js';
import type { Linear } from './linear.js';
import { DenseWeight } from './weight.js';

export interface JointProducts {
  /**
   * `x Wᵀ + b`: (..., I) -> (..., O)
   *
   * @param target what it is added to, in place
   * @param rows x in fp8, where it was quantised already
   */
  product(x: Tensor, target?: Tensor, rows?: Fp8Rows): Tensor;
  /** `g W`: (N, O) -> (N, I) */
  inputProduct(gNO: Tensor): Tensor;
}

/** `null` where the weights are of several kinds. */
export function jointProducts(linears: readonly Linear[]): JointProducts | null {
  const fp8 = fp8Of(linears);
  if (fp8 !== null) return new Fp8Products(linears, fp8);
  const makes = linears.every(({ base }) => base.denseInto !== undefined);
  const matrices = makes ? madeDense(linears) : weightsOf(linears);
  return matrices && new MatrixProducts(linears, matrices);
}

/** The weights of all layers; `null` where one has another form than a parameter. */
export function weightsOf(linears: readonly Linear[]): readonly Tensor[] | null {
  const weights = linears.flatMap((layer) => denseOf(layer) ?? []);
  return weights.length === linears.length ? weights : null;
}

/** The weight of a layer, where it is a parameter. */
export function denseOf(layer: Linear): Tensor | undefined {
  return layer.base instanceof DenseWeight ? layer.weight : undefined;
}

/** The weights of all layers; `null` where one is not in fp8. */
export function fp8Of(linears: readonly Linear[]): readonly Fp8Weight[] | null {
  const weights = linears.flatMap(({ base }) => (base instanceof Fp8Weight ? base : []));
  return weights.length === linears.length ? weights : null;
}

const biasesOf = (linears: readonly Linear[]): (Tensor | null)[] =>
  linears.map(({ bias }) => bias ?? null);

class MatrixProducts implements JointProducts {
  constructor(
    private readonly linears: readonly Linear[],
    private readonly matrices: readonly Tensor[],
  ) {}

  product(x: Tensor, target?: Tensor): Tensor {
    const biases = biasesOf(this.linears);
    return target?.projectAdd_(x, this.matrices, biases) ?? project(x, this.matrices, biases);
  }

  inputProduct(gNO: Tensor): Tensor {
    return projectBackward(gNO, this.matrices);
  }
}

class Fp8Products implements JointProducts {
  constructor(
    private readonly linears: readonly Linear[],
    private readonly weights: readonly Fp8Weight[],
  ) {}

  product(x: Tensor, target?: Tensor, rows?: Fp8Rows): Tensor {
    const product = fp8Product(this.weights, x, biasesOf(this.linears), rows);
    return target?.add_(product) ?? product;
  }

  inputProduct(gNO: Tensor): Tensor {
    return fp8InputProduct(this.weights, gNO);
  }
}

/** The weights of all layers, made dense one above the other. */
function madeDense(linears: readonly Linear[]): readonly Tensor[] {
  const [{ inFeatures, base, weight }] = linears as [Linear, ...Linear[]];
  const sizes = linears.map(({ outFeatures }) => outFeatures);
  const rows = sizes.reduce((sum, size) => sum + size, 0);
  const together = empty([rows, inFeatures], { dtype: base.dtype, device: weight.device });
  const matrices = together.splitWithSizes(sizes, 0);
  linears.forEach((layer, i) => layer.base.denseInto!(matrices[i]!));
  return matrices;
}
