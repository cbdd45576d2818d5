/** The run folder as ranks have it: the first makes and holds it, the others work in it, and all must see the same one. */

import { randomUUID } from 'node:crypto';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { EnvironmentError } from '../../base/errors.js';
import { writeError } from '../../base/system-error.js';
import { makeCommon } from '../../parallel/index.js';
import type { Ranks } from './ranks.js';
import type { RunFolder } from './run-folder.js';

/** What all ranks do with the folder of their run; those that do not hold it leave it as it is. */
export type HeldRun = Pick<
  RunFolder,
  'path' | 'checkpoints' | 'setState' | 'resume' | 'keepProvenance' | 'close'
> & {
  /** Where events are kept: on the first rank alone. */
  readonly folder: RunFolder | null;
};

export interface HoldOptions {
  /** Whether `open` makes the folder, which then goes again where a rank does not see it. @default false */
  readonly makes?: boolean;
}

/**
 * @param open how the first rank takes hold of the folder
 * @throws what `open` throws, on all ranks; EnvironmentError `E_RUN_UNSEEN` where a rank does not see the folder
 */
export async function holdRun(
  ranks: Ranks,
  open: () => Promise<RunFolder>,
  { makes = false }: HoldOptions = {},
): Promise<HeldRun> {
  let folder: RunFolder | undefined;
  const path = await ranks.first('run folder', async () => (folder = await open()).path);
  try {
    await requireSeen(ranks, path);
  } catch (error) {
    folder?.close();
    if (folder !== undefined && makes) await rm(path, { recursive: true, force: true });
    throw error;
  }
  return folder === undefined ? seenRun(path) : held(folder);
}

function held(folder: RunFolder): HeldRun {
  return {
    ...{ folder, path: folder.path, checkpoints: folder.checkpoints },
    setState: (...args) => folder.setState(...args),
    resume: (...args) => folder.resume(...args),
    keepProvenance: (...args) => folder.keepProvenance(...args),
    close: () => folder.close(),
  };
}

function seenRun(path: string): HeldRun {
  const nothing = (): Promise<void> => Promise.resolve();
  return {
    ...{ folder: null, path, checkpoints: join(path, 'checkpoints') },
    ...{ setState: nothing, resume: nothing, keepProvenance: nothing, close: () => undefined },
  };
}

/** All ranks look for what the first has written: a path may lead elsewhere on another machine. */
async function requireSeen(ranks: Ranks, path: string): Promise<void> {
  if (ranks.size === 1) return;
  const file = join(path, '.ranks');
  const written = await ranks.first('a file in the run folder', async () => {
    const text = randomUUID();
    await writeFile(file, text).catch((error: unknown) => {
      throw writeError(error, path, 'write into the run folder');
    });
    return text;
  });
  const found = await readFile(file, 'utf8').catch((error: unknown) => String(error));
  const told = await ranks.gather('whether the run folder is seen', {
    ...{ seen: found === written, host: hostname() },
  });
  if (ranks.speaks) await rm(file, { force: true });
  const blind = told.flatMap(({ seen, host }, rank) => (seen ? [] : [`rank ${rank} on ${host}`]));
  if (blind.length === 0) return;
  throw makeCommon(
    new EnvironmentError(
      `The run folder ${path} of rank 0 on ${told[0]!.host} is not seen by ${blind.join(', ')}.`,
      {
        code: 'E_RUN_UNSEEN',
        hint: 'Set `run.root` to a folder that all machines share, at the same path.',
      },
    ),
  );
}
