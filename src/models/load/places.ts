/** Where the tensors of a model come from: folders and files, each with what it is for. */
import { isAdapterTensor } from '../../formats/layouts/adapter-names.js';
import type { WeightSource } from '../../formats/layouts/inspect.js';
import { partOf } from '../../formats/layouts/rename.js';
import { LLAVA_PREFIXES, type PartName } from '../../formats/layouts/tables.js';
import type { StoredTensor } from '../../formats/stored.js';
import type { Provenance } from '../provenance/provenance.js';
import type { ConfigFile } from './config-file.js';

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
      // The folder of a CLIP or SigLIP has a tokenizer too, which is not meant.
      ...sources
        .filter(({ layout }) => layout !== 'projector' && !layout.startsWith('clip'))
        .map((source) => source.path),
    ]);
  return [...new Set(folders)];
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

/** Whether there are weights of a part, not adapters alone. */
export function holds(places: readonly ModelPlace[], part: PartName): boolean {
  return places.some(({ sources }) =>
    sources.some(({ tensors }) =>
      [...tensors.keys()].some(
        (name) => !isAdapterTensor(name) && partOf(name, LLAVA_PREFIXES) === part,
      ),
    ),
  );
}
