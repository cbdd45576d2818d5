/**
 * Putting a LLaVA together from what is on disk: one folder in any layout, or parts (decoder, vision tower, projector), with
 * adapters on top. Decided from configurations and headers alone; no tensor is read.
 *
 * What the source holds wins. What it lacks comes from the parts that are named beside it, then from where its own
 * configuration points: the tower of an official LLaVA, the model beneath an adapter.
 */
import { stat } from 'node:fs/promises';
import { dirname, join, resolve as resolvePath } from 'node:path';

import { DataError } from '../../base/errors.js';
import { resolveModel } from '../../base/hub/resolve.js';
import { isAdapterTensor } from '../../formats/layouts/adapter-names.js';
import { inspect, type WeightSource } from '../../formats/layouts/inspect.js';
import { partOf } from '../../formats/layouts/rename.js';
import {
  type Layout,
  type LayoutName,
  LAYOUTS,
  LLAVA_PREFIXES,
  MODEL_PARTS,
  TEXT_PREFIXES,
} from '../../formats/layouts/tables.js';
import type { StoredTensor } from '../../formats/stored.js';
import { type AdapterConfig, readAdapterConfig } from './adapter-config.js';
import { type ConfigFile, readConfigFile } from './config-file.js';
import { configKind, decoderConfigOf, llavaConfigOf, officialTowerOf } from './assemble-config.js';
import type { DecoderConfig } from '../configs/decoder-config.js';
import type { LlavaConfig } from '../configs/llava-config.js';

export interface AssembleOptions {
  /** Folder or hub name of the decoder, for what the source lacks. */
  llm?: string | undefined;
  /** Folder or hub name of the CLIP model. */
  vision?: string | undefined;
  /** File, folder or hub name of the projector. */
  projector?: string | undefined;
  /** The model beneath adapters. @default what their configuration names */
  base?: string | undefined;
  /** PEFT adapters on top; where several hold the same tensor the last one counts. */
  adapters?: readonly string[] | undefined;
  /** Hidden state of the tower, where no configuration says. @default -2 */
  featureLayer?: number | undefined;
  /** What the projector sees of it, where no configuration says. @default 'default' */
  select?: 'default' | 'full' | undefined;
  /** Layers of the projector, where neither a configuration nor weights say. @default 2 */
  projectorDepth?: number | undefined;
  /** The id that stands for one feature of a picture. @default what the configuration says, else -200 */
  imageTokenId?: number | undefined;
  /** Settings of adapters that come without any, as in XTuner's `.pth`. */
  adapterConfig?: AdapterConfig | undefined;
  /** Finds a model that a configuration names. @default the hub and its cache */
  resolve?: ((name: string) => Promise<string>) | undefined;
  /** Compare the checksums of torch's checkpoints. @default true */
  verify?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

/** An adapter's settings, and the file that says them. */
export interface AssembledAdapter {
  readonly config: AdapterConfig;
  readonly file: string;
  /** By the names that they have in the model. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
}

/** A LLaVA on disk. */
export interface Assembly {
  readonly kind: 'llava';
  readonly config: LlavaConfig;
  /** Weights and adapters by their names in the model. */
  readonly tensors: ReadonlyMap<string, StoredTensor>;
  readonly adapters: readonly AssembledAdapter[];
  /** Where it comes from; the first that holds a tensor counts. */
  readonly sources: readonly WeightSource[];
  /** The files that `config` was read from. */
  readonly configs: readonly ConfigFile[];
}

/**
 * @param source a folder, a file or a name on the hub
 * @throws ConfigError `E_CONFIG`, or `E_NO_CONFIG` where nothing says what a part looks like; DataError of the readers
 */
export async function assemble(source: string, options: AssembleOptions = {}): Promise<Assembly> {
  return llavaOf(source, await gather(source, options), options);
}

async function llavaOf(source: string, found: Found, options: AssembleOptions): Promise<Assembly> {
  await addTower(found, options);
  const tensors = overlay(found.sources);
  const config = llavaConfigOf(found.configs, tensors, {
    ...options,
    where: source,
    isAdapter: isAdapter(found),
    isXtuner: found.sources.some(
      ({ layout, path }) =>
        layout === 'xtuner' && !found.configs.some(({ file }) => dirname(file) === path),
    ),
  });
  return { kind: 'llava', ...found, config, tensors };
}

/** A decoder on disk. */
export interface TextAssembly extends Omit<Assembly, 'kind' | 'config'> {
  readonly kind: 'text';
  readonly config: DecoderConfig;
}

/** The decoder of a folder, a file or a name on the hub; names are those of a model that is nothing else. */
export async function assembleText(
  source: string,
  options: Pick<AssembleOptions, TextOption> = {},
): Promise<TextAssembly> {
  return textOf(source, await gather(source, options));
}

function textOf(source: string, found: Found): TextAssembly {
  const own = <T>(tensors: ReadonlyMap<string, T>): ReadonlyMap<string, T> =>
    new Map([...tensors].map(([name, tensor]) => [textName(name), tensor]));
  return {
    kind: 'text',
    ...found,
    config: decoderConfigOf(found.configs, { where: source, isAdapter: isAdapter(found) }),
    tensors: own(overlay(found.sources)),
    adapters: found.adapters.map((each) => ({ ...each, tensors: own(each.tensors) })),
  };
}

/** A LLaVA, or a decoder where there is nothing else. */
export async function assembleAny(
  source: string,
  options: AssembleOptions = {},
): Promise<Assembly | TextAssembly> {
  const found = await gather(source, options);
  return isTextOnly(found) ? textOf(source, found) : llavaOf(source, found, options);
}

/** Whether there is a decoder, or an adapter of one, and no word of anything else. */
export function isTextOnly({ sources, configs }: Pick<Found, 'sources' | 'configs'>): boolean {
  return (
    sources.every(({ layout }) => layout === 'llama') &&
    configs.every((config) => configKind(config) === 'decoder')
  );
}

type TextOption = 'base' | 'adapters' | 'adapterConfig' | 'resolve' | 'verify' | 'signal';

/** The name in a decoder alone for one in a LLaVA. */
export function textName(name: string): string {
  const decoder = LLAVA_PREFIXES.decoder;
  return name.startsWith(decoder) ? TEXT_PREFIXES.decoder + name.slice(decoder.length) : name;
}

/** What was found so far, the first counts first. */
interface Found {
  readonly sources: WeightSource[];
  readonly configs: ConfigFile[];
  readonly adapters: AssembledAdapter[];
}

/** Everything that is named, and the models beneath adapters. */
async function gather(source: string, options: AssembleOptions): Promise<Found> {
  const found: Found = { sources: [], configs: [], adapters: [] };
  for (const adapter of (options.adapters ?? []).toReversed()) {
    const before = found.adapters.length;
    await add(found, adapter, options);
    if (found.adapters.length > before) continue;
    throw new DataError(`${adapter} holds no adapter.`, {
      code: 'E_ADAPTER',
      hint: 'Name the folder of a PEFT adapter.',
    });
  }
  for (const name of [source, options.base, options.projector, options.llm, options.vision]) {
    if (name !== undefined) await add(found, name, options);
  }
  for (const { layout, isAdapter, path, config } of [...found.sources]) {
    const base = isAdapter && config !== undefined ? config['base_model_name_or_path'] : undefined;
    if (typeof base !== 'string' || base === '' || holdsAll(found, layout)) continue;
    const beneath = { file: join(path, 'adapter_config.json'), name: base };
    await add(
      found,
      await named(beneath, 'the model beneath the adapter (--base)', options),
      options,
    );
  }
  return found;
}

/** Whether there are adapters and nothing else. */
function isAdapter({ sources }: Found): boolean {
  return sources.every((source) => source.isAdapter);
}

async function add(found: Found, name: string, options: AssembleOptions): Promise<void> {
  const { verify = true, signal } = options;
  const path = await near('.', name, options);
  for (const source of (await inspect(path, { verify, signal })).sources) {
    found.sources.push(source);
    if (source.isAdapter) found.adapters.push(adapterOf(source, options));
    const config = await configBeside(source);
    if (config !== undefined) found.configs.push(config);
  }
}

/** A folder's `config.json`; for a file of XTuner's projector, the one beside it. */
async function configBeside({ path, layout }: WeightSource): Promise<ConfigFile | undefined> {
  const inside = await readConfigFile(join(path, 'config.json'));
  return inside === undefined && layout === 'projector'
    ? readConfigFile(join(dirname(path), 'config.json'))
    : inside;
}

/** @throws DataError `E_ADAPTER_CONFIG` where nothing says how it is scaled */
export function adapterOf(
  source: WeightSource,
  { adapterConfig }: Pick<AssembleOptions, 'adapterConfig'>,
): AssembledAdapter {
  const { path, config: json } = source;
  const file = join(path, 'adapter_config.json');
  const config = json === undefined ? adapterConfig : readAdapterConfig({ file, json });
  if (config === undefined) {
    throw new DataError(`${path} holds adapters, and nothing says how they are scaled.`, {
      code: 'E_ADAPTER_CONFIG',
      hint: 'Give the alpha that they were trained with (--lora-alpha).',
    });
  }
  const tensors = new Map([...source.tensors].filter(([name]) => isAdapterTensor(name)));
  return { config, file, tensors };
}

/** The tower that an official configuration names, where it is needed. */
async function addTower(found: Found, options: AssembleOptions): Promise<void> {
  const official = officialTowerOf(found.configs);
  if (official === undefined) return;
  const tower = { file: official.file, name: official.tower };
  await add(found, await named(tower, 'the vision tower (--vision)', options), options);
}

/**
 * Whether what was found holds every part that a model of a layout has. An adapter with modules of its own (embeddings, norms,
 * biases) holds no decoder and no tower; a projector that it holds is whole.
 */
function holdsAll({ sources }: Found, layout: LayoutName): boolean {
  const { prefixes }: Layout = LAYOUTS[layout];
  return MODEL_PARTS.filter((part) => prefixes[part] !== undefined).every((part) =>
    sources.some(
      ({ tensors, isAdapter }) =>
        (part === 'projector' || !isAdapter) &&
        [...tensors.keys()].some(
          (name) => /(?<!lora_[AB])\.weight$/.test(name) && partOf(name, LLAVA_PREFIXES) === part,
        ),
    ),
  );
}

/** Every tensor by its name, from the first source that holds it. */
function overlay(sources: readonly WeightSource[]): ReadonlyMap<string, StoredTensor> {
  const tensors = new Map<string, StoredTensor>();
  for (const source of sources) {
    for (const [name, tensor] of source.tensors) if (!tensors.has(name)) tensors.set(name, tensor);
  }
  return tensors;
}

/** What a file names, as a path relative to its folder or on the hub; `what` to name instead. */
async function named(
  { file, name }: { file: string; name: string },
  what: string,
  options: AssembleOptions,
): Promise<string> {
  try {
    return await near(dirname(file), name, options);
  } catch (error) {
    if (!(error instanceof DataError)) throw error;
    throw new DataError(`${file} names ${name}. ${error.message}`, {
      code: error.code,
      hint: `Name ${what}.`,
      cause: error,
    });
  }
}

/** A path relative to a folder if it leads somewhere, else a name on the hub. */
async function near(
  folder: string,
  name: string,
  { resolve, signal }: AssembleOptions,
): Promise<string> {
  const path = resolvePath(folder, name);
  const exists = await stat(path).then(
    () => true,
    () => false,
  );
  return exists ? path : await (resolve ?? ((model) => resolveModel(model, { signal })))(name);
}
