/** What the two forms of a projection share: one that is written by hand, and one that autograd records. */
import { cat, type Tensor } from '../torch/index.js';
import type { Dropout } from './dropout.js';
import type { Linear } from './linear.js';

/** What a layer's adapter does to its input; `null` leaves it as it is. */
export type Drop = Dropout | null;

/** Gradients by their parameters. */
export type ParameterGradients = Map<Tensor, Tensor>;

/** A low-rank product dz A that is still to be added to a gradient. */
export interface LowRankPart {
  /** (N, rank) */
  readonly dz: Tensor;
  /** (rank, I) */
  readonly a: Tensor;
}

/** The backward of one call, for a gradient of its result. */
export interface ProjectionBackward {
  /** What `input` can leave to others to add; `null` where it leaves nothing. */
  readonly apart: LowRankPart | null;
  /**
   * Gradient of the input (N, I); what needs the input for it asks for it.
   *
   * @param leavesApart whether what is `apart` is left out
   */
  input(x: () => Tensor, leavesApart?: boolean): Tensor;
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
