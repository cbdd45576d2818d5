/** Opening a place: what lies there under which names, what of it is taken for a part, and what describes it. No tensor is read. */
import { stat } from 'node:fs/promises';
import { dirname, join, resolve as resolvePath } from 'node:path';

import { DataError } from '../../base/errors.js';
import { resolveModel } from '../../base/hub/resolve.js';
import { isAdapterTensor } from '../../formats/layouts/adapter-names.js';
import { inspect, type WeightSource } from '../../formats/layouts/inspect.js';
import { partOf } from '../../formats/layouts/rename.js';
import { LLAVA_PREFIXES, type PartName } from '../../formats/layouts/tables.js';
import { isJsonObject } from '../../formats/strict-json.js';
import { readProvenance } from '../provenance/provenance.js';
import { visionFamilyOf } from '../configs/vision-families.js';
import { configKind } from './assemble-config.js';
import { type ConfigFile, readConfigFile } from './config-file.js';
import { isOnTop, type ModelPlace, type PlaceRole } from './places.js';

export interface OpenPlaceOptions {
  /** Take the decoder of the source and of what lies beneath it, and no other part. @default false */
  decoderOnly?: boolean | undefined;
  /** Finds a model that a configuration names. @default the hub and its cache */
  resolve?: ((name: string) => Promise<string>) | undefined;
  /** Compare the checksums of torch's checkpoints. @default true */
  verify?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

/** What a part that is named by itself gives. */
export const PARTS: Readonly<Partial<Record<PlaceRole, readonly PartName[]>>> = {
  projector: ['projector'],
  llm: ['decoder', 'head'],
  vision: ['vision'],
};

export async function openAt(
  role: PlaceRole,
  name: string,
  path: string,
  { verify = true, decoderOnly = false, signal }: OpenPlaceOptions,
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
export function sourcesOf(
  { sources }: ModelPlace,
  wanted: (name: string) => boolean,
): WeightSource[] {
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
  if (visionFamilyOf(config.json['model_type']) !== undefined) return [config];
  return [{ ...config, json: { model_type: 'clip_vision_model', ...vision } }];
}

/** A folder's `config.json`; for a file of XTuner's projector, the one beside it. */
async function configBeside({ path, layout }: WeightSource): Promise<ConfigFile | undefined> {
  const inside = await readConfigFile(join(path, 'config.json'));
  return inside === undefined && layout === 'projector'
    ? readConfigFile(join(dirname(path), 'config.json'))
    : inside;
}

/** A place that a file names, as a path relative to its folder or on the hub; `what` to name instead. */
export async function openNamed(
  role: PlaceRole,
  reference: { file: string; name: string },
  what: string,
  options: OpenPlaceOptions,
): Promise<ModelPlace> {
  return openAt(role, reference.name, await named(reference, what, options), options);
}

export async function named(
  { file, name }: { file: string; name: string },
  what: string,
  options: OpenPlaceOptions,
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
export async function near(
  folder: string,
  name: string,
  options: OpenPlaceOptions,
): Promise<string> {
  const path = resolvePath(folder, name);
  const exists = await stat(path).then(
    () => true,
    () => false,
  );
  return exists ? path : await resolverOf(options)(name);
}

export function resolverOf({
  resolve,
  signal,
}: OpenPlaceOptions): (name: string) => Promise<string> {
  return resolve ?? ((name) => resolveModel(name, { signal }));
}
