/** `act(gate) ⊙ up` (Shazeer 2020) of gate and up side by side, with its backward by hand. */
import { enableGrad, grad, scope, type Tensor } from '../torch/index.js';
import { type Activation, silu } from './activations.js';

/** N: rows, F: features of the product. */
export interface Gated {
  /** gate and up (N, 2 F) -> (N, F) */
  forward(gateUpN2F: Tensor): Tensor;
  /** Overwrites gate and up with their gradients, for that of the product, which becomes the product. */
  backward_(gateUpN2F: Tensor, gNF: Tensor): void;
}

export function gated(act: Activation): Gated {
  return act === silu ? SWIGLU : recorded(act);
}

const SWIGLU: Gated = {
  forward: (gateUp) => gateUp.swiglu(),
  backward_: (gateUp, g) => {
    gateUp.swigluBackward_(g);
  },
};

/** By autograd. */
function recorded(act: Activation): Gated {
  const forward = (gateUp: Tensor): Tensor => {
    const F = gateUp.shape[1]! / 2;
    return scope(() => act(gateUp.narrow(1, 0, F)).mul(gateUp.narrow(1, F, F)));
  };
  return {
    forward,
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
