/** What the two forms of a projection share: one that is written by hand, and one that autograd records. */
import { cat, type Tensor } from '../torch/index.js';
import type { Dropout } from './dropout.js';
import type { Linear } from './linear.js';
import type { ParameterGradients } from './parameter-gradients.js';

/** What a layer's adapter does to its input; `null` leaves it as it is. */
export type Drop = Dropout | null;

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
export function joinColumns(results: readonly Tensor[]): Tensor {
  return results.length === 1 ? results[0]! : cat(results, 1);
}

/** Visits each layer with its own columns of a result or of its gradient. */
export function eachColumns<T>(
  linears: readonly Linear[],
  together: Tensor,
  visit: (layer: Linear, own: Tensor, index: number) => T,
): T[] {
  if (linears.length === 1) return [visit(linears[0]!, together, 0)];
  const sizes = linears.map(({ outFeatures }) => outFeatures);
  const parts = together.splitWithSizes(sizes, 1);
  return linears.map((layer, i) => visit(layer, parts[i]!, i));
}
