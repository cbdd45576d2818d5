/**
 * The data of a recipe as a plan sees it: every record as long as the run's own encoder counts it, and the micro-batches that the run's own
 * order, dealing and packing make of them. Neither weights nor pictures are read.
 */

import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DataError } from '../base/errors.js';
import { resolveModel, type HubEvent } from '../base/hub/resolve.js';
import { cacheHome } from '../base/hub/settings.js';
import type { EffectiveBatch, Recipe } from '../config/index.js';
import {
  chooseTemplate,
  loadFormat,
  openDataset,
  type Batching,
  type Dataset,
  type RecordShape,
  type RecordShapes,
} from '../data/index.js';
import { tokenizerFolder } from '../generate/index.js';
import { planRun, probeShapes, weightsIn, type ProbeShape } from '../train/index.js';
import { choosePrecision } from '../train/prepare/precision.js';
import { SeenUpdates, type UpdateFacts } from './seen-updates.js';
import { hollowModel, type ModelConfig } from './shape-model.js';

/** What of a model's folder tells how text becomes tokens. */
const TOKENIZER_FILES = [
  ...['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json'],
  ...['processor_config.json', 'chat_template.jinja', 'chat_template.json', 'config.json'],
];

/** What a plan tells of the data. */
export interface DataFacts extends UpdateFacts {
  /** To train on, each counted once. */
  readonly records: number;
  /** Of these, bad ones and those that are too long. */
  readonly leftOut: number;
  readonly recordsPerEpoch: number;
  readonly updatesPerEpoch: number;
  readonly updates: number;
}

export interface PlanDataOptions {
  readonly model: ModelConfig;
  readonly signal?: AbortSignal | undefined;
  readonly onDownload?: ((event: HubEvent) => void) | undefined;
  /** Is told how many records are counted of how many. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** Folder of lengths that are kept. @default `patina/lengths` in the user's folder of caches */
  readonly cache?: string | undefined;
}

/** What updates of a run are made of. */
export interface DataBatches {
  /** The micro-batch with most tokens. */
  readonly heaviest: readonly RecordShape[];
  /** One that is as long as the slowest of a step is on average. */
  readonly typical: readonly RecordShape[];
  /** Of validation; empty: none. */
  readonly validation: readonly RecordShape[];
  readonly facts: DataFacts;
}

export class PlanData {
  private readonly known = new Map<string, DataBatches>();

  constructor(
    private readonly data: Dataset,
    private readonly shapes: RecordShapes,
    /** As the tokenizer counts them. */
    readonly probes: readonly ProbeShape[],
  ) {}

  /** Of a recipe with the same data, but perhaps with other batches. */
  batches(recipe: Recipe, effective: EffectiveBatch, ranks: number): DataBatches {
    const batching = batchingOf(recipe, effective, ranks);
    const key = JSON.stringify([batching, recipe.schedule]);
    const found = this.known.get(key) ?? this.find(recipe, effective, batching);
    this.known.set(key, found);
    return found;
  }

  private find(recipe: Recipe, effective: EffectiveBatch, batching: Batching): DataBatches {
    const { data, shapes } = this;
    const { batchTokens } = recipe;
    const { planned, perEpoch, until } = planRun(recipe, effective, data);
    const stretch = { count: planned, until: until ?? undefined };
    const trained = new SeenUpdates();
    for (const each of data.shapedUpdates(shapes, { ...batching, ...stretch })) trained.add(each);
    if (trained.heaviest.length === 0) throw nothingLeft(data.records);
    const oneByOne = batching.batchTokens === undefined ? { ...batching, accumulate: 1 } : batching;
    const validated = new SeenUpdates();
    for (const each of data.shapedValidation(shapes, oneByOne)) validated.add(each);
    return {
      heaviest: trained.heaviest,
      typical: trained.typical,
      validation: validated.heaviest,
      facts: {
        ...{ records: data.records, leftOut: data.leftOut(shapes) },
        ...{ recordsPerEpoch: data.recordsPerEpoch, updatesPerEpoch: perEpoch, updates: planned },
        ...trained.facts(batchTokens),
      },
    };
  }
}

/** @throws those of `openDataset`, of the tokenizer and its template, and of `Dataset.shapes` */
export async function openPlanData(
  recipe: Recipe,
  { model: described, signal, onDownload, onProgress, cache = ownCache() }: PlanDataOptions,
): Promise<PlanData> {
  const tokenizer = await tokenizerOf(recipe, { signal, onDownload });
  const { text } = recipe;
  const format = await loadFormat(tokenizer, text.template, described.kind === 'llava');
  const device = { device: 'meta', name: 'none', capability: null, totalBytes: 0 } as const;
  const precision = choosePrecision(recipe.precision, device);
  const model = hollowModel(described, { recipe, device, precision });
  try {
    const context = model.decoder.config.maxPositionEmbeddings;
    const options = { input: model.input, context, signal, onDownload };
    await using data = await openDataset(recipe, { tokenizer, ...options });
    const { batchTokens, batchImages } = recipe;
    const template = await chooseTemplate(format, text.template);
    const basis = {
      ...{ text, template, input: model.input, context, batchTokens, batchImages },
      reading: recipe.image.reading,
      tokenizer: await digestOf(tokenizer),
    };
    const counting = { basis: JSON.stringify(basis), cache, signal, onProgress };
    const shapes = await data.shapes(counting);
    return new PlanData(data, shapes, probeShapes({ format, model }, recipe, text.system));
  } finally {
    model.dispose();
  }
}

/** As `openModel` looks for it, but for weights, which nobody needs here. */
async function tokenizerOf(
  { model }: Recipe,
  options: Pick<PlanDataOptions, 'signal' | 'onDownload'>,
): Promise<string> {
  const files = TOKENIZER_FILES;
  const resolve = (name: string): Promise<string> => resolveModel(name, { ...options, files });
  if (model.tokenizer !== undefined) return resolve(model.tokenizer);
  const named = await Promise.all(
    [model.adapter, model.from, model.llm].map((each) => weightsIn(each)),
  );
  return tokenizerFolder(named, resolve);
}

async function digestOf(folder: string): Promise<string> {
  const hash = createHash('sha256');
  for (const name of TOKENIZER_FILES) {
    const content = await readFile(join(folder, name)).catch(() => null);
    hash.update(`${name} ${content?.length ?? -1}\n`).update(content ?? '');
  }
  return hash.digest('hex');
}

const ownCache = (): string => join(cacheHome(), 'patina', 'lengths');

function batchingOf(
  { batchSize = 1, batchTokens, batchImages }: Recipe,
  { accumulate, records }: EffectiveBatch,
  worldSize: number,
): Batching {
  return batchTokens === undefined
    ? { batchSize, accumulate: accumulate ?? 1, worldSize }
    : { batchTokens, batchImages, effectiveBatch: records, worldSize };
}

function nothingLeft(records: number): DataError {
  return new DataError(`None of the ${records} records can be used.`, {
    code: 'E_DATA_UNUSABLE',
    hint: 'See with `patina check` what is wrong with them.',
  });
}
