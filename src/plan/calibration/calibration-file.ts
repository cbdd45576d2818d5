/**
 * The file that keeps what runs have measured: one for each user and machine, small, whole or absent, written by one process at a time. A file
 * that holds something else is told of, and left as it is.
 */

import { mkdir, readFile, stat } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { z } from 'zod';
import { DataError } from '../../base/errors.js';
import { cacheHome } from '../../base/hub/settings.js';
import { jsonText } from '../../base/json-text.js';
import { waitForLock } from '../../base/lock-file.js';
import { packageVersion } from '../../base/native-path.js';
import { errorCode, writing } from '../../base/system-error.js';
import { writeWholeFile } from '../../base/whole-file.js';
import { torchFacts } from '../../torch/index.js';
import { Calibration, type MeasuredRun, type Versions } from './calibration.js';

/** Newest runs of a kind, on a card with its versions, and of all kinds. */
const OF_A_KIND = 15;
const IN_ALL = 300;

/** Bytes; a full file has a third of it. */
const LARGEST = 2 ** 18;

const format = z.strictObject({
  format: z.literal('patina calibration 1'),
  runs: z.array(
    z.strictObject({
      at: z.iso.datetime(),
      ...{ card: z.string(), libtorch: z.string(), patina: z.string(), kind: z.string() },
      ranks: z.number().int().positive(),
      time: z.number().positive().nullable(),
      context: z.number().int().nonnegative().nullable(),
    }),
  ),
});

/**
 * Where it lies: `patina/calibration.json` in the user's folder of caches, or where `PATINA_CALIBRATION` says.
 *
 * @returns `null` where that is `off`: nothing is kept, and nothing used
 */
export function calibrationPath(env: NodeJS.ProcessEnv = process.env): string | null {
  const chosen = env['PATINA_CALIBRATION'];
  if (chosen === 'off') return null;
  return chosen || join(cacheHome(env), 'patina', 'calibration.json');
}

/** Of this Patina and its libtorch, of which what stands for CPU or CUDA is left out. */
export function versionsHere(): Versions {
  return { libtorch: torchFacts().version.replace(/\+.*$/, ''), patina: packageVersion() };
}

/** @throws those of `readRuns` */
export async function readCalibration(path: string): Promise<Calibration> {
  return new Calibration(await readRuns(path), versionsHere());
}

/**
 * The runs that a file holds, the newest last; none where there is no file.
 *
 * @throws DataError `E_CALIBRATION` for a file that holds something else
 */
export async function readRuns(path: string): Promise<readonly MeasuredRun[]> {
  try {
    const { size } = await stat(path);
    if (size > LARGEST) throw new Error(`it has ${size} bytes, and may have ${LARGEST}`);
    return format.parse(JSON.parse(await readFile(path, 'utf8'))).runs;
  } catch (cause) {
    if (errorCode(cause) === 'ENOENT') return [];
    const why = cause instanceof z.ZodError ? z.prettifyError(cause) : (cause as Error).message;
    throw new DataError(`${path} holds no measurements of runs: ${why}`, {
      code: 'E_CALIBRATION',
      hint: 'Remove the file, or name another one, or `off`, with PATINA_CALIBRATION.',
      cause,
    });
  }
}

/**
 * Adds a run, and forgets the oldest of many.
 *
 * @throws those of `readRuns`, before anything is written; EnvironmentError where it cannot be written; the signal's reason
 */
export async function keepRun(
  path: string,
  run: MeasuredRun,
  { signal }: { readonly signal?: AbortSignal } = {},
): Promise<void> {
  await writing(path, 'keep what the run has measured', async () => {
    await mkdir(dirname(path), { recursive: true });
    using _ = await waitForLock(`${path}.lock`, { signal, interval: 20 });
    const runs = newest([...(await readRuns(path)), run]);
    await writeWholeFile(path, jsonText({ format: format.shape.format.value, runs }));
  });
}

function newest(runs: readonly MeasuredRun[]): MeasuredRun[] {
  const counts = new Map<string, number>();
  return runs
    .toReversed()
    .filter(({ card, libtorch, patina, ranks, kind }) => {
      const key = JSON.stringify([card, libtorch, patina, ranks, kind]);
      const count = (counts.get(key) ?? 0) + 1;
      counts.set(key, count);
      return count <= OF_A_KIND;
    })
    .slice(0, IN_ALL)
    .toReversed();
}
