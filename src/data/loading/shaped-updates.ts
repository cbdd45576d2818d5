/** The updates of a run as shapes: which records make which micro-batch of which rank, as loading would find, without loading any. */
import type { PlannedUpdate } from '../sampling/plan.js';
import { deal, type Cut } from './deal.js';
import { pack, type Budget } from './pack.js';
import type { RecordShape, RecordShapes } from './record-shapes.js';

/** Micro-batches of each rank, by rank; those without records left out. */
export type ShapedUpdate = readonly (readonly (readonly RecordShape[])[])[];

export interface ShapeOptions {
  readonly cut: Cut;
  readonly budget?: Budget | undefined;
  readonly shapes: RecordShapes;
}

export function shapedUpdate(
  { records }: Pick<PlannedUpdate, 'records'>,
  { cut, budget, shapes }: ShapeOptions,
): ShapedUpdate {
  const lengths = Int32Array.from(records, (record) => Math.abs(shapes.estimate(record)));
  return deal(lengths, cut).map((share) => {
    const batches = share.map((places) =>
      places.flatMap((place) => {
        const shape = shapes.of(records[place]!);
        return shape === null ? [] : [fitted(shape, budget)];
      }),
    );
    return filled(batches, budget).filter((batch) => batch.length > 0);
  });
}

function filled(
  batches: readonly (readonly RecordShape[])[],
  budget: Budget | undefined,
): readonly (readonly RecordShape[])[] {
  if (budget === undefined) return batches;
  const all = batches.flat();
  return pack(all, budget).map((places) => places.map((place) => all[place]!));
}

/** Counted for a larger budget, a record is cut at this one. */
function fitted(shape: RecordShape, budget: Budget | undefined): RecordShape {
  const most = budget?.tokens ?? Infinity;
  if (shape.tokens <= most) return shape;
  return { ...shape, tokens: most, supervised: Math.min(shape.supervised, most - 1) };
}
