/** The micro-batches of an update that take most: by the lengths of the records, or the longest that a recipe allows. */

import { UsageError } from '../base/errors.js';
import { plural } from '../base/format.js';
import type { EffectiveBatch, Recipe } from '../config/index.js';
import type { DataBatches } from './plan-data.js';
import type { ModelConfig } from './shape-model.js';
import { pictureTokens } from './shape-pictures.js';
import type { RecordShape } from '../train/index.js';

/** Of every record of the data. */
export type Lengths = readonly RecordShape[];

/** Micro-batches that a ghost run makes at most: a second one adds to the gradients of the first, more do the same again. */
const ENOUGH = 2;

/** Tokens of a micro-batch, and chunks of its loss: of more the trace alone would fill the host's memory, and no card holds it. */
const MOST = { tokens: 2 ** 25, chunks: 2 ** 15 };

/** Of a record whose length is not known, where time depends on how many there are in a micro-batch. */
const TYPICAL = 0.5;

interface Context {
  readonly model: ModelConfig;
  readonly ranks: number;
  readonly batching: EffectiveBatch;
  readonly lengths?: Lengths | undefined;
}

export interface WorstBatches {
  /** Those of a ghost run. */
  readonly batches: readonly (readonly RecordShape[])[];
  /** Of an update of one rank. */
  readonly microBatches: number;
  /** What they follow from. */
  readonly basis: string;
}

/** @throws UsageError `E_PLAN_BATCH` for a micro-batch that is too large to be followed */
export function worstBatches(
  { text, batchSize = 1, batchTokens, memory }: Recipe,
  { model, ranks, batching, lengths }: Context,
): WorstBatches {
  const { maxLength } = text;
  const cut = (each: RecordShape): RecordShape => ({
    ...each,
    tokens: Math.min(each.tokens, maxLength),
    supervised: Math.min(each.supervised, maxLength - 1),
  });
  const all = lengths?.map(cut).sort((a, b) => b.tokens - a.tokens) ?? [longest(maxLength, model)];
  requireFollowed(batchTokens ?? batchSize * all[0]!.tokens, memory);
  const mean =
    lengths === undefined
      ? maxLength * TYPICAL
      : all.reduce((sum, { tokens }) => sum + tokens, 0) / all.length;
  const batch = batchTokens === undefined ? first(all, batchSize) : filled(all, batchTokens);
  const own = batching.records / ranks;
  const microBatches =
    batching.accumulate ?? Math.max(1, Math.ceil((own * mean) / (batchTokens ?? maxLength)));
  return {
    batches: repeated(batch, microBatches),
    microBatches,
    basis:
      lengths === undefined
        ? `records of the full length, ${maxLength} tokens` +
          (batching.accumulate === null ? '; half as long on average' : '')
        : `the longest of ${lengths.length} records`,
  };
}

function requireFollowed(tokens: number, { lossChunk }: Recipe['memory']): void {
  const chunks = Math.ceil(tokens / lossChunk);
  if (tokens <= MOST.tokens && chunks <= MOST.chunks) return;
  const [what, most] =
    tokens > MOST.tokens
      ? [`${tokens} tokens`, `${MOST.tokens} tokens`]
      : [`${chunks} chunks of the loss`, `${MOST.chunks} chunks`];
  throw new UsageError(`a micro-batch of ${what} is more than a plan follows, ${most}`, {
    code: 'E_PLAN_BATCH',
    hint: 'Give a smaller batchSize (batchTokens) or text.maxLength, or a larger memory.lossChunk.',
  });
}

/** Of a run whose data are known. */
export function heaviestBatches({ heaviest, facts }: DataBatches): WorstBatches {
  const { microBatches, updates } = facts;
  return {
    ...{ batches: repeated(heaviest, microBatches), microBatches },
    basis: `the heaviest of ${plural(updates, 'update')} of the data`,
  };
}

/** As many of a micro-batch as a ghost run makes. */
export function repeated(
  batch: readonly RecordShape[],
  microBatches: number,
): (readonly RecordShape[])[] {
  return Array<readonly RecordShape[]>(Math.min(Math.ceil(microBatches), ENOUGH)).fill(batch);
}

/** With a picture, and all labels after it. */
function longest(tokens: number, { kind, config }: ModelConfig): RecordShape {
  if (kind === 'text') return { tokens, supervised: tokens - 1, images: 0 };
  const features = pictureTokens(config, tokens - 1);
  return features < tokens
    ? { tokens, supervised: tokens - features, images: 1 }
    : { tokens, supervised: tokens - 1, images: 0 };
}

/** The longest of all, again from the start where there are fewer. */
function first(all: Lengths, count: number): RecordShape[] {
  return Array.from({ length: count }, (_, i) => all[i % all.length]!);
}

/** Longest first, each that still has room; one that has more tokens than the budget is alone. */
function filled(all: Lengths, budget: number): RecordShape[] {
  const batch = [all[0]!];
  let room = budget - all[0]!.tokens;
  for (let i = 1; room > 0; i++) {
    const next = all[i % all.length]!;
    if (next.tokens > room) {
      if (i < all.length) continue;
      break;
    }
    batch.push(next);
    room -= next.tokens;
  }
  return batch;
}
