/**
 * All places of a model: what is named (the model, parts, adapters on top), and what lies beneath an adapter or a checkpoint, as its
 * provenance or its `adapter_config.json` says.
 */
import { join } from 'node:path';

import { DataError, PatinaError, UsageError } from '../../base/errors.js';
import { partOf } from '../../formats/layouts/rename.js';
import {
  type Layout,
  type LayoutName,
  LAYOUTS,
  LLAVA_PREFIXES,
  MODEL_PARTS,
} from '../../formats/layouts/tables.js';
import { locate } from '../provenance/locate.js';
import type { Beneath, Provenance } from '../provenance/provenance.js';
import {
  named,
  near,
  openAt,
  type OpenPlaceOptions,
  PARTS,
  resolverOf,
  sourcesOf,
} from './open-place.js';
import { holds, isOnTop, type ModelPlace, type PlaceRole } from './places.js';

export interface GatherOptions extends OpenPlaceOptions {
  /** Folder or hub name of the decoder, for what the source lacks. */
  llm?: string | undefined;
  /** Folder or hub name of the CLIP model. */
  vision?: string | undefined;
  /** File, folder or hub name of the projector, in place of the source's. */
  projector?: string | undefined;
  /** The model beneath adapters. @default what their configuration names */
  base?: string | undefined;
  /** PEFT adapters on top; where several hold the same tensor the last one counts. */
  adapters?: readonly string[] | undefined;
  /** Take what a checkpoint stands on also where it has changed since. @default false: it is refused */
  changedBase?: boolean | undefined;
  /** How to name another model of a role, for messages. @default by the option of that name */
  nameOther?: ((role: Beneath['role']) => string) | undefined;
  /** Is told what is taken in place of what a checkpoint stands on, and where that was found, a sentence each. */
  onNotice?: ((message: string) => void) | undefined;
}

/** In the order in which their files are asked; see `overlay` for their tensors. */
export async function gatherPlaces(source: string, options: GatherOptions): Promise<ModelPlace[]> {
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

/** What is named; errors about what stands beside the model say which part they are about. */
async function open(role: PlaceRole, name: string, options: GatherOptions): Promise<ModelPlace> {
  try {
    return await openAt(role, name, await near('.', name, options), options);
  } catch (error) {
    if (role !== 'model' && error instanceof PatinaError) {
      error.message = `${role} ${name}: ${error.message}`;
    }
    throw error;
  }
}

const byOption = (role: Beneath['role']): string => `another (--${role})`;

interface BeneathOptions extends GatherOptions {
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
    const found = await named(beneath, (options.nameOther ?? byOption)('base'), options);
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
  const { nameOther = byOption } = options;
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
      other: nameOther(each.role),
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
