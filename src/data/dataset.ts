/**
 * The data of a run: sources opened, limited and split, ordered for each epoch, and loaded batch by batch.
 *
 * ```ts
 * const dataset = await openDataset(recipe, { tokenizer: folder, input: model.input });
 * for await (const update of dataset.updates({ batchSize: 4, accumulate: 8 })) train(update.microBatches);
 * await dataset.close();
 * ```
 */
import { createHash } from 'node:crypto';
import { availableParallelism } from 'node:os';

import type { Recipe } from '../config/schema/recipe.js';
import type { InputFacts } from '../models/sample.js';
import type { FitMode } from './image/fit.js';
import type { Rgb } from './image/normalise.js';
import { loadUpdates, type Exchange, type UpdateData } from './loading/batches.js';
import type { Cut } from './loading/deal.js';
import { InlineExecutor, type Executor } from './loading/executor.js';
import type { Budget } from './loading/pack.js';
import { countRecords, type CountOptions, type RecordShapes } from './loading/record-shapes.js';
import { shapedUpdate, type ShapedUpdate } from './loading/shaped-updates.js';
import { WorkerPool } from './loading/worker-pool.js';
import {
  planUpdates,
  readCursor,
  recordsPerUpdate,
  type Batching,
  type OrderFacts,
  type PlannedUpdate,
} from './sampling/plan.js';
import { Sampler, type Population } from './sampling/sampler.js';
import { holdOut, joined, shares } from './sampling/split.js';
import { empty, openCatalog, type CatalogSource } from './sources/catalog.js';
import type { FindOptions } from './sources/find-files.js';
import type { NumberedFile } from './sources/open-table.js';

/** What of a recipe decides its data. */
export type DataRecipe = Pick<
  Recipe,
  'data' | 'text' | 'image' | 'validation' | 'seed' | 'batchTokens' | 'batchImages'
>;

export interface OpenDatasetOptions extends FindOptions {
  /** Folder of the model's tokenizer. */
  tokenizer: string;
  /** What the model takes. */
  input: InputFacts;
  /** Most tokens that the model was made for. @default no limit */
  context?: number | undefined;
  /** How images become squares. @default as the recipe says, else padded */
  mode?: FitMode | undefined;
  /** The colour that pads images. @default CLIP's */
  background?: Rgb | undefined;
  /** Processes of this run on this machine, which share its cores. @default 1 */
  processes?: number | undefined;
}

export interface SourceFacts {
  readonly path: string;
  readonly files: readonly string[];
  /** Records in the files. */
  readonly records: number;
  /** Records that are trained on, after limits and validation. */
  readonly train: number;
  readonly weight: number;
}

export type UpdatesOptions = Batching & Loading & Stretch;

interface Loading {
  /** @default 0 */
  rank?: number | undefined;
  /** What several ranks tell each other by. */
  exchange?: Exchange | undefined;
  signal?: AbortSignal | undefined;
}

/** From where to where updates go. */
interface Stretch {
  /** Cursor of a run to go on with. @default the beginning */
  from?: unknown;
  /** How many updates; epochs follow one another. @default without end */
  count?: number | undefined;
  /** Records of all epochs together, from the beginning of the run, after which there are no more. @default without end */
  until?: number | undefined;
}

export class Dataset {
  readonly sources: readonly SourceFacts[];
  /** All files of records of the sources. */
  readonly files: readonly NumberedFile[];
  /** What each file of records holds, as taken while it was indexed. */
  readonly fileDigests: ReadonlyMap<string, string>;
  /** Records to train on, each counted once. */
  readonly records: number;
  /** Records of an epoch, by the weights of their sources. */
  readonly recordsPerEpoch: number;
  readonly validationRecords: number;
  readonly #recipe: DataRecipe;
  readonly #parts: Parts;
  readonly #executor: Executor;
  readonly #order: OrderFacts;

  /** @internal */
  constructor(recipe: DataRecipe, parts: Parts, executor: Executor) {
    this.#recipe = recipe;
    this.#parts = parts;
    this.#executor = executor;
    this.#order = orderFacts(recipe, parts);
    this.sources = parts.sources.map(({ path, files, count, weight }, i) => ({
      path,
      files: files.map(({ table }) => table.path),
      records: count,
      train: parts.train[i]!.records.length,
      weight,
    }));
    this.files = parts.sources.flatMap(({ files }) => files);
    this.fileDigests = new Map(this.files.map(({ table }) => [table.path, table.digest]));
    this.records = this.sources.reduce((sum, { train }) => sum + train, 0);
    this.recordsPerEpoch = this.#sampler({ batchSize: 1 }).recordsPerEpoch;
    this.validationRecords = parts.validation.length;
  }

  updatesPerEpoch(batching: Batching): number {
    return Math.ceil(this.recordsPerEpoch / recordsPerUpdate(batching));
  }

  /** Tokens of so many records, spread evenly over those of an epoch, about; negative without images. */
  async someLengths(
    most: number,
    signal: AbortSignal = new AbortController().signal,
  ): Promise<Int32Array> {
    const { train: populations, lengths } = this.#parts;
    const all = new Sampler({ populations, seed: 0, shuffle: false }).order(0);
    const count = Math.min(most, all.length);
    const some = Array.from(
      { length: count },
      (_, i) => all[Math.floor((i * all.length) / count)]!,
    );
    const one = async (record: number): Promise<number> =>
      lengths?.[record] ?? (await this.#executor.measure(record, record + 1, signal))[0]!;
    return Int32Array.from(await Promise.all(some.map(one)));
  }

  /**
   * The batches of a run, update by update.
   *
   * @throws DataError E_CURSOR; errors of `loadUpdates`
   */
  updates({ from, count, until, ...options }: UpdatesOptions): AsyncGenerator<UpdateData, void> {
    const order = this.#order;
    const start = from === undefined ? undefined : readCursor(from, order, this.recordsPerEpoch);
    const plans = planUpdates(this.#sampler(options), { ...options, until, from: start });
    return this.#load(count === undefined ? plans : take(plans, count), options);
  }

  /** The validation records, once, in the order of their files. */
  validation(options: Batching & Loading): AsyncGenerator<UpdateData, void> {
    const { sampler, count } = this.#validating(options);
    return this.#load(take(planUpdates(sampler, options), count), options);
  }

  /**
   * How long each record of the run is, as the encoder counts; every one is read and encoded.
   *
   * @throws errors of `RecordLoader.count`
   */
  shapes(options: Omit<CountOptions, 'wanted'>): Promise<RecordShapes> {
    const { train, validation, files } = this.#parts;
    const last = (file: NumberedFile): number => {
      const end = file.first + file.table.count;
      const within = (records: Uint32Array): number =>
        records.reduce((most, each) => (each < end ? Math.max(most, each + 1) : most), 0);
      const ends = [...train.map(({ records }) => records), validation].map(within);
      return Math.max(0, ...ends) - file.first;
    };
    const wanted = (file: NumberedFile): number => Math.max(0, last(file));
    return countRecords(files, this.#executor, { ...options, wanted });
  }

  /** How many of the records to train on have no shape. */
  leftOut(shapes: RecordShapes): number {
    const counted = ({ records }: Population): number =>
      records.reduce((sum, record) => sum + Number(shapes.of(record) === null), 0);
    return this.#parts.train.reduce((sum, population) => sum + counted(population), 0);
  }

  /** The updates that `updates` would give, as shapes. */
  *shapedUpdates(
    shapes: RecordShapes,
    { until, count, ...options }: Batching & Omit<Stretch, 'from'>,
  ): Generator<ShapedUpdate, void> {
    const plans = planUpdates(this.#sampler(options), { ...options, until });
    const cut = this.#cutOf(options);
    for (const plan of count === undefined ? plans : take(plans, count)) {
      yield shapedUpdate(plan, { ...cut, shapes });
    }
  }

  /** Micro-batches that `validation` would give, likewise. */
  *shapedValidation(shapes: RecordShapes, options: Batching): Generator<ShapedUpdate, void> {
    const { sampler, count } = this.#validating(options);
    for (const plan of take(planUpdates(sampler, options), count)) {
      yield shapedUpdate(plan, { ...this.#cutOf(options), shapes });
    }
  }

  /** Ends the threads. */
  close(): Promise<void> {
    return this.#executor.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  #load(
    plans: Iterator<PlannedUpdate, void>,
    { rank, exchange, signal, ...batching }: Batching & Loading,
  ): AsyncGenerator<UpdateData, void> {
    return loadUpdates(plans, {
      executor: this.#executor,
      badRecords: this.#recipe.data.badRecords,
      order: this.#order,
      ...this.#cutOf(batching),
      lengths: this.#parts.lengths,
      ...{ rank, exchange, signal },
    });
  }

  /** How updates are cut up. */
  #cutOf({ worldSize = 1, ...batching }: Batching): { cut: Cut; budget?: Budget } {
    if (batching.batchTokens === undefined) {
      return { cut: { batchSize: batching.batchSize, worldSize } };
    }
    const { effectiveBatch, batchTokens: tokens, batchImages: images } = batching;
    return { cut: { batchSize: effectiveBatch, worldSize }, budget: { tokens, images } };
  }

  #validating(batching: Batching): { sampler: Sampler; count: number } {
    const populations = [{ records: this.#parts.validation, weight: 1 }];
    const sampler = new Sampler({ populations, seed: 0, shuffle: false });
    return {
      sampler,
      count: Math.ceil(sampler.recordsPerEpoch / recordsPerUpdate(batching)),
    };
  }

  #sampler(batching: Batching): Sampler {
    const { data, seed } = this.#recipe;
    const { train, lengths } = this.#parts;
    return new Sampler({
      populations: train,
      seed,
      shuffle: data.shuffle,
      grouping: lengths && {
        batch: recordsPerUpdate(batching),
        lengths,
        byModality: data.grouping === 'modality',
      },
    });
  }
}

/** Records by their use. */
interface Parts {
  readonly sources: readonly CatalogSource[];
  /** Of each source. */
  readonly train: readonly Population[];
  readonly validation: Uint32Array;
  /** Of both. */
  readonly files: readonly NumberedFile[];
  /** Where batches are grouped: see `GroupOptions`. */
  readonly lengths: Int32Array | undefined;
}

/**
 * Opens the data of a recipe: finds the records of every source, downloads what is on the hub, starts the workers and, where
 * batches are grouped by length, measures every record.
 *
 * @throws UsageError, EnvironmentError and DataError: E_PATH_MISSING, E_DATA_EMPTY, E_DATA_FILES, E_DATA_FORMAT,
 *   E_DATA_JSON, E_DATA_READ, E_PARQUET_..., and those of the hub, the tokenizer and the template
 */
export async function openDataset(
  recipe: DataRecipe,
  { tokenizer, input, context, mode, background, processes = 1, ...options }: OpenDatasetOptions,
): Promise<Dataset> {
  const { data, text, image, validation, batchTokens, batchImages } = recipe;
  const sources = await openCatalog(data.sources, options);
  const first = endOf(sources);
  const apart = await openCatalog(validation?.sources ?? [], { ...options, first });
  const used = sources.map(({ taken }) => taken);
  const counts = data.limit === undefined ? used : shares(used, data.limit);
  const lists = sources.map((source, i) => range(source.first, counts[i]!));
  const split = splitRecords(recipe, sources, lists, apart);

  const spec = {
    files: [...sources, ...apart].flatMap(({ files }) => files),
    ...{ tokenizer, text, input, context, background },
    image: { ...image, mode: mode ?? image.mode ?? 'pad' },
    budget: batchTokens === undefined ? undefined : { tokens: batchTokens, images: batchImages },
  };
  const threads = data.workers === 'auto' ? automaticThreads(processes) : data.workers;
  const executor =
    threads === 0 ? await InlineExecutor.open(spec) : await WorkerPool.open(spec, { threads });
  try {
    const lengths =
      data.grouping === 'none'
        ? undefined
        : await measure(sources, lists, executor, options.signal);
    return new Dataset(recipe, { sources, ...split, files: spec.files, lengths }, executor);
  } catch (error) {
    await executor.close();
    throw error;
  }
}

/** Of a process's cores one is the step's own; more than four have not been of use to one GPU. */
function automaticThreads(processes: number): number {
  return Math.min(4, Math.max(1, Math.floor(availableParallelism() / processes) - 1));
}

function splitRecords(
  { validation, seed }: DataRecipe,
  sources: readonly CatalogSource[],
  lists: readonly Uint32Array[],
  apart: readonly CatalogSource[],
): Pick<Parts, 'train' | 'validation'> {
  const { train, heldOut } =
    validation?.fraction === undefined
      ? { train: lists, heldOut: joined(apart.map(({ first, taken }) => range(first, taken))) }
      : holdOut(lists, validation.fraction, seed);
  const populations = train.map((records, i) => ({ records, weight: sources[i]!.weight }));
  if (new Sampler({ populations, seed, shuffle: false }).recordsPerEpoch === 0) {
    throw empty('Limits, weights and validation leave no record to train on.');
  }
  return { train: populations, validation: heldOut.subarray(0, validation?.limit) };
}

function orderFacts({ data, seed }: DataRecipe, { sources, train }: Parts): OrderFacts {
  const options = createHash('sha256');
  for (const { records, weight } of train) {
    options.update(`${weight} of ${records.length}\n`).update(records);
  }
  options.update(JSON.stringify([seed, data.shuffle, data.grouping]));
  const files = sources.map(({ files }) => files.map(({ table }) => table.digest));
  return {
    files: createHash('sha256').update(JSON.stringify(files)).digest('hex'),
    options: options.digest('hex'),
  };
}

const MEASURED_AT_ONCE = 1024;

/** Lengths by the numbers of the records; 0 for those that are not in the lists. */
async function measure(
  sources: readonly CatalogSource[],
  lists: readonly Uint32Array[],
  executor: Executor,
  signal = new AbortController().signal,
): Promise<Int32Array> {
  const lengths = new Int32Array(endOf(sources));
  const pieces = sources.flatMap((source, i) =>
    source.files.flatMap(({ first, table }) => {
      const end = Math.min(first + table.count, source.first + lists[i]!.length);
      const starts = range(0, Math.max(0, Math.ceil((end - first) / MEASURED_AT_ONCE)));
      return Array.from(starts, async (piece) => {
        const from = first + piece * MEASURED_AT_ONCE;
        const to = Math.min(end, from + MEASURED_AT_ONCE);
        lengths.set(await executor.measure(from, to, signal), from);
      });
    }),
  );
  await Promise.all(pieces);
  return lengths;
}

/** The number after the last record. */
function endOf(sources: readonly CatalogSource[]): number {
  const last = sources.at(-1);
  return last ? last.first + last.count : 0;
}

function range(first: number, count: number): Uint32Array {
  return Uint32Array.from({ length: count }, (_, i) => first + i);
}

function* take<T>(values: Iterable<T>, count: number): Generator<T, void> {
  if (count <= 0) return;
  let taken = 0;
  for (const value of values) {
    yield value;
    if (++taken >= count) return;
  }
}
