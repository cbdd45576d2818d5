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
import { cat, empty, linear, scope, type Tensor } from '../torch/index.js';
import type { Linear } from './linear.js';
import {
  type Drop,
  eachColumns,
  eachRows,
  type LowRankPart,
  type ParameterGradients,
  type ProjectionBackward,
  sideBySide,
} from './projection-parts.js';
import { type SharedAdapters, sharedAdapters } from './shared-adapters.js';
import { asOne } from './side-by-side.js';
import { DenseWeight } from './weight.js';

/** `z` of each layer's adapter (N, rank), in the adapter's dtype; `null` where there is none. */
export type LowRank = readonly (Tensor | null)[];

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
  const low = lowRank(linears, xNI, drops);
  const output = product(linears, xNI, target);
  if (leavesApart) return { output, low };
  eachColumns(linears, output, ({ adapter }, own, i) => {
    if (adapter === undefined) return;
    addProduct(own, low[i]!, adapter.b.transpose(0, 1), adapter.scaling);
  });
  return { output, low };
}

export class BackwardByHand implements ProjectionBackward {
  /** All adapters as one, where they can be. */
  private readonly shared: SharedAdapters | null;
  /** `dz` of all adapters (N, R), where they are one. */
  private readonly together: Tensor | null;
  /** `dz` of each. */
  private readonly parts: LowRank;

  constructor(
    private readonly linears: readonly Linear[],
    private readonly gNO: Tensor,
    private readonly drops: readonly Drop[],
    private readonly low: LowRank | undefined,
  ) {
    this.shared = sharedAdapters(linears, drops);
    const ranks = linears.reduce((sum, { adapter }) => sum + (adapter?.rank ?? 0), 0);
    const { dtype, device } = gNO;
    this.together = this.shared && empty([gNO.shape[0]!, ranks], { dtype, device });
    let column = 0;
    this.parts = eachColumns(linears, gNO, ({ adapter }, g) => {
      if (adapter === undefined) return null;
      const { b, rank, scaling } = adapter;
      const own = this.together?.narrow(1, (column += rank) - rank, rank);
      return scaledProduct(g.to(b.dtype), b, scaling, own);
    });
  }

  /** Of one adapter that drops nothing. */
  get apart(): LowRankPart | null {
    const { adapter } = this.linears[0]!;
    const isAlone = this.linears.length === 1 && this.drops[0] === null;
    return isAlone && this.together !== null ? { dz: this.together, a: adapter!.a } : null;
  }

  input(_x: () => Tensor, leavesApart = false): Tensor {
    const { linears, drops, parts } = this;
    return scope(() => {
      const dxNI = inputProduct(linears, this.gNO);
      if (leavesApart && this.apart !== null) return dxNI;
      if (this.together !== null) {
        this.shared!.addInput(dxNI, this.together);
        return dxNI;
      }
      linears.forEach(({ adapter }, i) => {
        if (adapter === undefined) return;
        const drop = drops[i]!;
        if (drop === null) addProduct(dxNI, parts[i]!, adapter.a, 1);
        else scope(() => void dxNI.add_(drop.apply(parts[i]!.matmul(adapter.a))));
      });
      return dxNI;
    });
  }

  parameters(xNI: Tensor, gradients: ParameterGradients): void {
    scope(() => {
      this.weights(xNI, gradients);
      this.adapters(xNI, gradients, this.low ?? lowRank(this.linears, xNI, this.drops));
      return gradients;
    });
  }

  /** `dW = gᵀ x` and `db = Σ g`. */
  private weights(xNI: Tensor, gradients: ParameterGradients): void {
    const { linears, gNO } = this;
    const weights = linears.map((layer) => denseOf(layer)).filter((weight) => weight?.requiresGrad);
    if (weights.length === linears.length) {
      const together = gNO.transpose(0, 1).matmul(xNI);
      eachRows(linears, together, (layer, own) => gradients.set(layer.weight, own));
    }
    eachColumns(linears, gNO, (layer, g) => {
      if (layer.bias?.requiresGrad === true) gradients.set(layer.bias, g.sum([0]));
      const weight = denseOf(layer);
      if (weight?.requiresGrad !== true || gradients.has(weight)) return;
      gradients.set(weight, g.transpose(0, 1).matmul(xNI));
    });
  }

  /** `dA = dzᵀ d` and `dB = s gᵀ z`. */
  private adapters(xNI: Tensor, gradients: ParameterGradients, low: LowRank): void {
    const { linears, together, gNO, drops } = this;
    const isAsked = linears.some(({ adapter }) => adapter?.a.requiresGrad);
    const allOfA = together && isAsked ? this.shared!.gradients(together, xNI) : null;
    let row = 0;
    eachColumns(linears, gNO, ({ adapter }, g, i) => {
      if (adapter === undefined) return;
      const { a, b, rank, scaling } = adapter;
      if (b.requiresGrad) {
        gradients.set(b, scaledProduct(g.to(b.dtype).transpose(0, 1), low[i]!, scaling));
      }
      if (!a.requiresGrad) return;
      const own = allOfA?.narrow(0, (row += rank) - rank, rank);
      gradients.set(
        a,
        own ??
          scope(() => {
            const d = drops[i]?.apply(xNI) ?? xNI;
            return this.parts[i]!.transpose(0, 1).matmul(d.to(a.dtype));
          }),
      );
    });
  }
}

/** `x Wᵀ + b`, side by side. */
function product(linears: readonly Linear[], xNI: Tensor, target: Tensor | undefined): Tensor {
  const weight = allWeights(linears);
  const biases = linears.flatMap(({ bias }) => bias ?? []);
  if (weight === null || biases.length % linears.length !== 0) {
    const result = sideBySide(linears.map(({ base, bias }) => base.product(xNI, bias)));
    return target?.add_(result) ?? result;
  }
  const bias = biases.length < 2 ? biases[0] : cat(biases);
  if (target === undefined) return linear(xNI, weight, bias);
  target.addmm_(xNI, weight.transpose(0, 1));
  return bias === undefined ? target : target.add_(bias);
}

/** `g W`, summed over the layers. */
function inputProduct(linears: readonly Linear[], gNO: Tensor): Tensor {
  const weight = allWeights(linears);
  if (weight !== null) return gNO.matmul(weight);
  return eachColumns(linears, gNO, ({ base }, g) => base.inputProduct(g)).reduce((sum, each) =>
    sum.add_(each),
  );
}

/** `z = d Aᵀ` of each adapter. */
function lowRank(linears: readonly Linear[], xNI: Tensor, drops: readonly Drop[]): LowRank {
  const shared = sharedAdapters(linears, drops);
  if (shared === null) {
    return linears.map(({ adapter }, i) => {
      if (adapter === undefined) return null;
      return scope(() => linear((drops[i]?.apply(xNI) ?? xNI).to(adapter.a.dtype), adapter.a));
    });
  }
  const zNR = shared.product(xNI);
  let column = 0;
  return linears.map(({ adapter }) => {
    const { rank } = adapter!;
    return zNR.narrow(1, (column += rank) - rank, rank);
  });
}

/** All weights as one, where they lie so, or are made dense for the purpose. */
function allWeights(linears: readonly Linear[]): Tensor | null {
  if (linears.every(({ base }) => base.denseInto !== undefined)) return madeDense(linears);
  const weights = linears.flatMap((layer) => denseOf(layer) ?? []);
  return weights.length === linears.length ? asOne(weights) : null;
}

/** All weights side by side in one tensor. */
function madeDense(linears: readonly Linear[]): Tensor {
  const [{ inFeatures, base, weight }] = linears as [Linear, ...Linear[]];
  const rows = linears.reduce((sum, { outFeatures }) => sum + outFeatures, 0);
  const together = empty([rows, inFeatures], { dtype: base.dtype, device: weight.device });
  eachRows(linears, together, (layer, own) => layer.base.denseInto!(own));
  return together;
}

/** The weight of a layer, where it is a parameter. */
export function denseOf(layer: Linear): Tensor | undefined {
  return layer.base instanceof DenseWeight ? layer.weight : undefined;
}

/** `alpha a b`, into `target` where it is given. */
function scaledProduct(a: Tensor, b: Tensor, alpha: number, target?: Tensor): Tensor {
  const { dtype, device } = a;
  const result = target ?? empty([a.shape[0]!, b.shape[1]!], { dtype, device });
  return result.addmm_(a, b, { beta: 0, alpha });
}

/** Adds `alpha a b`, which may be of another dtype. */
function addProduct(target: Tensor, a: Tensor, b: Tensor, alpha: number): void {
  if (a.dtype === target.dtype) target.addmm_(a, b, { alpha });
  else scope(() => void target.add_(a.matmul(b), { alpha }));
}
