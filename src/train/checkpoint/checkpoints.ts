/**
 * The checkpoints of a run: folders `update-00000500`, each whole or absent, with a manifest of hashes. What lies in
 * them is the business of whoever writes them.
 */
import { readdir, readFile, rename, rm, stat, writeFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';

import { PatinaError } from '../../base/errors.js';
import { jsonText } from '../../base/json-text.js';
import { errorCode, writing } from '../../base/system-error.js';
import { WholeFolder } from '../../base/whole-folder.js';
import { ALONE, onFirst, type Peers } from '../../parallel/peers.js';
import {
  broken,
  checkHashes,
  hashFolder,
  MANIFEST,
  TRAINER_STATE,
  type FileHashes,
} from './manifest.js';

export interface Checkpoint {
  path: string;
  /** Updates that were done when it was written. */
  update: number;
  /** Loss on the validation data at that time; null if none was taken, or it was not finite. */
  validationLoss: number | null;
  /** Scores of tasks at that time, by name. */
  scores: Readonly<Record<string, number>>;
  /** Which of the scores decides what is best; null where the loss does. */
  bestBy: string | null;
  /** When it was written, ISO 8601. */
  created: string;
  bytes: number;
}

interface Manifest {
  format: 1;
  update: number;
  validationLoss: number | null;
  /** @default none */
  scores?: Readonly<Record<string, number>> | undefined;
  /** Which of them decides what is best. @default the loss */
  bestBy?: string | undefined;
  created: string;
  files: FileHashes;
}

export interface WriteCheckpointOptions {
  update: number;
  validationLoss?: number | undefined;
  /** @default none */
  scores?: Readonly<Record<string, number>> | undefined;
  /** @default the loss decides */
  bestBy?: string | undefined;
  /** Fills the empty folder that it gets, on every rank; what may fail there, it does with all of them together. */
  write: (folder: string) => Promise<void>;
  /** All who write it. @default this process alone */
  peers?: Peers | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Writes a checkpoint into `folder`: filled under another name, hashed, synced, renamed. One of the same update, left
 * by a run that went back, is replaced. Every rank calls it; rank 0 makes it visible once all are done.
 *
 * @throws EnvironmentError E_DISK_FULL, E_UNWRITABLE; nothing is left behind.
 */
export async function writeCheckpoint(
  folder: string,
  { update, validationLoss, scores, bestBy, write, peers = ALONE, signal }: WriteCheckpointOptions,
): Promise<Checkpoint> {
  const path = join(folder, `update-${String(update).padStart(8, '0')}`);
  let whole: WholeFolder | undefined;
  try {
    const temporary = await onFirst(peers, 'a new checkpoint', async () => {
      whole = await WholeFolder.begin(path, { what: 'checkpoint', replace: true });
      return whole.temporary;
    });
    await write(temporary);
    const files = await hashFolder(temporary, peers, signal);
    const manifest = await onFirst(peers, 'the checkpoint is whole', () =>
      writing(path, 'write the checkpoint', async () => {
        const made: Manifest = {
          format: 1,
          update,
          validationLoss: Number.isFinite(validationLoss) ? validationLoss! : null,
          ...(scores !== undefined && Object.keys(scores).length > 0 && { scores }),
          ...(bestBy !== undefined && { bestBy }),
          created: new Date().toISOString(),
          files,
        };
        await writeFile(join(temporary, MANIFEST), jsonText(made));
        await whole!.commit();
        return made;
      }),
    );
    return summary(path, manifest);
  } catch (error) {
    throw whole === undefined ? error : await whole.abandon(error);
  }
}

/** The checkpoints in `folder` by update, oldest first; one without a readable manifest is left out. */
export async function listCheckpoints(folder: string): Promise<Checkpoint[]> {
  const found: Checkpoint[] = [];
  for (const path of await candidates(folder)) {
    const manifest = await readManifest(path).catch(() => undefined);
    if (manifest !== undefined) found.push(summary(path, manifest));
  }
  return found.sort((a, b) => a.update - b.update);
}

/**
 * @param checkpoints the readable ones in `folder`
 * @throws DataError E_CHECKPOINT_BROKEN where a newer one has no readable manifest: older weights are not what was asked for
 */
export async function refuseUnreadable(
  folder: string,
  checkpoints: readonly Checkpoint[],
): Promise<void> {
  const newest = (await candidates(folder)).at(-1);
  if (newest !== undefined && newest !== checkpoints.at(-1)?.path) await readManifest(newest);
}

/**
 * Reads a checkpoint's manifest and checks every file against it.
 *
 * @throws DataError E_CHECKPOINT_BROKEN
 */
export async function verifyCheckpoint(path: string, signal?: AbortSignal): Promise<Checkpoint> {
  const manifest = await readManifest(path);
  await checkHashes(path, manifest.files, { signal });
  return summary(path, manifest);
}

/** Files up to this size are hashed whenever a checkpoint is read: all but weights and the optimizer's moments. */
const SMALL = 2 ** 25;

export interface CheckedReading {
  /** Hash weights too, which takes about a second a gigabyte; else their size has to do. @default false */
  thorough?: boolean | undefined;
  signal?: AbortSignal | undefined;
}

/**
 * Checks the folder of a checkpoint, or of one of its files, before it is read as a model or a part of one. What is no
 * checkpoint passes. Files may have been put beside those of a checkpoint; in a copy under another name all but the weights are
 * its owner's to change.
 *
 * @throws DataError E_CHECKPOINT_BROKEN
 */
export async function checkBeforeReading(
  path: string,
  { thorough = false, signal }: CheckedReading = {},
): Promise<void> {
  const folder = (await isFile(path)) ? dirname(path) : path;
  const inside = await names(folder).catch((): string[] => []);
  if (!inside.includes(MANIFEST) || !inside.includes(TRAINER_STATE)) return;
  const { files } = await readManifest(folder);
  const isCopy = !NAME.test(basename(resolve(folder)));
  const ofCopy = ([name]: [string, unknown]): boolean =>
    WEIGHTS.test(name) && inside.includes(name);
  const checked = isCopy ? Object.fromEntries(Object.entries(files).filter(ofCopy)) : files;
  const hashUpTo = thorough ? Infinity : SMALL;
  await checkHashes(folder, checked, { hashUpTo, surplus: true, signal });
}

async function isFile(path: string): Promise<boolean> {
  return (await stat(path).catch(() => undefined))?.isFile() === true;
}

export interface NewestWhole {
  checkpoint: Checkpoint | undefined;
  /** Newer ones that are damaged, to be told to the user. */
  damaged: PatinaError[];
}

/** The newest checkpoint whose files are all as they were written. */
export async function newestWhole(folder: string, signal?: AbortSignal): Promise<NewestWhole> {
  const damaged: PatinaError[] = [];
  for (const path of (await candidates(folder)).reverse()) {
    try {
      return { checkpoint: await verifyCheckpoint(path, signal), damaged };
    } catch (error) {
      if (!(error instanceof PatinaError)) throw error;
      damaged.push(error);
    }
  }
  return { checkpoint: undefined, damaged };
}

/**
 * The checkpoint with the lowest validation loss, or with the highest score of the task that decides in the newest one, the newest of
 * equals; undefined if none has one.
 */
export function bestCheckpoint(checkpoints: readonly Checkpoint[]): Checkpoint | undefined {
  const by = checkpoints.at(-1)?.bestBy ?? null;
  let best: { readonly checkpoint: Checkpoint; readonly worth: number } | undefined;
  for (const checkpoint of checkpoints) {
    const { validationLoss, scores } = checkpoint;
    const value = by === null ? validationLoss : scores[by];
    if (value === null || value === undefined) continue;
    const worth = by === null ? -value : value;
    if (best === undefined || worth >= best.worth) best = { checkpoint, worth };
  }
  return best?.checkpoint;
}

export interface PruneOptions {
  keep: number;
  keepBest: boolean;
  /** Updates of the checkpoint that was written last. */
  update: number;
}

/**
 * Removes all but the newest `keep` checkpoints and, with `keepBest`, the best one; and what writers that died have
 * left. Only for who holds the run. Returns the paths removed.
 */
export async function pruneCheckpoints(
  folder: string,
  { keep, keepBest, update }: PruneOptions,
): Promise<string[]> {
  const checkpoints = await listCheckpoints(folder);
  // Later ones were damaged, and the run has gone back before them: they must not take the place of whole ones.
  const valid = checkpoints.filter((checkpoint) => checkpoint.update <= update);
  const kept = new Set(valid.slice(-keep));
  const best = keepBest ? bestCheckpoint(valid) : undefined;
  if (best !== undefined) kept.add(best);
  const removed: string[] = [];
  for (const checkpoint of checkpoints) {
    if (kept.has(checkpoint)) continue;
    // Renamed first: half a checkpoint must not bear the name of a whole one.
    const aside = join(folder, `.${basename(checkpoint.path)}.removed`);
    await rm(aside, { recursive: true, force: true });
    await rename(checkpoint.path, aside);
    removed.push(checkpoint.path);
  }
  for (const name of await names(folder)) {
    if (LEFTOVER.test(name)) await rm(join(folder, name), { recursive: true, force: true });
  }
  return removed;
}

const NAME = /^update-\d+$/;
const WEIGHTS = /\.safetensors$/;
const LEFTOVER = /^\.update-\d+\.(partial|replaced|removed)/;

/** Folders that bear the name of a checkpoint, oldest first. */
async function candidates(folder: string): Promise<string[]> {
  const found = (await names(folder)).filter((name) => NAME.test(name));
  return found
    .sort((a, b) => Number(a.slice('update-'.length)) - Number(b.slice('update-'.length)))
    .map((name) => join(folder, name));
}

async function readManifest(path: string): Promise<Manifest> {
  let manifest: Partial<Manifest> | null;
  try {
    manifest = JSON.parse(await readFile(join(path, MANIFEST), 'utf8')) as typeof manifest;
  } catch (cause) {
    throw broken(path, `${MANIFEST} cannot be read`, cause);
  }
  const { format, update, validationLoss, scores, bestBy, created, files } = manifest ?? {};
  const valid =
    format === 1 &&
    Number.isInteger(update) &&
    (validationLoss === null || Number.isFinite(validationLoss)) &&
    Object.values(scores ?? {}).every(Number.isFinite) &&
    ['undefined', 'string'].includes(typeof bestBy) &&
    typeof created === 'string' &&
    Object.values(files ?? { missing: null }).every(
      (file) => Number.isInteger(file?.bytes) && /^[0-9a-f]{64}$/.test(String(file?.sha256)),
    );
  if (!valid) throw broken(path, `${MANIFEST} is not one of a checkpoint`);
  return manifest as Manifest;
}

function summary(path: string, manifest: Manifest): Checkpoint {
  const { update, validationLoss, scores = {}, bestBy = null, created, files } = manifest;
  const bytes = Object.values(files).reduce((sum, file) => sum + file.bytes, 0);
  return { path, update, validationLoss, scores, bestBy, created, bytes };
}

async function names(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (errorCode(error) === 'ENOENT') return [];
    throw error;
  }
}
