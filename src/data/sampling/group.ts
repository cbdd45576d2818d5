/**
 * Batches of records of like length, and of one modality: the sampler of LLaVA and XTuner (`LengthGroupedSampler`).
 *
 * Records in random order are cut into mega-batches of up to 50 batches, each sorted by falling length and cut into
 * batches, and the batches are put in random order. So a batch holds records of like length, and which ones differs from
 * epoch to epoch. The batch with the longest record comes first, where memory that does not suffice shows at once.
 *
 * Two differences: nothing is repeated to fill a batch, and batches of length grouping are shuffled as well.
 */
import type { Random } from './random.js';

/** Most batches that are sorted together, and the least number of mega-batches, as in XTuner. */
const MEGA_BATCHES = 50;
const LEAST_MEGAS = 4;

export interface GroupOptions {
  /** Records of a batch: of a whole update, over all devices. */
  batch: number;
  /** Length of each record by its number; negative for records without images. */
  lengths: Int32Array;
  /** Whether records with and without images are kept apart. */
  byModality: boolean;
  /** Order of the batches; undefined leaves it as it is. */
  random: Random | undefined;
}

/**
 * The records in their order of training, of which each `batch` make a batch. What fills no batch comes last: there
 * alone may modalities meet.
 *
 * @param records in random order
 */
export function groupByLength(
  records: Uint32Array,
  { batch, lengths, byModality, random }: GroupOptions,
): Uint32Array {
  const groups = byModality
    ? [records.filter((r) => lengths[r]! >= 0), records.filter((r) => lengths[r]! < 0)]
    : [records];
  const full: number[][] = [];
  const rest: number[] = [];
  for (const group of groups) {
    for (const one of sortedBatches(group, batch, lengths)) {
      if (one.length === batch) full.push(one);
      else rest.push(...one);
    }
  }
  random?.shuffle(full);
  longestFirst(full, lengths);
  return Uint32Array.from([...full.flat(), ...rest]);
}

function sortedBatches(records: Uint32Array, batch: number, lengths: Int32Array): number[][] {
  const mega = Math.min(Math.floor(records.length / (LEAST_MEGAS * batch)), MEGA_BATCHES) || 1;
  const batches: number[][] = [];
  for (let at = 0; at < records.length; at += mega * batch) {
    const sorted = Array.from(records.subarray(at, at + mega * batch)).sort(
      (a, b) => Math.abs(lengths[b]!) - Math.abs(lengths[a]!),
    );
    for (let i = 0; i < sorted.length; i += batch) batches.push(sorted.slice(i, i + batch));
  }
  return batches;
}

function longestFirst(batches: number[][], lengths: Int32Array): void {
  let longest = 0;
  // The first record of a batch is its longest.
  const lengthOf = (i: number): number => Math.abs(lengths[batches[i]![0]!]!);
  for (let i = 1; i < batches.length; i++) if (lengthOf(i) > lengthOf(longest)) longest = i;
  if (longest > 0) [batches[0], batches[longest]] = [batches[longest]!, batches[0]!];
}
