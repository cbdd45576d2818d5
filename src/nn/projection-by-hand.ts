/**
 * Linear layers that share their input, by hand: one product where their weights lie side by side, and adapters added into its result.
 *
 * ```
 * y = x Wᵀ + b + s z Bᵀ         z = d Aᵀ, d = drop(x)
 * dx = g W + drop(dz A)         dz = s g B,  dA = dzᵀ d,  dB = s gᵀ z,  dW = gᵀ x,  db = Σ g
 * ```
 *
 * N: rows, I: input features, O: output features of all layers together, R: ranks of all adapters together.
 */
import { empty, project, projectBackward, scope, type Tensor } from '../torch/index.js';
import { type AdapterGroup, adapterGroups } from './adapter-group.js';
import type { Linear } from './linear.js';
import type { ParameterGradients } from './parameter-gradients.js';
import {
  type Drop,
  eachColumns,
  type LowRankPart,
  type ProjectionBackward,
  joinColumns,
} from './projection-parts.js';
import { DenseWeight } from './weight.js';

/** `z` of each group of adapters (N, R), in their dtype. */
export type LowRank = readonly Tensor[];

/**
 * @param target what the result is added to, in place (N, O)
 * @param leavesApart whether what adapters add is left to others: `s z Bᵀ` of each
 */
export function forwardByHand(
  linears: readonly Linear[],
  xNI: Tensor,
  drops: readonly Drop[],
  target?: Tensor,
  leavesApart = false,
): { output: Tensor; low: LowRank } {
  const groups = adapterGroups(linears, drops);
  const low = groups.map((group) => group.product(xNI));
  const output = product(linears, xNI, target);
  if (!leavesApart) {
    groups.forEach((group, i) => {
      group.addTo(output, low[i]!);
    });
  }
  return { output, low };
}

export class BackwardByHand implements ProjectionBackward {
  private readonly groups: readonly AdapterGroup[];
  /** `dz` of each group (N, R). */
  private readonly dz: readonly Tensor[];

  constructor(
    private readonly linears: readonly Linear[],
    private readonly gNO: Tensor,
    drops: readonly Drop[],
    private readonly low: LowRank | undefined,
  ) {
    this.groups = adapterGroups(linears, drops);
    this.dz = this.groups.map((group) => group.backward(gNO));
  }

  /** Of one adapter that drops nothing. */
  get apart(): LowRankPart | null {
    const a = this.linears.length === 1 ? this.groups[0]?.plain : null;
    return a == null ? null : { dz: this.dz[0]!, a };
  }

  input(_x: () => Tensor, leavesApart = false): Tensor {
    return scope(() => {
      const dxNI = inputProduct(this.linears, this.gNO);
      if (leavesApart && this.apart !== null) return dxNI;
      this.groups.forEach((group, i) => {
        group.addInput(dxNI, this.dz[i]!);
      });
      return dxNI;
    });
  }

  parameters(xNI: Tensor, gradients: ParameterGradients): void {
    const { groups, gNO: g, dz, low } = this;
    scope(() => {
      this.weights(xNI, gradients);
      groups.forEach((group, i) => {
        const z = low?.[i] ?? group.product(xNI);
        group.parameters({ x: xNI, g, z, dz: dz[i]! }, gradients);
      });
      return gradients.apart;
    });
  }

  /** `dW = gᵀ x` and `db = Σ g`. */
  private weights(xNI: Tensor, gradients: ParameterGradients): void {
    const { linears, gNO } = this;
    const weights = weightsOf(linears);
    if (weights !== null) {
      gradients.addProduct(weights, gNO, xNI);
    } else {
      eachColumns(linears, gNO, (layer, g) => {
        const weight = denseOf(layer);
        if (weight !== undefined) gradients.addProduct([weight], g, xNI);
      });
    }
    if (!linears.some(({ bias }) => bias?.requiresGrad)) return;
    eachColumns(linears, gNO.sum([0], true), ({ bias }, sum) => {
      if (bias !== undefined) gradients.add(bias, sum.squeeze(0));
    });
  }
}

/** `x Wᵀ + b`, side by side. */
function product(linears: readonly Linear[], xNI: Tensor, target: Tensor | undefined): Tensor {
  return scope(() => {
    const matrices = matricesOf(linears);
    if (matrices === null) {
      const result = joinColumns(linears.map(({ base, bias }) => base.product(xNI, bias)));
      return target?.add_(result) ?? result;
    }
    const biases = linears.map(({ bias }) => bias ?? null);
    return target?.projectAdd_(xNI, matrices, biases) ?? project(xNI, matrices, biases);
  });
}

/** `g W`, summed over the layers. */
function inputProduct(linears: readonly Linear[], gNO: Tensor): Tensor {
  return scope(() => {
    const matrices = matricesOf(linears);
    if (matrices !== null) return projectBackward(gNO, matrices);
    return eachColumns(linears, gNO, ({ base }, g) => base.inputProduct(g)).reduce((sum, each) =>
      sum.add_(each),
    );
  });
}

/** The weights of all layers; `null` where one has another form than a parameter. */
function weightsOf(linears: readonly Linear[]): readonly Tensor[] | null {
  const weights = linears.flatMap((layer) => denseOf(layer) ?? []);
  return weights.length === linears.length ? weights : null;
}

/** What all layers multiply by: their weights, or these made dense for the purpose; `null` where some are neither. */
export function matricesOf(linears: readonly Linear[]): readonly Tensor[] | null {
  const makes = linears.every(({ base }) => base.denseInto !== undefined);
  return makes ? madeDense(linears) : weightsOf(linears);
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

/** The weight of a layer, where it is a parameter. */
export function denseOf(layer: Linear): Tensor | undefined {
  return layer.base instanceof DenseWeight ? layer.weight : undefined;
}
