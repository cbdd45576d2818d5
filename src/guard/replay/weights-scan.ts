/** Which weights, and which numbers of the optimizer, are not finite; and which words have an embedding unlike all others. */

import { median } from '../../base/median.js';
import { drive, walk, type Steps } from '../../models/index.js';
import { isFloating, noGrad, scope, type Tensor } from '../../torch/index.js';
import type { Scene } from '../../train/index.js';
import { isFinite } from './forward-probe.js';

export interface WeightsScan {
  /** Parameters with elements that are not finite. */
  readonly weights: readonly string[];
  /** The same of the optimizer's moments and masters on this rank. */
  readonly states: readonly string[];
  /** Root mean square of the matrices that train; of sharded ones too. */
  readonly rms: number;
  /** Words whose row is many times as long as others', or as good as nothing: id and length, in medians of all rows. */
  readonly wild: ReadonlyMap<number, number>;
}

/** A row so many times as long as the median one, or as short, is not one that was trained. */
const WILD = 100;
const NOTHING = 1e-3;

/** All ranks call it. */
export function scanWeights(scene: Pick<Scene, 'model' | 'setup'>): Promise<WeightsScan> {
  return drive(scan(scene));
}

function* scan({ model, setup }: Pick<Scene, 'model' | 'setup'>): Steps<WeightsScan> {
  const weights = new Set<string>();
  let [squares, count] = [0, 0];
  let wild: ReadonlyMap<number, number> = new Map();
  const all = [...model.segments, model.head];
  yield* walk(all, { phase: 'forward', residency: setup.store }, (segment) => {
    for (const [name, parameter] of segment.parameters()) {
      if (isFloating(parameter.dtype) && !isFinite(parameter)) weights.add(name);
      if (parameter.requiresGrad && parameter.shape.length > 1) {
        squares += squaresOf(parameter);
        count += parameter.numel;
      }
      if (name.endsWith('embed_tokens.weight')) wild = wildRows(parameter);
    }
  });
  const states = setup.store
    .state()
    .filter(({ tensor }) => isFloating(tensor.dtype) && tensor.numel > 0 && !isFinite(tensor))
    .map(({ name }) => name);
  return { weights: [...weights], states, rms: Math.sqrt(squares / Math.max(1, count)), wild };
}

function squaresOf(parameter: Tensor): number {
  return noGrad(() =>
    scope(() => {
      const detached = parameter.detach();
      const norm = detached.linalgVectorNorm(2, null, false, { dtype: 'float32' }).item();
      if (Number.isFinite(norm)) return norm ** 2;
      // Weights that a step has made so large that their squares leave the range.
      return detached.abs().amax([]).item() ** 2 * parameter.numel;
    }),
  );
}

function wildRows(embeddings: Tensor): Map<number, number> {
  if (!isFloating(embeddings.dtype)) return new Map();
  // By the largest element: a sum of squares may leave the range.
  const lengths = noGrad(() =>
    scope(() => embeddings.detach().to('float32').abs().amax([-1]).toTypedArray()),
  ) as Float32Array;
  const middle = median(Array.from(lengths).filter((each) => Number.isFinite(each)));
  const wild = new Map<number, number>();
  lengths.forEach((length, id) => {
    const times = length / middle;
    if (!(times <= WILD && times >= NOTHING)) wild.set(id, times);
  });
  return wild;
}
