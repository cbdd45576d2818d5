/** Finding weights that a checkpoint stands on again: they may have moved, and must not have changed. */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { stat } from 'node:fs/promises';
import { basename, dirname, join, resolve as resolvePath } from 'node:path';

import { DataError, PatinaError } from '../../base/errors.js';
import { inspect } from '../../formats/layouts/inspect.js';
import { storedParts } from '../../formats/stored.js';
import { isJsonObject } from '../../formats/strict-json.js';
import { fileDigest, weightsDigest } from '../../formats/weights-digest.js';
import { readConfigFile } from '../load/config-file.js';
import type { NamedWeights } from './provenance.js';

export interface IdentifyOptions {
  readonly signal?: AbortSignal | undefined;
}

/** What a folder or file is known by. */
export type Identity = Pick<NamedWeights, 'layout' | 'digest' | 'config'>;

/** Weights by their digest; a folder without any by that of its tokenizer. */
export async function identify(path: string, { signal }: IdentifyOptions = {}): Promise<Identity> {
  const tokenizer = join(path, 'tokenizer.json');
  try {
    const { sources } = await inspect(path, { verify: false, signal });
    const tensors = sources.flatMap((source) => [...source.tensors.values()].flatMap(storedParts));
    const config = await readConfigFile(join(path, 'config.json'));
    return {
      layout: sources[0]!.layout,
      digest: await weightsDigest(tensors, { signal }),
      config:
        config === undefined
          ? null
          : createHash('sha256')
              .update(JSON.stringify(sorted(config.json)))
              .digest('hex'),
    };
  } catch (error) {
    const hasNone = error instanceof DataError && error.code === 'E_NO_WEIGHTS';
    if (!hasNone || !existsSync(tokenizer)) throw error;
    return { layout: 'tokenizer', digest: await fileDigest(tokenizer, { signal }), config: null };
  }
}

export interface LocateOptions extends IdentifyOptions {
  /** Folder whose provenance names the weights: a checkpoint's, or a run's. */
  readonly folder: string;
  /** How to name others, for messages: `another (--base)`. */
  readonly other: string;
  /** Take them also where they have changed. @default false */
  readonly changed?: boolean | undefined;
  /** Finds a name on the hub. */
  readonly resolve: (name: string) => Promise<string>;
  /** Is told where they were found, if that is elsewhere. */
  readonly onNotice?: ((message: string) => void) | undefined;
}

/**
 * Where recorded weights lie now: as recorded, beside the run, or on the hub.
 *
 * @throws DataError `E_BASE_MISSING` where they are nowhere, `E_BASE_CHANGED` where others are in their place
 */
export async function locate(recorded: NamedWeights, options: LocateOptions): Promise<string> {
  const { folder, other: another, changed = false, onNotice, signal } = options;
  const tried: string[] = [];
  let other: { path: string; why: string } | undefined;
  for (const candidate of candidates(recorded, folder)) {
    const path = await find(candidate, options);
    if (path === undefined || tried.includes(path)) continue;
    tried.push(path);
    const why = await difference(recorded, path, { signal });
    if (why === undefined) {
      if (path !== recorded.path) onNotice?.(`${recorded.name} was found at ${path}.`);
      return path;
    }
    if (!candidate.isGuess) other ??= { path, why };
  }
  if (other === undefined) {
    throw new DataError(
      `${folder} stands on ${recorded.name}, which is no longer at ${recorded.path}, nor beside the run.`,
      { code: 'E_BASE_MISSING', hint: `Put it back, or name ${another}.` },
    );
  }
  if (changed) {
    onNotice?.(`${other.path} has changed since (${other.why}); it is taken all the same.`);
    return other.path;
  }
  throw new DataError(
    `${folder} stands on ${recorded.name}, and ${other.path} is not what it was: ${other.why}.`,
    {
      code: 'E_BASE_CHANGED',
      hint: `Put the old one back, name ${another}, or take it as it is now (--changed-base).`,
    },
  );
}

/** How weights differ from recorded ones; undefined where they do not. */
export async function difference(
  recorded: NamedWeights,
  path: string,
  options: IdentifyOptions,
): Promise<string | undefined> {
  try {
    const found = await identify(path, options);
    if (found.digest !== recorded.digest) return 'its weights are others';
    return found.config === recorded.config ? undefined : 'its config.json says something else';
  } catch (error) {
    if (error instanceof PatinaError) return error.message.replace(/\.$/, '');
    throw error;
  }
}

interface Candidate {
  readonly name: string;
  readonly isPath: boolean;
  /** Whether something else may well be called so. @default false */
  readonly isGuess?: boolean;
}

function* candidates({ name, path, near }: NamedWeights, folder: string): Generator<Candidate> {
  yield { name: path, isPath: true };
  const run = resolvePath(folder, '..', '..');
  for (const base of [folder, run]) yield { name: resolvePath(base, near), isPath: true };
  // Beside the checkpoint, the run, or the folder of runs.
  let above = folder;
  for (let level = 0; level < 5; level++) {
    above = dirname(above);
    yield { name: join(above, basename(path)), isPath: true, isGuess: true };
  }
  const [, commit] = /[\\/]snapshots[\\/]([0-9a-f]{40})$/.exec(path) ?? [];
  if (commit !== undefined && !name.includes('@')) {
    yield { name: `${name}@${commit}`, isPath: false };
  }
  // The name of a run stands for another checkpoint by now.
  yield { name, isPath: false, isGuess: commit === undefined };
}

async function find(
  { name, isPath }: Candidate,
  { resolve }: LocateOptions,
): Promise<string | undefined> {
  if (isPath) {
    const there = await stat(name).catch(() => undefined);
    return there === undefined ? undefined : name;
  }
  try {
    return await resolve(name);
  } catch (error) {
    if (error instanceof PatinaError) return undefined;
    throw error;
  }
}

/** With the keys in order, which a file may write in any. */
function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isJsonObject(value)) return value;
  const keys = Object.keys(value).sort();
  return Object.fromEntries(keys.map((key) => [key, sorted(value[key])]));
}
