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
import { scope, type Tensor } from '../torch/index.js';
import { type AdapterGroup, adapterGroups } from './adapter-group.js';
import type { Fp8Rows } from './fp8.js';
import { denseOf, jointProducts, weightsOf } from './joint-products.js';
import type { Linear } from './linear.js';
import type { ParameterGradients } from './parameter-gradients.js';
import {
  type Drop,
  eachColumns,
  type LowRankPart,
  type ProjectionBackward,
  joinColumns,
} from './projection-parts.js';

/** `z` of each group of adapters (N, R), in their dtype. */
export type LowRank = readonly Tensor[];

export interface ByHandOptions {
  /** What the result is added to, in place (N, O). */
  readonly target?: Tensor | undefined;
  /** The input in fp8, where it was quantised already. */
  readonly rows?: Fp8Rows | undefined;
  /** Whether what adapters add is left to others: `s z Bᵀ` of each. @default false */
  readonly leavesApart?: boolean;
}

export function forwardByHand(
  linears: readonly Linear[],
  xNI: Tensor,
  drops: readonly Drop[],
  options: ByHandOptions = {},
): { output: Tensor; low: LowRank } {
  const groups = adapterGroups(linears, drops);
  const low = groups.map((group) => group.product(xNI));
  const output = product(linears, xNI, options);
  if (options.leavesApart !== true) {
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
function product(linears: readonly Linear[], xNI: Tensor, options: ByHandOptions): Tensor {
  const { target, rows } = options;
  return scope(() => {
    const joint = jointProducts(linears);
    if (joint !== null) return joint.product(xNI, target, rows);
    const result = joinColumns(linears.map(({ base, bias }) => base.product(xNI, bias)));
    return target?.add_(result) ?? result;
  });
}

/** `g W`, summed over the layers. */
function inputProduct(linears: readonly Linear[], gNO: Tensor): Tensor {
  return scope(() => {
    const joint = jointProducts(linears);
    if (joint !== null) return joint.inputProduct(gNO);
    return eachColumns(linears, gNO, ({ base }, g) => base.inputProduct(g)).reduce((sum, each) =>
      sum.add_(each),
    );
  });
}
