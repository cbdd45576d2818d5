/**
 * Writing a model as others read it: a folder for transformers, for LLaVA's authors' code, or a PEFT adapter. The same source gives
 * the same bytes; the folder is whole or absent.
 */
import { mkdir, writeFile, copyFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { requireFree } from '../../base/disk-space.js';
import { DataError, UsageError } from '../../base/errors.js';
import { resolveModel } from '../../base/hub/resolve.js';
import { writeWholeFolder } from '../../base/whole-folder.js';
import { isAdapterTensor } from '../../formats/layouts/adapter-names.js';
import { checkTensors, TensorsError } from '../../formats/layouts/check-tensors.js';
import { inspect, type WeightSource } from '../../formats/layouts/inspect.js';
import { toStoredName } from '../../formats/layouts/rename.js';
import {
  type Layout,
  LAYOUTS,
  LLAVA_PREFIXES,
  type Prefixes,
  TEXT_PREFIXES,
} from '../../formats/layouts/tables.js';
import { writeShards } from '../../formats/safetensors/shards.js';
import { tensorBytes, type TensorSource } from '../../formats/safetensors/write.js';
import { elementCount, type StoredTensor } from '../../formats/stored.js';
import type { DType } from '../../torch/index.js';
import { ConfigError } from '../configs/read-config.js';
import { type LanguageModel, TextModel } from '../language-model.js';
import { Llava } from '../llava.js';
import { readAdapterConfig } from '../load/adapter-config.js';
import {
  assemble,
  assembleText,
  type AssembledAdapter,
  type AssembleOptions,
  type Assembly,
  type TextAssembly,
} from '../load/assemble.js';
import { attachAdapters } from '../load/attach-adapters.js';
import { torchDType } from '../load/stored-dtype.js';
import { peftConfig, peftName } from './adapter-files.js';
import {
  hfFiles,
  type ModelFiles,
  OFFICIAL_TOWER,
  officialFiles,
  textFiles,
} from './model-files.js';
import { type Companion, configText } from './small-files.js';
import { type StreamOptions, streamWeights } from './stream-weights.js';

/** What a model can be written as. */
export const EXPORT_LAYOUTS = ['hf', 'official', 'peft'] as const;

export type ExportLayout = (typeof EXPORT_LAYOUTS)[number];

export interface ExportOptions extends AssembleOptions {
  /** Fold adapters into the weights, computed in fp32. @default false: adapters are refused, except for `peft` */
  merge?: boolean;
  /** Type of the weights. @default the one that the embeddings are stored in; of adapters, their own */
  dtype?: DType | undefined;
  /** The chat template to write. @default the one of the source, else of the decoder */
  chatTemplate?: string | undefined;
  /** A template in place of one that gives pictures no place; it can ask for tokens. @default none */
  templateFor?: ((has: (token: string) => boolean) => string | undefined) | undefined;
  /** Seed of rows for added tokens. @default 0 */
  seed?: number;
  /** Tensors that may be unexpected, and are left out, or not finite: names, or beginnings with `*` behind them. */
  allow?: readonly string[];
  /** Bytes of tensors per file. @default 5e9 */
  shardBytes?: number;
  /** Put the new folder in place of what is there. @default false */
  replace?: boolean;
  /** Called with the bytes written so far and in all. */
  onProgress?: (done: number, total: number) => void;
}

/** What was written. */
export interface ExportReport {
  readonly folder: string;
  readonly layout: ExportLayout;
  /** Names of the files, relative to the folder. */
  readonly files: readonly string[];
  readonly parameters: number;
  readonly bytes: number;
  /** Type of the weights. */
  readonly dtype: DType;
  /** What was decided on the way, a sentence each. */
  readonly notes: readonly string[];
}

/**
 * Writes a model, or with `peft` its adapter, into a new folder.
 *
 * @param source a folder, a file or a name on the hub, in any layout
 * @throws UsageError `E_NOT_MERGED`; DataError `E_TENSORS`, `E_NON_FINITE_WEIGHTS`, `E_TOKENIZER_MISSING`, `E_LAYOUT_LIMIT`, and
 *   those of the readers; EnvironmentError `E_EXISTS`, `E_DISK_FULL`
 */
export async function exportModel(
  source: string,
  layout: ExportLayout,
  folder: string,
  options: ExportOptions = {},
): Promise<ExportReport> {
  if (layout === 'peft') return exportAdapter(source, folder, options);
  const found = await assembleAny(source, options);
  if (found.kind === 'text') return exportText(source, layout, folder, options, found.assembly);
  return exportLlava(source, layout, folder, options, found.assembly);
}

type Found = { kind: 'llava'; assembly: Assembly } | { kind: 'text'; assembly: TextAssembly };

/** A LLaVA, or where there is a decoder and nothing else, that. */
async function assembleAny(source: string, options: ExportOptions): Promise<Found> {
  try {
    return { kind: 'llava', assembly: await assemble(source, options) };
  } catch (error) {
    const isText = options.vision === undefined && options.projector === undefined;
    if (!(error instanceof ConfigError && error.code === 'E_NO_CONFIG' && isText)) throw error;
    const assembly = await assembleText(source, options).catch(() => undefined);
    if (assembly?.sources.every(({ layout }) => layout === 'llama') !== true) throw error;
    return { kind: 'text', assembly };
  }
}

async function exportLlava(
  source: string,
  layout: 'hf' | 'official',
  folder: string,
  options: ExportOptions,
  assembly: Assembly,
): Promise<ExportReport> {
  const plan = planWeights(source, new Llava(assembly.config), assembly, options);
  const { dtype } = plan;
  const files = await (layout === 'hf' ? hfFiles : officialFiles)(assembly, { ...options, dtype });
  const heads = [`${LLAVA_PREFIXES.decoder}embed_tokens.weight`, `${LLAVA_PREFIXES.head}weight`];
  const main = { layout: LAYOUTS[layout], own: LLAVA_PREFIXES, folder: '' };
  const tower = { layout: LAYOUTS.clip, own: LLAVA_PREFIXES, folder: OFFICIAL_TOWER };
  return write(source, folder, options, {
    ...plan,
    to: layout,
    files,
    grow: new Map(heads.map((name) => [name, files.newRows])),
    places: layout === 'hf' ? [main] : [main, tower],
  });
}

async function exportText(
  source: string,
  layout: 'hf' | 'official',
  folder: string,
  options: ExportOptions,
  assembly: TextAssembly,
): Promise<ExportReport> {
  if (layout === 'official') {
    throw new UsageError(`${source} is a decoder alone, not a LLaVA.`, {
      code: 'E_LAYOUT_LIMIT',
      hint: 'Use --to hf, or name the other parts (--vision, --projector).',
    });
  }
  const plan = planWeights(source, new TextModel(assembly.config), assembly, options);
  return write(source, folder, options, {
    ...plan,
    to: layout,
    files: await textFiles(assembly, { ...options, dtype: plan.dtype }),
    grow: new Map(),
    places: [{ layout: LAYOUTS.llama, own: TEXT_PREFIXES, folder: '' }],
  });
}

interface WeightPlan {
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly adapters: readonly AssembledAdapter[];
  readonly dtype: DType;
  readonly planNotes: readonly string[];
}

/** Compares what is there with what the model needs; `model` is on meta and is freed. */
function planWeights(
  source: string,
  model: LanguageModel,
  { tensors, sources, adapters }: Assembly | TextAssembly,
  { merge = false, dtype, allow = [] }: ExportOptions,
): WeightPlan {
  try {
    if (adapters.length > 0 && !merge) {
      throw new UsageError(`${source} holds adapters that are not part of the weights.`, {
        code: 'E_NOT_MERGED',
        hint: 'Fold them in (--merge), or write them alone (--to peft).',
      });
    }
    attachAdapters(model, adapters, 'float32');
    const parameters = model.namedParameters();
    const {
      tensors: used,
      missing,
      unused,
    } = checkTensors({
      where: source,
      tensors,
      unexpected: sources.flatMap(({ unexpected }) => unexpected),
      expected: new Map([...parameters].map(([name, { shape }]) => [name, shape])),
      tied: model.tied,
      allow,
    });
    if (missing.length > 0) {
      const fault = (name: string) => ({ kind: 'missing', name, text: name }) as const;
      throw new TensorsError(source, missing.map(fault));
    }
    const weights = new Map([...used].filter(([name]) => !isAdapterTensor(name)));
    const embeddings = [...weights].find(([name]) => name.endsWith('embed_tokens.weight'))![1];
    const chosen = dtype ?? torchDType(embeddings);
    return {
      tensors: weights,
      adapters,
      dtype: chosen,
      planNotes: [
        ...conversions(weights, chosen),
        ...(adapters.length === 0
          ? []
          : [`${plural(adapters.length, 'adapter')} folded in, computed in float32.`]),
        ...(unused.length === 0 ? [] : [`Left out: ${unused.join(', ')}.`]),
      ],
    };
  } finally {
    model.dispose();
  }
}

function conversions(weights: ReadonlyMap<string, StoredTensor>, dtype: DType): string[] {
  const counts = new Map<DType, number>();
  for (const tensor of weights.values()) {
    const stored = torchDType(tensor);
    if (stored !== dtype) counts.set(stored, (counts.get(stored) ?? 0) + 1);
  }
  return [...counts].map(
    ([stored, count]) => `${plural(count, 'tensor')} converted from ${stored} to ${dtype}.`,
  );
}

/** Where some of the tensors go, and under which names. */
interface Place {
  readonly layout: Layout;
  readonly own: Prefixes;
  /** Relative to the folder that is written. */
  readonly folder: string;
}

interface WritePlan extends WeightPlan {
  readonly to: ExportLayout;
  readonly files: ModelFiles;
  readonly grow: ReadonlyMap<string, number>;
  readonly places: readonly Place[];
}

async function write(
  source: string,
  folder: string,
  options: ExportOptions,
  { tensors, adapters, dtype, planNotes, to, files, grow, places }: WritePlan,
): Promise<ExportReport> {
  const { seed = 0, allow = [], signal, shardBytes, replace = false } = options;
  const progress = counter(options);
  const stream: StreamOptions = {
    where: source,
    dtype,
    adapters,
    grow,
    seed,
    allow,
    signal,
    onBytes: progress.add,
  };
  const contents = places.map(({ layout, own, folder: inside }) => {
    const names = new Map(
      [...tensors.keys()].map((name) => [name, toStoredName(layout, name, own)]),
    );
    const here = new Map([...tensors].filter(([name]) => names.get(name) !== undefined));
    return { inside, tensors: streamWeights(here, (name) => names.get(name)!, stream) };
  });
  const all = contents.flatMap((content) => content.tensors);
  const bytes = progress.expect(all);
  await requireFree(folder, bytes, 'the exported model');
  const written = await writeWholeFolder(
    folder,
    async (temporary) => {
      const names = await writeCompanions(temporary, files.files);
      for (const { inside, tensors: sources } of contents) {
        const shards = await writeShards(join(temporary, inside), sources, {
          ...(shardBytes === undefined ? {} : { shardBytes }),
          signal,
        });
        names.push(...shards.map((name) => join(inside, name)));
      }
      return names;
    },
    { what: 'exported model', replace, signal },
  );
  return {
    folder,
    layout: to,
    files: written.sort(),
    parameters: contents[0]!.tensors.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    bytes,
    dtype,
    notes: [...planNotes, ...files.notes],
  };
}

/** Adapters as PEFT keeps them: those of the source and of `adapters`, with what trained beside them. */
async function exportAdapter(
  source: string,
  folder: string,
  options: ExportOptions,
): Promise<ExportReport> {
  const { resolve = resolveModel, verify = true, signal, allow = [], replace = false } = options;
  const sources: WeightSource[] = [];
  for (const name of [...(options.adapters ?? []).toReversed(), source]) {
    const inspection = await inspect(await resolve(name), { verify, signal });
    const holds = inspection.sources.some(({ isAdapter }) => isAdapter);
    if (holds) sources.push(...inspection.sources);
  }
  const isText = sources.every(({ layout }) => layout === 'llama');
  const own = isText ? TEXT_PREFIXES : LLAVA_PREFIXES;
  const named = (name: string): string =>
    isText && name.startsWith(LLAVA_PREFIXES.decoder)
      ? TEXT_PREFIXES.decoder! + name.slice(LLAVA_PREFIXES.decoder.length)
      : name;
  const tensors = new Map<string, StoredTensor>();
  for (const each of sources) {
    for (const [name, tensor] of each.tensors) {
      if (!tensors.has(named(name))) tensors.set(named(name), tensor);
    }
  }
  const adapters = sources
    .filter(({ isAdapter }) => isAdapter)
    .map((each) => adapterOf(each, named, options));
  if (adapters.length === 0) {
    throw new DataError(`${source} holds no adapter.`, {
      code: 'E_ADAPTER',
      hint: 'Name a folder that holds one, or use --to hf for a whole model.',
    });
  }
  const unexpected = sources.flatMap((each) => each.unexpected);
  checkTensors({ where: source, tensors, unexpected, expected: shapes(tensors), allow });
  const dtype = options.dtype ?? torchDType(firstAdapterTensor(tensors));
  const progress = counter(options);
  const stream = streamWeights(tensors, peftName, {
    where: source,
    dtype,
    adapters: [],
    grow: new Map(),
    seed: 0,
    allow,
    signal,
    onBytes: progress.add,
  });
  const bytes = progress.expect(stream);
  const base = sources.map(({ config }) => config?.['base_model_name_or_path']);
  const config = peftConfig(adapters, tensors, {
    own,
    base: base.find((name): name is string => typeof name === 'string' && name !== '') ?? null,
  });
  await requireFree(folder, bytes, 'the adapter');
  const files = await writeWholeFolder(
    folder,
    async (temporary) => [
      ...(await writeCompanions(temporary, [
        { name: 'adapter_config.json', content: configText(config) },
      ])),
      // PEFT knows one file.
      ...(await writeShards(temporary, stream, {
        stem: 'adapter_model',
        shardBytes: Infinity,
        signal,
      })),
    ],
    { what: 'adapter', replace, signal },
  );
  const parameters = stream.reduce((sum, { shape }) => sum + elementCount(shape), 0);
  const notes = conversions(tensors, dtype);
  return { folder, layout: 'peft', files: files.sort(), parameters, bytes, dtype, notes };
}

function adapterOf(
  { path, config: json, tensors }: WeightSource,
  named: (name: string) => string,
  { adapterConfig }: ExportOptions,
): AssembledAdapter {
  const file = join(path, 'adapter_config.json');
  const config = json === undefined ? adapterConfig : readAdapterConfig({ file, json });
  if (config === undefined) {
    throw new DataError(`${path} holds adapters, and nothing says how they are scaled.`, {
      code: 'E_ADAPTER_CONFIG',
      hint: 'Give the alpha that they were trained with (--lora-alpha).',
    });
  }
  const own = [...tensors].filter(([name]) => isAdapterTensor(name));
  return { config, file, tensors: new Map(own.map(([name, tensor]) => [named(name), tensor])) };
}

function shapes(
  tensors: ReadonlyMap<string, StoredTensor>,
): ReadonlyMap<string, readonly number[]> {
  return new Map([...tensors].map(([name, { shape }]) => [name, shape]));
}

function firstAdapterTensor(tensors: ReadonlyMap<string, StoredTensor>): StoredTensor {
  return [...tensors].find(([name]) => isAdapterTensor(name))![1];
}

async function writeCompanions(folder: string, files: readonly Companion[]): Promise<string[]> {
  for (const { name, content } of files) {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true });
    if (typeof content === 'string') await writeFile(path, content, { flag: 'wx' });
    else await copyFile(content.path, path);
  }
  return files.map(({ name }) => name);
}

function counter({ onProgress }: ExportOptions): {
  expect: (tensors: readonly TensorSource[]) => number;
  add: (bytes: number) => void;
} {
  let [done, total] = [0, 0];
  return {
    expect: (tensors) => (total = tensors.reduce((sum, each) => sum + tensorBytes(each), 0)),
    add: (bytes) => onProgress?.((done += bytes), total),
  };
}

function plural(count: number, what: string): string {
  return `${count} ${what}${count === 1 ? '' : 's'}`;
}
