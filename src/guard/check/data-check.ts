/**
 * Every record of a data set, checked by threads on all cores, and put together in the order of the files. Memory does not grow
 * with what records hold: beside the index of the files it is some 20 bytes a record.
 */
import { availableParallelism } from 'node:os';

import type { Recipe } from '../../config/index.js';
import type { RecordId, RecordPlace } from '../../data/index.js';
import { compiledModule, ThreadPool } from '../../data/loading/thread-pool.js';
import { shares } from '../../data/sampling/split.js';
import { openCatalog } from '../../data/sources/catalog.js';
import type { FindOptions } from '../../data/sources/find-files.js';
import { fileOf, type NumberedFile } from '../../data/sources/open-table.js';
import { describePlace } from '../../data/sources/place.js';
import { Duplicates } from './duplicates.js';
import type { Finding } from './finding.js';
import { Lengths, type LengthFacts } from './lengths.js';
import { ownKind } from './kinds.js';
import {
  RecordChecker,
  type CheckSpec,
  type Mark,
  type ModelSpec,
  type RecordsReport,
} from './record-checker.js';
import { Tally } from './tally.js';

export interface DataFacts {
  readonly records: number;
  /** Records with an error. */
  readonly bad: number;
  /** Records with a warning and no error. */
  readonly odd: number;
  readonly pictures: number;
  /** All tokens before anything is cut; estimated without a tokenizer. */
  readonly tokens: number;
  readonly supervised: number;
  readonly lengths: LengthFacts;
}

export interface DataCheck {
  readonly findings: readonly Finding[];
  readonly facts: DataFacts;
  /** See `CheckSpec`. */
  readonly firstUse: Int32Array | null;
  /** What is at a number. */
  place(record: number): RecordPlace;
}

export interface DataCheckOptions extends FindOptions {
  readonly model: ModelSpec | null;
  readonly reading: Recipe['image']['reading'];
  /** Only so many records of all, the first of each source. @default all */
  readonly most?: number | undefined;
  /** 0 works in this thread. @default one for each core */
  readonly threads?: number | undefined;
  /** Is told how many records are done of how many. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** Is told of every record in order, with what is wrong with it. */
  readonly onRecord?:
    ((record: number, marks: readonly Mark[]) => void | Promise<void>) | undefined;
  /** Is told where records lie, before the first. */
  readonly onFiles?: ((files: readonly NumberedFile[]) => void | Promise<void>) | undefined;
}

/** Records that a thread takes at once. */
const AT_ONCE = 32;

/** @throws DataError and EnvironmentError of `openCatalog`, the tokenizer and the template */
export async function checkData(
  sources: Recipe['data']['sources'],
  {
    model,
    reading,
    most = Infinity,
    threads = availableParallelism(),
    ...options
  }: DataCheckOptions,
): Promise<DataCheck> {
  const { signal = new AbortController().signal, onProgress, onRecord, onFiles } = options;
  const catalog = await openCatalog(sources, options);
  const files = catalog.flatMap((source) => source.files);
  const taken = shares(
    catalog.map((source) => source.taken),
    most,
  );
  const stretches = catalog.flatMap((source, i) =>
    source.files.flatMap(({ first, table }) => {
      const end = Math.min(first + table.count, source.first + taken[i]!);
      return pieces(first, end);
    }),
  );
  const total = taken.reduce((sum, count) => sum + count, 0);
  const vocabulary = model?.input?.vocabSize;
  const firstUse =
    vocabulary === undefined
      ? null
      : new Int32Array(new SharedArrayBuffer(Int32Array.BYTES_PER_ELEMENT * vocabulary));
  await onFiles?.(files);
  const last = files.at(-1)!;
  const result = new Result(last.first + last.table.count);
  const place = (record: number): RecordPlace => placeOf(files, record);
  const spec: CheckSpec = { files, reading, model, firstUse };
  await using workers = await openWorkers(spec, Math.min(threads, stretches.length));
  let done = 0;
  for await (const report of inOrder(stretches, workers, signal)) {
    for (const [record, marks] of result.add(report, place)) await onRecord?.(record, marks);
    done += report.lengths.length;
    onProgress?.(done, total);
  }
  return { findings: result.tally.findings(), facts: result.facts(), firstUse, place };
}

/** What is known once the reports are put together, in order. */
class Result {
  readonly tally = new Tally();
  readonly #lengths = new Lengths();
  readonly #duplicates: Duplicates;
  #counts = { records: 0, bad: 0, odd: 0, pictures: 0, supervised: 0 };

  constructor(records: number) {
    this.#duplicates = new Duplicates(records);
  }

  /** @returns each record with its marks */
  add(
    { from, marks, lengths, supervised, pictures, ids, contents }: RecordsReport,
    place: (record: number) => RecordPlace,
  ): [record: number, marks: readonly Mark[]][] {
    this.#counts.supervised += supervised;
    this.#counts.pictures += pictures;
    const records = Array.from(lengths, (length, i): [number, Mark[]] => {
      this.#lengths.add(length);
      const record = from + i;
      const own = marks.filter((mark) => mark.record === record);
      const before = this.#duplicates.add(record, [contents[2 * i]!, contents[2 * i + 1]!]);
      if (before !== undefined) own.push(duplicateMark(record, ids[i]!, place(before)));
      return [record, own];
    });
    for (const [record, own] of records) {
      const where = own.length > 0 ? place(record) : undefined;
      for (const mark of own) this.tally.add(mark, where!);
      this.#counts.records++;
      if (own.some(({ kind }) => kind.severity === 'error')) this.#counts.bad++;
      else if (own.length > 0) this.#counts.odd++;
    }
    return records;
  }

  facts(): DataFacts {
    return { ...this.#counts, tokens: this.#lengths.total, lengths: this.#lengths.facts() };
  }
}

function duplicateMark(record: number, id: RecordId, before: RecordPlace): Mark {
  const message = `it says and shows the same as ${describePlace(before)}`;
  return { record, id, kind: ownKind('duplicate-record'), message };
}

interface Workers extends AsyncDisposable {
  readonly width: number;
  check(from: number, to: number, signal: AbortSignal): Promise<RecordsReport>;
}

async function openWorkers(spec: CheckSpec, threads: number): Promise<Workers> {
  if (threads === 0) {
    const checker = await RecordChecker.open(spec);
    return {
      width: 1,
      check: (from, to) => checker.check(from, to),
      [Symbol.asyncDispose]: () => checker.close(),
    };
  }
  const entry = compiledModule('guard/check/check-thread.js');
  const pool = await ThreadPool.open(spec, { threads, entry });
  return {
    width: pool.width,
    check: (from, to, signal) => pool.ask('check', [from, to], signal) as Promise<RecordsReport>,
    [Symbol.asyncDispose]: () => pool.close(),
  };
}

/** Reports in the order of the records, a few worked on ahead. */
async function* inOrder(
  stretches: readonly (readonly [from: number, to: number])[],
  workers: Workers,
  signal: AbortSignal,
): AsyncGenerator<RecordsReport, void> {
  const ahead: Promise<RecordsReport>[] = [];
  let next = 0;
  while (next < stretches.length || ahead.length > 0) {
    while (next < stretches.length && ahead.length < 2 * workers.width) {
      signal.throwIfAborted();
      const [from, to] = stretches[next++]!;
      const report = workers.check(from, to, signal);
      report.catch(() => undefined); // an earlier one may fail first
      ahead.push(report);
    }
    yield await ahead.shift()!;
  }
}

function pieces(from: number, to: number): [from: number, to: number][] {
  const count = Math.max(0, Math.ceil((to - from) / AT_ONCE));
  return Array.from({ length: count }, (_, i) => {
    const start = from + i * AT_ONCE;
    return [start, Math.min(to, start + AT_ONCE)];
  });
}

export function placeOf(files: readonly NumberedFile[], record: number): RecordPlace {
  const { first, table } = fileOf(files, record)!;
  const index = record - first;
  const line = table.kind === 'json' ? table.lines[index]! : null;
  return { file: table.path, record: index + 1, line };
}
