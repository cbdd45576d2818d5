/** The update of a run that took most memory, by what its micro-batches were made of: what a prediction is made for. */

import type { LoadedSample, RecordShape, UpdateData } from '../../data/index.js';

/** Micro-batches of one update, those without records left out. */
export type UpdateShape = readonly (readonly RecordShape[])[];

/** The heaviest micro-batches that count: a second one adds to the gradients of the first, more do the same again. */
const ENOUGH = 2;

export class Heaviest {
  private most = 0;
  /** Empty before the first update. */
  shape: UpdateShape = [];

  see(microBatches: UpdateData['microBatches']): void {
    const heaviest = Math.max(0, ...microBatches.map(({ samples }) => tokensOf(samples)));
    if (heaviest <= this.most) return;
    this.most = heaviest;
    this.shape = shapeOf(microBatches);
  }
}

/** The heaviest micro-batch of all; empty where there is none. */
export function heaviestOf(shape: UpdateShape): readonly RecordShape[] {
  const tokens = (records: readonly RecordShape[]): number =>
    records.reduce((sum, each) => sum + each.tokens, 0);
  return shape.reduce((most, each) => (tokens(each) > tokens(most) ? each : most), []);
}

/** Of its heaviest micro-batches, in their order. */
export function shapeOf(microBatches: UpdateData['microBatches']): UpdateShape {
  const all = microBatches.map(({ samples }) => samples).filter((samples) => samples.length > 0);
  const kept = new Set([...all].sort((a, b) => tokensOf(b) - tokensOf(a)).slice(0, ENOUGH));
  return all.filter((each) => kept.has(each)).map((samples) => samples.map(recordShape));
}

export function recordShape({ inputIds, labels, images }: LoadedSample): RecordShape {
  // The first token is predicted by none.
  const supervised = labels.reduce((sum, label, i) => sum + Number(i > 0 && label >= 0), 0);
  const shape = { tokens: inputIds.length, supervised, images: images.length };
  const pictures = images.flatMap((each) => ('views' in each ? [each] : []));
  if (pictures.length === 0) return shape;
  return { ...shape, pictures: pictures.map(({ height, width }) => ({ height, width })) };
}

export function tokensOf(samples: readonly LoadedSample[]): number {
  return samples.reduce((sum, { inputIds }) => sum + inputIds.length, 0);
}
