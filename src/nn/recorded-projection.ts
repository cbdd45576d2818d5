/**
 * Linear layers that share their input where one of them has no backward by hand (DoRA): each is recorded and differentiated by
 * autograd, from the graph of its forward where that was kept, else from one that is recorded again.
 */
import { enableGrad, grad, noGrad, scope, type Tensor } from '../torch/index.js';
import type { Linear } from './linear.js';
import type { ParameterGradients } from './parameter-gradients.js';
import { type Drop, eachColumns, type ProjectionBackward } from './projection-parts.js';

/** Where the graphs begin, and the results of the layers, where they end. */
export interface Recorded {
  readonly input: Tensor;
  readonly results: readonly Tensor[];
}

/** Runs the layers, with graphs or without. */
export function record(
  linears: readonly Linear[],
  xNI: Tensor,
  drops: readonly Drop[],
  records: boolean,
): Recorded {
  return scope(() => {
    const input = xNI.detach().requiresGrad_(records);
    const run = (layer: Linear, i: number): Tensor =>
      layer.apply(input, drops[i]?.apply(input) ?? input);
    const results = (records ? enableGrad : noGrad)(() => linears.map(run));
    return { input, results };
  });
}

export class RecordedBackward implements ProjectionBackward {
  readonly apart = null;
  private readonly own = new Map<Tensor, Tensor>();
  private isDone = false;

  constructor(
    private readonly linears: readonly Linear[],
    private readonly gNO: Tensor,
    private readonly drops: readonly Drop[],
    private readonly recorded: Recorded | undefined,
  ) {}

  input(x: () => Tensor): Tensor {
    const { linears, gNO, drops, own } = this;
    const given = this.recorded === undefined ? x() : null; // outside of the scope: it may be the caller's to keep
    return scope(() => {
      const { input, results } = this.recorded ?? record(linears, given!, drops, true);
      const inputs = eachColumns(linears, gNO, (layer, g, i) => {
        const trained = layer.parameters().filter((each) => each.requiresGrad);
        const [ofInput, ...gradients] = grad([results[i]!], [input, ...trained], [g]);
        trained.forEach((parameter, k) => own.set(parameter, gradients[k]!));
        return ofInput!;
      });
      this.isDone = true;
      return [inputs.reduce((sum, each) => sum.add_(each)), own] as const;
    })[0];
  }

  parameters(xNI: Tensor, gradients: ParameterGradients): void {
    if (!this.isDone) this.input(() => xNI).dispose();
    for (const [parameter, gradient] of this.own) gradients.add(parameter, gradient);
  }
}
