/**
 * Where the tensors of a model come from: what is named (a model, parts, adapters on top), and what lies beneath an adapter or a
 * checkpoint, as its provenance or its `adapter_config.json` says. Told from names and headers; no tensor is read.
 */
import { stat } from 'node:fs/promises';
import { dirname, join, resolve as resolvePath } from 'node:path';

import { DataError, PatinaError, UsageError } from '../../base/errors.js';
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
  type PartName,
} from '../../formats/layouts/tables.js';
import type { StoredTensor } from '../../formats/stored.js';
import { isJsonObject } from '../../formats/strict-json.js';
import { locate } from '../provenance/locate.js';
import { type Beneath, type Provenance, readProvenance } from '../provenance/provenance.js';
import type { AssembleOptions } from './assemble.js';
import { configKind } from './assemble-config.js';
import { type ConfigFile, readConfigFile } from './config-file.js';

/** What something is named as, or lies beneath something as. */
export type PlaceRole = 'adapter' | 'model' | 'base' | 'projector' | 'llm' | 'vision';

/** A folder, a file, or what of it is taken. */
export interface ModelPlace {
  readonly role: PlaceRole;
  /** As it was named. */
  readonly name: string;
  readonly path: string;
  readonly sources: readonly WeightSource[];
  /** What describes the model. */
  readonly configs: readonly ConfigFile[];
  /** For a checkpoint, what it stands on. */
  readonly provenance: Provenance | undefined;
}

/** Whether a place lies on others, which give what it lacks: an adapter, what a run has learnt, a projector put in place of another. */
export function isOnTop({ role, sources, provenance }: ModelPlace): boolean {
  return (
    role === 'adapter' ||
    role === 'projector' ||
    sources.some(({ isAdapter }) => isAdapter) ||
    (provenance?.beneath.length ?? 0) > 0
  );
}

/** The tensors that are there without what lies on top. */
export function tensorsBeneath(places: readonly ModelPlace[]): ReadonlySet<StoredTensor> {
  const ground = places.filter((place) => !isOnTop(place));
  return new Set(ground.flatMap(({ sources }) => sources.flatMap((s) => [...s.tensors.values()])));
}

/** Where a tokenizer and what belongs to the decoder may lie, the first counts first. */
export function textFolders(places: readonly ModelPlace[]): string[] {
  const folders = places
    .filter(({ role }) => role !== 'projector' && role !== 'vision')
    .flatMap(({ path, sources }) => [
      path,
      // CLIP's folder has a tokenizer too, which is not meant.
      ...sources
        .filter(({ layout }) => layout !== 'projector' && !layout.startsWith('clip'))
        .map((source) => source.path),
    ]);
  return [...new Set(folders)];
}

/** In the order in which their files are asked; see `overlay` for their tensors. */
export async function gatherPlaces(
  source: string,
  options: AssembleOptions,
): Promise<ModelPlace[]> {
  const places: ModelPlace[] = [];
  for (const name of (options.adapters ?? []).toReversed()) {
    const place = await open('adapter', name, options);
    places.push(place);
    if (place.sources.some(({ isAdapter }) => isAdapter)) continue;
    throw new DataError(`${name} holds no adapter.`, {
      code: 'E_ADAPTER',
      hint: 'Name the folder of a PEFT adapter.',
    });
  }
  places.push(await open('model', source, options));
  for (const role of ['base', 'projector', 'llm', 'vision'] as const) {
    const name = options[role];
    if (name !== undefined) places.push(await open(role, name, options));
  }
  const given = [...places];
  for (const place of given) await addBeneath(places, place, { ...options, given });
  for (const { role, name } of given) expectPart(places, role, name);
  return options.projector === undefined ? places : withNamedProjector(places, options.projector);
}

/**
 * A projector that is named takes the place of the model's own, with its layers and its adapters: nothing is mixed of two.
 *
 * @throws UsageError `E_PART_UNUSED` where an adapter that is named beside it brings another
 */
function withNamedProjector(places: readonly ModelPlace[], projector: string): ModelPlace[] {
  const other = places.find((place) => place.role === 'adapter' && holds([place], 'projector'));
  if (other !== undefined) {
    throw new UsageError(
      `projector ${projector}: it would not be used: the adapter ${other.name} holds a projector.`,
      {
        code: 'E_PART_UNUSED',
        hint: 'Leave the projector out, or name an adapter that was trained without one.',
      },
    );
  }
  const isOther = (name: string): boolean => partOf(name, LLAVA_PREFIXES) === 'projector';
  return places.map((place) =>
    place.role === 'projector' || place.role === 'adapter'
      ? place
      : { ...place, sources: sourcesOf(place, (name) => !isOther(name)) },
  );
}

/** What is named as a part has to hold it, or stand on something that does. */
function expectPart(places: readonly ModelPlace[], role: PlaceRole, name: string): void {
  const parts = PARTS[role];
  if (parts === undefined) return;
  const tensors = places
    .filter((place) => place.role === role)
    .flatMap(({ sources }) => sources.flatMap((source) => [...source.tensors.keys()]));
  if (tensors.some((each) => parts.includes(partOf(each, LLAVA_PREFIXES)!))) return;
  throw new DataError(`${role} ${name}: it holds no tensors of a ${parts[0]!}.`, {
    code: 'E_PART',
    hint: `Name the file or folder of a ${parts[0]!}, or a run that has trained one (--${role}).`,
  });
}

/** Every tensor by its name: from adapters, then from a projector that is named on purpose, then from the first that holds it. */
export function overlay(places: readonly ModelPlace[]): ReadonlyMap<string, StoredTensor> {
  const first = (place: ModelPlace): number =>
    place.role === 'adapter' ? 0 : place.role === 'projector' ? 1 : 2;
  const tensors = new Map<string, StoredTensor>();
  for (const { sources } of places.toSorted((a, b) => first(a) - first(b))) {
    for (const each of sources) {
      for (const [name, tensor] of each.tensors) if (!tensors.has(name)) tensors.set(name, tensor);
    }
  }
  return tensors;
}

/** What a part that is named by itself gives. */
const PARTS: Readonly<Partial<Record<PlaceRole, readonly PartName[]>>> = {
  projector: ['projector'],
  llm: ['decoder', 'head'],
  vision: ['vision'],
};

/** What is named; errors about what stands beside the model say which part they are about. */
async function open(role: PlaceRole, name: string, options: AssembleOptions): Promise<ModelPlace> {
  try {
    return await openAt(role, name, await near('.', name, options), options);
  } catch (error) {
    if (role !== 'model' && error instanceof PatinaError) {
      error.message = `${role} ${name}: ${error.message}`;
    }
    throw error;
  }
}

async function openAt(
  role: PlaceRole,
  name: string,
  path: string,
  { verify = true, decoderOnly = false, signal }: AssembleOptions,
): Promise<ModelPlace> {
  const { sources } = await inspect(path, { verify, signal });
  const provenance = await readProvenance(path);
  const configs: ConfigFile[] = [];
  for (const source of sources) {
    const config = await configBeside(source);
    if (config !== undefined) configs.push(config);
  }
  const place: ModelPlace = { role, name, path, sources, configs, provenance };
  if (decoderOnly && (role === 'model' || role === 'base' || role === 'llm')) {
    return onlyParts(withoutFeatures(place), PARTS.llm!);
  }
  const parts = PARTS[role];
  // A whole model that is named for a part may fill in others that are lacking, as it always could; what lies on top may not.
  const isPart = parts !== undefined && (role !== 'llm' || isOnTop({ ...place, role: 'model' }));
  return isPart ? onlyParts(place, parts) : place;
}

/** The layer that a decoder was trained beside is not that of the tower which it is put together with. */
function withoutFeatures({ provenance, ...place }: ModelPlace): ModelPlace {
  return { ...place, provenance: provenance && { ...provenance, features: null } };
}

function onlyParts(place: ModelPlace, parts: readonly PartName[]): ModelPlace {
  const wanted = (name: string): boolean => parts.includes(partOf(name, LLAVA_PREFIXES)!);
  const isWhole = place.sources.every(({ tensors }) => [...tensors.keys()].every(wanted));
  if (isWhole) return place;
  const sources = sourcesOf(place, wanted).map((source) => ({ ...source, unexpected: [] }));
  return { ...place, sources, configs: place.configs.flatMap((each) => partConfig(each, parts)) };
}

/** What a place holds under the names that are wanted. */
function sourcesOf({ sources }: ModelPlace, wanted: (name: string) => boolean): WeightSource[] {
  return sources
    .map((source) => {
      const tensors = new Map([...source.tensors].filter(([name]) => wanted(name)));
      return { ...source, tensors, isAdapter: [...tensors.keys()].some(isAdapterTensor) };
    })
    .filter(({ tensors }) => tensors.size > 0);
}

/** What a whole model's configuration says of a part. */
function partConfig(config: ConfigFile, parts: readonly PartName[]): ConfigFile[] {
  if (parts.includes('decoder')) {
    const kind = configKind(config);
    // The authors keep the decoder's fields at the top.
    if (kind !== 'llava') return kind === 'decoder' || kind === 'official' ? [config] : [];
    const { text_config: text, tie_word_embeddings: tied } = config.json;
    if (!isJsonObject(text)) return [];
    return [{ ...config, json: { ...text, ...(tied === true && { tie_word_embeddings: tied }) } }];
  }
  const vision = config.json['vision_config'];
  if (!parts.includes('vision') || !isJsonObject(vision)) return [];
  // A whole CLIP keeps more than its tower's settings, and its reader knows where.
  if (String(config.json['model_type']).startsWith('clip')) return [config];
  return [{ ...config, json: { model_type: 'clip_vision_model', ...vision } }];
}

/** A folder's `config.json`; for a file of XTuner's projector, the one beside it. */
async function configBeside({ path, layout }: WeightSource): Promise<ConfigFile | undefined> {
  const inside = await readConfigFile(join(path, 'config.json'));
  return inside === undefined && layout === 'projector'
    ? readConfigFile(join(dirname(path), 'config.json'))
    : inside;
}

interface BeneathOptions extends AssembleOptions {
  /** What was named. */
  readonly given: readonly ModelPlace[];
}

/** Adds what a place stands on, as far as nothing else was named for it. */
async function addBeneath(
  places: ModelPlace[],
  place: ModelPlace,
  options: BeneathOptions,
): Promise<void> {
  if ((place.provenance?.beneath.length ?? 0) > 0) {
    await addRecorded(places, place, place.provenance!, options);
    return;
  }
  for (const { layout, isAdapter, path, config } of place.sources) {
    const base = isAdapter ? config?.['base_model_name_or_path'] : undefined;
    if (typeof base !== 'string' || base === '') continue;
    if (place.role === 'projector' && holds([place], 'projector')) continue;
    if (holdsAll(places, layout)) continue;
    const beneath = { file: join(path, 'adapter_config.json'), name: base };
    const found = await named(beneath, 'the model beneath the adapter (--base)', options);
    const role = PARTS[place.role] === undefined ? 'base' : place.role;
    const below = await openAt(role, base, found, options);
    places.push(below);
    await addBeneath(places, below, options);
  }
}

/**
 * Whether every part that a model of a layout has is there. What lies on top may hold some modules of a decoder and a tower (embeddings,
 * norms, biases) and has none of them; a projector that it holds is whole.
 */
function holdsAll(places: readonly ModelPlace[], layout: LayoutName): boolean {
  const { prefixes }: Layout = LAYOUTS[layout];
  const ground = places.filter((each) => !isOnTop(each));
  return MODEL_PARTS.filter((part) => prefixes[part] !== undefined).every((part) =>
    holds(part === 'projector' ? places : ground, part),
  );
}

async function addRecorded(
  places: ModelPlace[],
  place: ModelPlace,
  { beneath }: Provenance,
  options: BeneathOptions,
): Promise<void> {
  const { given, onNotice, changedBase, decoderOnly = false, signal } = options;
  for (const each of beneath) {
    const role = roleBeneath(place, each);
    if (role === undefined || (role === 'vision' && place.role !== 'vision' && decoderOnly))
      continue;
    if (isGiven(given, role)) {
      const other = given.find((named) => named.role === role)?.name ?? 'What was named';
      onNotice?.(`${other} is taken in place of ${each.name}, which ${place.path} stands on.`);
      continue;
    }
    const path = await locate(each, {
      folder: place.path,
      what: `another (--${each.role})`,
      changed: changedBase,
      resolve: resolverOf(options),
      onNotice,
      signal,
    });
    // What is recorded as a decoder gave nothing else, though it be a whole model.
    const isDecoder = decoderOnly || each.role === 'llm';
    const below = await openAt(role, each.name, path, { ...options, decoderOnly: isDecoder });
    places.push(below);
    await addBeneath(places, below, options);
  }
}

/** What a recorded model is for the place above it; undefined where it gives nothing that is wanted. */
function roleBeneath(place: ModelPlace, { role }: Beneath): PlaceRole | undefined {
  switch (place.role) {
    case 'model':
    case 'base':
      return role;
    case 'llm':
      return role === 'vision' ? undefined : 'llm';
    case 'vision':
      return role === 'llm' ? undefined : 'vision';
    case 'projector':
      return role === 'base' && !holds([place], 'projector') ? 'projector' : undefined;
    case 'adapter':
      return undefined;
  }
}

/** Whether something was named that makes a recorded model of this role needless. */
function isGiven(places: readonly ModelPlace[], role: PlaceRole): boolean {
  const ground = places.filter((each) => !isOnTop(each));
  switch (role) {
    case 'base':
      return (
        ground.some((each) => each.role === 'base') ||
        (holds(ground, 'decoder') && holds(ground, 'vision') && holds(places, 'projector'))
      );
    case 'llm':
      return holds(ground, 'decoder');
    case 'vision':
      return holds(ground, 'vision');
    case 'projector':
    case 'model':
    case 'adapter':
      return false;
  }
}

/** Whether there are weights of a part, not adapters alone. */
function holds(places: readonly ModelPlace[], part: PartName): boolean {
  return places.some(({ sources }) =>
    sources.some(({ tensors }) =>
      [...tensors.keys()].some(
        (name) => !isAdapterTensor(name) && partOf(name, LLAVA_PREFIXES) === part,
      ),
    ),
  );
}

/** A place that a file names, as a path relative to its folder or on the hub; `what` to name instead. */
export async function openNamed(
  role: PlaceRole,
  reference: { file: string; name: string },
  what: string,
  options: AssembleOptions,
): Promise<ModelPlace> {
  return openAt(role, reference.name, await named(reference, what, options), options);
}

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
async function near(folder: string, name: string, options: AssembleOptions): Promise<string> {
  const path = resolvePath(folder, name);
  const exists = await stat(path).then(
    () => true,
    () => false,
  );
  return exists ? path : await resolverOf(options)(name);
}

function resolverOf({ resolve, signal }: AssembleOptions): (name: string) => Promise<string> {
  return resolve ?? ((name) => resolveModel(name, { signal }));
}
