/**
 * Putting a LLaVA together from what is on disk: one folder in any layout, or parts (decoder, vision tower, projector), with
 * adapters on top. Decided from configurations and headers alone; no tensor is read.
 *
 * What the source holds wins, but for a projector that is named on purpose. What it lacks comes from the parts that are named beside
 * it, then from what it stands on: the provenance of a checkpoint, the model beneath an adapter, the tower of an official LLaVA.
 */
import { dirname, join } from 'node:path';

import { DataError } from '../../base/errors.js';
import { isAdapterTensor } from '../../formats/layouts/adapter-names.js';
import type { WeightSource } from '../../formats/layouts/inspect.js';
import { LLAVA_PREFIXES, TEXT_PREFIXES } from '../../formats/layouts/tables.js';
import type { StoredTensor } from '../../formats/stored.js';
import { type AdapterConfig, readAdapterConfig } from './adapter-config.js';
import type { ConfigFile } from './config-file.js';
import { configKind, decoderConfigOf, llavaConfigOf, officialTowerOf } from './assemble-config.js';
import type { DecoderConfig } from '../configs/decoder-config.js';
import type { LlavaConfig } from '../configs/llava-config.js';
import type { Provenance } from '../provenance/provenance.js';
import { type BaseForms, type BaseOption, inForms } from './base-form.js';
import { gatherPlaces, type GatherOptions } from './gather-places.js';
import { openNamed } from './open-place.js';
import { overlay, type ModelPlace, tensorsBeneath } from './places.js';

export interface AssembleOptions extends GatherOptions {
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
  /** In which form the frozen weights of parts are held. @default as a checkpoint was trained, else as they are stored */
  bases?: BaseForms<BaseOption> | undefined;
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
  /** Where it comes from, with what lies beneath. */
  readonly places: readonly ModelPlace[];
  /** The weights in these. */
  readonly sources: readonly WeightSource[];
  /** The files that `config` was read from. */
  readonly configs: readonly ConfigFile[];
  /** Of the checkpoint that it is, or that lies on top. */
  readonly provenance: Provenance | undefined;
}

/**
 * @param source a folder, a file or a name on the hub
 * @throws ConfigError `E_CONFIG`, or `E_NO_CONFIG` where nothing says what a part looks like; DataError `E_BASE_MISSING`,
 *   `E_BASE_CHANGED`, and those of the readers
 */
export async function assemble(source: string, options: AssembleOptions = {}): Promise<Assembly> {
  return llavaOf(source, await gatherPlaces(source, options), options);
}

async function llavaOf(
  source: string,
  places: readonly ModelPlace[],
  options: AssembleOptions,
): Promise<Assembly> {
  const all = await withTower(places, options);
  const found = contentOf(all, options);
  const tensors = overlay(all);
  tellUnused(source, { places, tensors }, options);
  const recorded = found.provenance?.features;
  const { featureLayer = recorded?.layer, select = recorded?.select } = options;
  const config = llavaConfigOf(found.configs, tensors, {
    ...options,
    ...{ featureLayer, select },
    where: source,
    isAdapter: isAdapter(found),
    isDecided:
      recorded != null ||
      found.sources.some(
        ({ layout, path }) =>
          layout === 'xtuner' && !found.configs.some(({ file }) => dirname(file) === path),
      ),
  });
  const held = heldTensors(tensors, found, options.bases);
  return { kind: 'llava', ...found, config, tensors: held };
}

/** The tensors in the form in which the model is to hold them; names are those of a LLaVA. */
function heldTensors(
  tensors: ReadonlyMap<string, StoredTensor>,
  { places, provenance }: Pick<Found, 'places' | 'provenance'>,
  bases: AssembleOptions['bases'],
): ReadonlyMap<string, StoredTensor> {
  const forms = { ...provenance?.bases, ...bases };
  return inForms(tensors, tensorsBeneath(places), forms, LLAVA_PREFIXES);
}

/** Says which parts were named, and give no weights since what counts before them has its own. */
function tellUnused(
  source: string,
  { places, tensors }: Pick<Assembly, 'places' | 'tensors'>,
  options: AssembleOptions,
): void {
  const used = new Set(tensors.values());
  for (const { role, name, sources } of places) {
    if ((role !== 'llm' && role !== 'vision') || options[role] !== name) continue;
    if (sources.some((each) => [...each.tensors.values()].some((tensor) => used.has(tensor)))) {
      continue;
    }
    const part = { llm: 'decoder', vision: 'vision tower' }[role];
    options.onNotice?.(`${name} (--${role}) gives no weights: ${source} has a ${part} of its own.`);
  }
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
  return textOf(source, await gatherPlaces(source, options), options);
}

function textOf(
  source: string,
  places: readonly ModelPlace[],
  options: Pick<AssembleOptions, TextOption>,
): TextAssembly {
  const own = <T>(tensors: ReadonlyMap<string, T>): ReadonlyMap<string, T> =>
    new Map([...tensors].map(([name, tensor]) => [textName(name), tensor]));
  const found = contentOf(places, options);
  return {
    kind: 'text',
    ...found,
    config: decoderConfigOf(found.configs, { where: source, isAdapter: isAdapter(found) }),
    tensors: own(heldTensors(overlay(places), found, options.bases)),
    adapters: found.adapters.map((each) => ({ ...each, tensors: own(each.tensors) })),
  };
}

/** A LLaVA, or a decoder where there is nothing else. */
export async function assembleAny(
  source: string,
  options: AssembleOptions = {},
): Promise<Assembly | TextAssembly> {
  const places = await gatherPlaces(source, options);
  const found = contentOf(places, options);
  return isTextOnly(found) ? textOf(source, places, options) : llavaOf(source, places, options);
}

/** Whether there is a decoder, or an adapter of one, and no word of anything else. */
export function isTextOnly({ sources, configs }: Pick<Found, 'sources' | 'configs'>): boolean {
  return (
    sources.every(({ layout }) => layout === 'llama') &&
    configs.every((config) => configKind(config) === 'decoder')
  );
}

type TextOption =
  | 'base'
  | 'bases'
  | 'adapters'
  | 'adapterConfig'
  | 'changedBase'
  | 'onNotice'
  | 'resolve'
  | 'verify'
  | 'signal';

/** The name in a decoder alone for one in a LLaVA. */
export function textName(name: string): string {
  const decoder = LLAVA_PREFIXES.decoder;
  return name.startsWith(decoder) ? TEXT_PREFIXES.decoder + name.slice(decoder.length) : name;
}

type Found = Pick<Assembly, 'places' | 'sources' | 'configs' | 'adapters' | 'provenance'>;

function contentOf(
  places: readonly ModelPlace[],
  options: Pick<AssembleOptions, 'adapterConfig'>,
): Found {
  const sources = places.flatMap((place) => place.sources);
  return {
    places,
    sources,
    configs: places.flatMap((place) => place.configs),
    adapters: sources
      .filter((source) => source.isAdapter)
      .map((source) => adapterOf(source, options)),
    provenance: places
      .filter(({ role }) => role === 'adapter' || role === 'model')
      .find((place) => place.provenance !== undefined)?.provenance,
  };
}

/** Whether there are adapters and nothing else. */
function isAdapter({ sources }: Pick<Found, 'sources'>): boolean {
  return sources.every((source) => source.isAdapter);
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

/** Adds the tower that an official configuration names, where it is needed. */
async function withTower(
  places: readonly ModelPlace[],
  options: AssembleOptions,
): Promise<readonly ModelPlace[]> {
  const official = officialTowerOf(places.flatMap((place) => place.configs));
  if (official === undefined) return places;
  const tower = { file: official.file, name: official.tower };
  const what = 'the vision tower (--vision)';
  return [...places, await openNamed('vision', tower, what, options)];
}
