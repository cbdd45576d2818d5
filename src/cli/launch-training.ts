/** `patina train --nproc`: starts the same command once for each rank of this machine. */
import { totalmem } from 'node:os';
import { join } from 'node:path';

import { EnvironmentError } from '../base/errors.js';
import { formatBytes } from '../base/format.js';
import { packageRoot } from '../base/native-path.js';
import { launchRanks, nodeFromEnvironment } from '../parallel/index.js';
import { torchFacts } from '../torch/index.js';
import { rankPatience } from '../train/index.js';
import { INTERRUPTED, type Session } from './session.js';

/** Host memory of its own that a rank takes before it has loaded anything, in bytes: measured 118 MiB on a CPU. */
const BARE_RANK = 118 * 2 ** 20;

/**
 * How many ranks a machine runs.
 *
 * @throws EnvironmentError `E_NO_GPU` for one on each GPU where there is none, `E_LAUNCH` for more than its memory holds
 */
export function ranksHere(nproc: number | 'gpus'): number {
  if (nproc !== 'gpus') return startable(nproc);
  const count = torchFacts().cuda?.devices.length ?? 0;
  if (count > 0) return count;
  throw new EnvironmentError('--nproc gpus: there is no GPU.', {
    code: 'E_NO_GPU',
    hint: 'Give a number of processes, or see `patina doctor` for what is wrong with a GPU.',
  });
}

/** A slip of the finger would stop the machine before any rank could say that it does not fit. */
function startable(processes: number): number {
  const memory = Math.min(totalmem(), process.constrainedMemory() || Infinity);
  if (processes * BARE_RANK <= memory) return processes;
  throw new EnvironmentError(
    `--nproc ${processes}: so many processes take ${formatBytes(processes * BARE_RANK)} before they load anything, and this machine has ${formatBytes(memory)}.`,
    { code: 'E_LAUNCH', hint: 'Start one process for each GPU, or for each few cores.' },
  );
}

/**
 * Whether training takes more processes than this one, by what is asked for and by how many machines there are.
 *
 * @throws EnvironmentError `E_RANKS` where this process is a rank itself
 */
export function needsLaunch(processes: number): boolean {
  return processes > 1 || nodeFromEnvironment() !== undefined;
}

/**
 * Runs the ranks to their end; the exit code is that of the one that failed first.
 *
 * @param args of `patina`
 * @throws EnvironmentError `E_RANK_LOST` for one that was killed, where nobody else has told it
 */
export async function launchTraining(
  args: readonly string[],
  { processes, session }: { readonly processes: number; readonly session: Session },
): Promise<void> {
  const node = nodeFromEnvironment();
  const { code, failure, told } = await launchRanks({
    command: [process.execPath, join(packageRoot(), 'bin/patina.js'), ...args],
    processes,
    ...(node && { node }),
    // Long enough for the others to hear of a rank that is lost, and to say so.
    grace: 2 * rankPatience().timeout,
  });
  session.exitCode = code;
  // A rank that was killed could not say so itself, and the first one may not have come to it.
  if (failure === null || !/killed/.test(failure) || told || code === INTERRUPTED) return;
  throw new EnvironmentError(failure, {
    code: 'E_RANK_LOST',
    hint: 'Was it out of memory (`dmesg`)? A run that has saved goes on with `patina train --resume` and the same --nproc.',
  });
}
