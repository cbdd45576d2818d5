/**
 * Linear layers that share their input where one of them has no backward by hand (DoRA): each is recorded and differentiated by
 * autograd, in its backward, so that nothing of it is kept in between.
 */
import { cat, enableGrad, grad, scope, type Tensor } from '../torch/index.js';
import type { Linear } from './linear.js';
import {
  type Drop,
  eachColumns,
  type ParameterGradients,
  type ProjectionBackward,
} from './projection.js';

/** What the layers give, side by side. */
export function recordedForward(
  linears: readonly Linear[],
  xNI: Tensor,
  drops: readonly Drop[],
): Tensor {
  const results = linears.map((layer, i) => layer.apply(xNI, drops[i]?.(xNI) ?? xNI));
  return results.length === 1 ? results[0]! : cat(results, 1);
}

export class RecordedBackward implements ProjectionBackward {
  private readonly own: ParameterGradients = new Map();
  private isDone = false;

  constructor(
    private readonly linears: readonly Linear[],
    private readonly gNO: Tensor,
    private readonly drops: readonly Drop[],
  ) {}

  input(x: () => Tensor): Tensor {
    const given = x(); // outside of the scope: it may be the caller's to keep
    return scope(() => {
      const xNI = given.detach().requiresGrad_();
      const inputs = eachColumns(this.linears, this.gNO, (layer, g, i) => {
        const y = enableGrad(() => layer.apply(xNI, this.drops[i]?.(xNI) ?? xNI));
        const trained = layer.parameters().filter((each) => each.requiresGrad);
        const [input, ...gradients] = grad([y], [xNI, ...trained], [g]);
        trained.forEach((parameter, k) => this.own.set(parameter, gradients[k]!));
        return input!;
      });
      this.isDone = true;
      return [inputs.reduce((sum, each) => sum.add_(each)), this.own] as const;
    })[0];
  }

  parameters(xNI: Tensor, gradients: ParameterGradients): void {
    if (!this.isDone) this.input(() => xNI).dispose();
    for (const [parameter, gradient] of this.own) gradients.set(parameter, gradient);
  }
}
