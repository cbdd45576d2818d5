/**
 * How long records are as the model sees them, counted by the encoder of a run; no picture is decoded. Memory is 16 bytes a record. What was
 * counted is kept beside the cache of downloads, file by file, under a digest of everything that it follows from.
 */
import { createHash } from 'node:crypto';
import { mkdir, readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { writeWholeFile } from '../../base/whole-file.js';
import type { PictureSize } from '../../models/index.js';
import type { NumberedFile } from '../sources/open-table.js';
import type { Executor } from './executor.js';

/** One record, as far as memory and time depend on it. */
export interface RecordShape {
  /** All of them, those of pictures included. */
  readonly tokens: number;
  readonly supervised: number;
  readonly images: number;
  /** Sizes of pictures that come in tiles. @default not known */
  readonly pictures?: readonly PictureSize[];
}

/** Numbers that are kept of a record: those of its shape, and tokens as they are estimated for grouping (negative without images). */
export const NUMBERS = 4;

/** Records that a thread counts at once. */
const AT_ONCE = 64;

/** Counts of records by their numbers. */
export class RecordShapes {
  /** @param counts `NUMBERS` for each record */
  constructor(private readonly counts: Int32Array) {}

  /** `null` for a record that is left out: a bad one, or one that is too long. */
  of(record: number): RecordShape | null {
    const [tokens, supervised, images] = this.counts.subarray(NUMBERS * record);
    if (tokens === undefined || tokens === 0) return null;
    return { tokens, supervised: supervised!, images: images! };
  }

  /** Estimated tokens, by which ranks share records out. */
  estimate(record: number): number {
    return this.counts[NUMBERS * record + 3]!;
  }
}

export interface CountOptions {
  /** Records of each file from its first on that are wanted; the others count as left out. */
  readonly wanted: (file: NumberedFile) => number;
  /** What counts follow from beside the file, as text. */
  readonly basis: string;
  /** Of what was counted. @default nothing is kept */
  readonly cache?: string | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Is told how many records are counted of how many. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

/** @throws errors of `RecordLoader.count`; the signal's reason */
export async function countRecords(
  files: readonly NumberedFile[],
  executor: Pick<Executor, 'count'>,
  { wanted, basis, cache, onProgress, signal = new AbortController().signal }: CountOptions,
): Promise<RecordShapes> {
  const last = files.at(-1);
  const counts = new Int32Array(NUMBERS * (last === undefined ? 0 : last.first + last.table.count));
  const total = files.reduce((sum, file) => sum + wanted(file), 0);
  let done = 0;
  for (const file of files) {
    const records = wanted(file);
    if (cache === undefined) {
      counts.set(await count(file, records), NUMBERS * file.first);
      continue;
    }
    const kept = join(cache, `${keyOf(file, records, basis)}.bin`);
    let own = await readKept(kept, records);
    if (own === undefined) {
      own = await count(file, records);
      await keep(kept, own);
    }
    counts.set(own, NUMBERS * file.first);
  }
  return new RecordShapes(counts);

  async function count({ first }: NumberedFile, records: number): Promise<Int32Array> {
    const found = new Int32Array(NUMBERS * records);
    const starts = Array.from({ length: Math.ceil(records / AT_ONCE) }, (_, i) => i * AT_ONCE);
    await Promise.all(
      starts.map(async (from) => {
        const to = Math.min(records, from + AT_ONCE);
        found.set(await executor.count(first + from, first + to, signal), NUMBERS * from);
        onProgress?.((done += to - from), total);
      }),
    );
    return found;
  }
}

function keyOf({ table, images }: NumberedFile, records: number, basis: string): string {
  const hash = createHash('sha256');
  return hash.update(JSON.stringify([2, table.digest, images, records, basis])).digest('hex');
}

/** What cannot be read is counted anew. */
async function readKept(path: string, records: number): Promise<Int32Array | undefined> {
  const bytes = await readFile(path).catch(() => undefined);
  if (bytes?.length !== NUMBERS * Int32Array.BYTES_PER_ELEMENT * records) return undefined;
  return new Int32Array(new Uint8Array(bytes).buffer);
}

/** A cache that cannot be written is none. */
async function keep(path: string, counts: Int32Array): Promise<void> {
  try {
    await mkdir(dirname(path), { recursive: true });
    await writeWholeFile(path, new Uint8Array(counts.buffer));
  } catch {
    // It is counted again the next time.
  }
}
