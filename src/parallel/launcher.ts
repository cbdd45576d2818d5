/** The process on this machine that has started a rank: ranks end when it is gone. */

import { lossError } from './loss.js';

/** A launcher gives its process id here. */
export const LAUNCHER_VARIABLE = 'PATINA_LAUNCHER';

/** Milliseconds between two looks. */
const INTERVAL = 500;

/**
 * Who had started this process when it began: a launcher that dies before anybody asks for it was one all the same. One that is
 * not the parent and lives has started what started this process, which may well outlive it.
 */
const LAUNCHER = ((): number | undefined => {
  const pid = Number(process.env[LAUNCHER_VARIABLE] || NaN);
  if (!Number.isInteger(pid) || pid <= 0) return undefined;
  return pid === process.ppid || !exists(pid) ? pid : undefined;
})();

function exists(pid: number): boolean {
  try {
    return process.kill(pid, 0);
  } catch (error) {
    return (error as NodeJS.ErrnoException).code !== 'ESRCH';
  }
}

/** The process id of this rank's launcher, where that has started it itself. */
export const launcher = (): number | undefined => LAUNCHER;

/** Raised with `E_LAUNCHER_LOST` when the launcher is gone; for the time before a heartbeat looks after it. */
export class LauncherWatch implements Disposable {
  readonly signal: AbortSignal;
  private readonly timer: NodeJS.Timeout | undefined;

  constructor(rank: number) {
    const gone = new AbortController();
    this.signal = gone.signal;
    const pid = launcher();
    if (pid === undefined) return;
    this.timer = setInterval(() => {
      // A process whose parent is gone gets another one.
      if (process.ppid === pid) return;
      gone.abort(lossError(`E_LAUNCHER_LOST the process that started rank ${rank} is gone`));
    }, INTERVAL);
  }

  [Symbol.dispose](): void {
    clearInterval(this.timer);
  }
}
