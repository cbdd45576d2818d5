/** How a run ended, written into its folder. */

import { PatinaError } from '../../base/errors.js';
import type { EndEvent } from '../events.js';
import type { HeldRun } from './held-run.js';

/** Says in the folder how the run ended. */
export async function endRun(
  run: HeldRun,
  { reason, update }: EndEvent,
  planned: number,
  why: unknown,
): Promise<void> {
  const goesOn = reason === 'interrupted' || reason === 'max-updates';
  await run.setState(goesOn ? 'interrupted' : 'finished', {
    updates: update,
    plannedUpdates: planned,
    ...(reason === 'max-updates' && { reason: `stopped after ${update} updates, as asked for` }),
    // A signal that is raised without a reason has an AbortError, which says nothing.
    ...(reason === 'interrupted' &&
      why instanceof Error &&
      why.name !== 'AbortError' && { reason: why.message }),
    ...(reason === 'early-stopped' && { reason: 'the validation loss no longer fell' }),
  });
}

/** Says in the folder why the run ended, as far as its disk still takes it. */
export async function failRun(run: HeldRun, update: number, error: unknown): Promise<void> {
  const { code = 'E_UNEXPECTED', hint } = error instanceof PatinaError ? error : {};
  const message = error instanceof Error ? error.message : String(error);
  const reason = message.split('\n')[0]!;
  const time = new Date().toISOString();
  try {
    await run.setState('failed', { updates: update, reason });
    run.folder?.events.write({ time, type: 'failed', update, code, reason: message, hint });
  } catch {
    // What ended the run says more than that it could not be written down.
  }
}
