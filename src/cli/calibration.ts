/** What earlier runs have measured, as commands use and keep it. A file that is none of ours, or cannot be written, ends no command. */
import { PatinaError } from '../base/errors.js';
import type { Calibration } from '../plan/calibration/calibration.js';
import {
  calibrationPath,
  keepRun,
  readCalibration,
  versionsHere,
} from '../plan/calibration/calibration-file.js';
import type { RunCalibration } from '../plan/calibration/run-calibration.js';
import type { Session } from './session.js';

/** How long a run waits for others that write the file. */
const PATIENCE = 10_000;

/** `undefined` where there is none, which is told where the file is broken. */
export async function openCalibration(session: Session): Promise<Calibration | undefined> {
  const path = calibrationPath();
  if (path === null) return undefined;
  return toldInPlace(session, 'runs before this one do not count', () => readCalibration(path));
}

/** Keeps what a run has measured, if it has anything to say. */
export async function keepCalibration(run: RunCalibration, session: Session): Promise<void> {
  const path = calibrationPath();
  const result = run.result(versionsHere());
  if (path === null || result === null) return;
  await toldInPlace(session, 'what this run has measured is not kept', () =>
    keepRun(path, result, { signal: AbortSignal.timeout(PATIENCE) }),
  );
}

async function toldInPlace<T>(
  session: Session,
  what: string,
  work: () => Promise<T>,
): Promise<T | undefined> {
  try {
    return await work();
  } catch (error) {
    const { message } = error as Error;
    const hint = error instanceof PatinaError ? `\nhint: ${error.hint}` : '';
    session.stderr.write(`warning: ${what}: ${message}${hint}\n`);
    return undefined;
  }
}
