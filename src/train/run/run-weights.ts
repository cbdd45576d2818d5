/** The weights that a run has left, where its folder or a checkpoint is named as a model or a part of one. */
import { join } from 'node:path';

import { DataError } from '../../base/errors.js';
import {
  bestCheckpoint,
  checkBeforeReading,
  listCheckpoints,
  refuseUnreadable,
  type CheckedReading,
} from '../checkpoint/checkpoints.js';
import { readRunFacts } from './run-state.js';

/**
 * The checkpoint that the folder of a run stands for: the one with the lowest validation loss, else the newest. Any other
 * folder, file or name stands for itself, and so does none. A checkpoint is checked against its manifest.
 *
 * @throws DataError E_NO_CHECKPOINT for a run without any, E_CHECKPOINT_BROKEN
 */
export async function weightsIn<Path extends string | undefined>(
  path: Path,
  options?: CheckedReading,
): Promise<string | Path> {
  if (path === undefined) return path;
  const found = await standsFor(path);
  await checkBeforeReading(found, options);
  return found;
}

async function standsFor(path: string): Promise<string> {
  if ((await readRunFacts(path)) === undefined) return path;
  const folder = join(path, 'checkpoints');
  const checkpoints = await listCheckpoints(folder);
  await refuseUnreadable(folder, checkpoints);
  const chosen = bestCheckpoint(checkpoints) ?? checkpoints.at(-1);
  if (chosen !== undefined) return chosen.path;
  throw new DataError(`The run ${path} has no checkpoint yet.`, {
    code: 'E_NO_CHECKPOINT',
    hint: 'Let it train until it has saved, or name another run.',
  });
}
