/**
 * What a rank other than the first prints: nothing to the terminal, where the first one speaks for all, and everything into
 * `logs/rank-N.log` of the run folder, once there is one.
 */
import { appendFileSync, mkdirSync } from 'node:fs';
import { join } from 'node:path';

import { writeError } from '../base/system-error.js';
import type { Output, Session } from './session.js';

export class RankLog implements Output {
  private path: string | undefined;
  private waiting = '';

  constructor(private readonly rank: number) {}

  get isOpen(): boolean {
    return this.path !== undefined;
  }

  /** @throws EnvironmentError `E_DISK_FULL`, `E_UNWRITABLE`, here and at each `write` from then on */
  open(run: string): void {
    const folder = join(run, 'logs');
    this.path = join(folder, `rank-${this.rank}.log`);
    try {
      mkdirSync(folder, { recursive: true });
    } catch (error) {
      throw writeError(error, folder, 'make the folder of logs');
    }
    this.write(`--- ${new Date().toISOString()}, process ${process.pid}\n`);
    this.write(this.waiting);
    this.waiting = '';
  }

  write(text: string): void {
    if (this.path === undefined) {
      this.waiting += text;
      return;
    }
    try {
      appendFileSync(this.path, text);
    } catch (error) {
      throw writeError(error, this.path, 'write the log of the rank');
    }
  }

  /** The same session, which writes here alone. */
  within(session: Session): Session {
    return {
      stdout: { write: () => undefined },
      stderr: this,
      inOrder: (work) => session.inOrder(work),
      get exitCode() {
        return session.exitCode;
      },
      set exitCode(code: number) {
        session.exitCode = code;
      },
    };
  }
}
