/** `act(gate) ⊙ up` (Shazeer 2020) of gate and up side by side, with its backward by hand. */
import { enableGrad, grad, scope, type Tensor } from '../torch/index.js';
import { type Activation, silu } from './activations.js';
import { FP8, type Fp8Rows } from './fp8.js';
import type { AddedPair } from './projection.js';
import type { LowRankPart } from './projection-parts.js';

/** N: rows, F: features of the product. */
export interface Gated {
  /** Whether it takes what is still to be added to gate and up, and to the gradient of the product. */
  readonly adds: boolean;
  /** gate and up (N, 2 F) -> (N, F) */
  forward(gateUpN2F: Tensor, added: AddedPair | null): Tensor;
  /** The same, and its rows in fp8. */
  forwardFp8(gateUpN2F: Tensor, added: AddedPair | null): readonly [Tensor, Fp8Rows];
  /** Overwrites gate and up with their gradients, for that of the product, which becomes the product. */
  backward_(
    gateUpN2F: Tensor,
    gNF: Tensor,
    added: AddedPair | null,
    apart: LowRankPart | null,
  ): void;
}

export function gated(act: Activation): Gated {
  return act === silu ? SWIGLU : recorded(act);
}

const SWIGLU: Gated = {
  adds: true,
  forward: (gateUp, added) =>
    added === null
      ? gateUp.swiglu()
      : gateUp.swigluLowRank(...added.z, ...added.b, ...added.scaling),
  forwardFp8(gateUp, added) {
    if (added !== null) return quantised(SWIGLU.forward(gateUp, added));
    const [product, ...rows] = gateUp.swigluFp8();
    return [product, rows];
  },
  backward_(gateUp, g, added, apart) {
    if (added === null) gateUp.swigluBackward_(g);
    else {
      const [dz, a] = [apart?.dz ?? null, apart?.a ?? null];
      gateUp.swigluLowRankBackward_(g, ...added.z, ...added.b, ...added.scaling, dz, a);
    }
  },
};

const quantised = (product: Tensor): readonly [Tensor, Fp8Rows] => [
  product,
  product.quantiseRowsFp8(null, FP8),
];

/** By autograd. */
function recorded(act: Activation): Gated {
  const forward = (gateUp: Tensor): Tensor => {
    const F = gateUp.shape[1]! / 2;
    return scope(() => act(gateUp.narrow(1, 0, F)).mul(gateUp.narrow(1, F, F)));
  };
  return {
    adds: false,
    forward,
    forwardFp8: (gateUp) => quantised(forward(gateUp)),
    backward_: (gateUp, g) => {
      scope(() => {
        const leaf = gateUp.detach().requiresGrad_();
        const product = enableGrad(() => forward(leaf));
        const [gradient] = grad([product], [leaf], [g]);
        gateUp.copy_(gradient!);
        g.copy_(product.detach());
      });
    },
  };
}
