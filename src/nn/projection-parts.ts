/** What the two forms of a projection share: one that is written by hand, and one that autograd records. */
import { cat, type Tensor } from '../torch/index.js';
import type { Linear } from './linear.js';

/** Zeroes some elements and scales the others, the same at every call: linear, and its own adjoint. `null` leaves all as they are. */
export type Drop = ((x: Tensor) => Tensor) | null;

/** Gradients by their parameters. */
export type ParameterGradients = Map<Tensor, Tensor>;

/** The backward of one call, for a gradient of its result. */
export interface ProjectionBackward {
  /** Gradient of the input (N, I); what needs the input for it asks for it. */
  input(x: () => Tensor): Tensor;
  /** Adds the gradients of the parameters that train. */
  parameters(xNI: Tensor, gradients: ParameterGradients): void;
}

/** Results of layers in one tensor (N, O). */
export function sideBySide(results: readonly Tensor[]): Tensor {
  return results.length === 1 ? results[0]! : cat(results, 1);
}

/** Visits each layer with its own columns of a result or of its gradient. */
export function eachColumns<T>(
  linears: readonly Linear[],
  together: Tensor,
  visit: (layer: Linear, own: Tensor, index: number) => T,
): T[] {
  return eachPart(linears, together, 1, visit);
}

/** Visits each layer with its own rows of a gradient of all weights. */
export function eachRows(
  linears: readonly Linear[],
  together: Tensor,
  visit: (layer: Linear, own: Tensor) => void,
): void {
  eachPart(linears, together, 0, visit);
}

function eachPart<T>(
  linears: readonly Linear[],
  together: Tensor,
  dim: number,
  visit: (layer: Linear, own: Tensor, index: number) => T,
): T[] {
  let start = 0;
  return linears.map((layer, i) => {
    const { outFeatures } = layer;
    const own = linears.length === 1 ? together : together.narrow(dim, start, outFeatures);
    start += outFeatures;
    return visit(layer, own, i);
  });
}
