/**
 * `Heartbeat`: every rank tells all others about once a second that it lives and which collective it is in. Where one is dead or
 * hangs, all ranks get the same error, which names it. Runs natively: see native/heartbeat.cc.
 */

import type { PatinaError } from '../base/errors.js';
import { expectDone, expectValue } from '../torch/errors.js';
import { native, type NativePeer } from '../torch/native.js';
import { launcher } from './launcher.js';
import { lossError } from './loss.js';
import { connectError, type Store } from './store.js';

export interface HeartbeatOptions {
  /** Milliseconds between two beats. @default 1_000 */
  readonly interval?: number;
  /** Milliseconds after which a rank that was not heard of counts as lost. @default 15_000 */
  readonly timeout?: number;
  /** Milliseconds after which a process that has heard of a loss and has not left is ended, with exit code 3. @default 30_000 */
  readonly grace?: number;
}

export class Heartbeat {
  /** What was lost, once something is. */
  error: PatinaError | undefined;
  /** Rejects what waits for others: a set, since what is chained to a promise that never settles stays for ever. */
  private readonly waiting = new Set<(error: PatinaError) => void>();
  /** Resolves when something is lost: if nothing is, never. */
  readonly lost: Promise<PatinaError>;

  private constructor(
    private readonly handle: number,
    /** Milliseconds within which every rank has heard of what happens now, or is lost itself. */
    readonly patience: number,
    /** Milliseconds within which what all ranks call now is known here. */
    readonly lag: number,
  ) {
    const told = expectValue(native.heartbeatLost(handle), 'Heartbeat');
    this.lost = new Promise((resolve) => {
      void told.then((text) => {
        if (text === undefined) return;
        const error = lossError(text);
        this.error = error;
        resolve(error);
        for (const reject of this.waiting) reject(error);
      });
    });
  }

  /**
   * Starts to beat; the keys `lost` and `heartbeat/RANK` of all ranks are in the store already.
   *
   * @throws EnvironmentError `E_STORE` if the store is not reached
   */
  static async open(
    { host, port }: Store,
    rank: number,
    size: number,
    { interval = 1_000, timeout = 15_000, grace = 30_000 }: HeartbeatOptions = {},
  ): Promise<Heartbeat> {
    const opened = expectValue(
      native.openHeartbeat(host, port, rank, size, interval, timeout, grace, launcher() ?? 0),
      'Heartbeat.open()',
    );
    const handle = await opened.catch((reason: unknown) => {
      throw connectError(reason, { host, port, timeout });
    });
    return new Heartbeat(handle, timeout + 4 * interval, 2 * interval);
  }

  /** What a promise resolves to, unless something is lost before. */
  async guard<T>(promise: Promise<T>): Promise<T> {
    if (this.error !== undefined) throw this.error;
    let leave: (error: PatinaError) => void = () => undefined;
    const loss = new Promise<never>((_, reject) => (leave = reject));
    this.waiting.add(leave);
    try {
      return await Promise.race([promise, loss]);
    } finally {
      this.waiting.delete(leave);
    }
  }

  /** Tells the others what this rank calls in a group. */
  call(group: string, text: string): void {
    expectDone(native.heartbeatCall(this.handle, group, text), 'Heartbeat.call()');
  }

  /** What each rank was last heard of. */
  peers(): readonly NativePeer[] {
    return expectValue(native.heartbeatPeers(this.handle), 'Heartbeat.peers()');
  }

  /** Ends all ranks with an error, as `lossError` reads it; the one that is reported first is what all of them get. */
  async report(loss: string): Promise<PatinaError> {
    expectDone(native.reportLost(this.handle, loss), 'Heartbeat.report()');
    // The heartbeat alone does not keep the process alive.
    const alive = setInterval(() => undefined, 60_000);
    try {
      return await this.lost;
    } finally {
      clearInterval(alive);
    }
  }

  /** Leaves in order: the others no longer expect this rank. */
  async leave(): Promise<void> {
    await expectValue(native.leaveHeartbeat(this.handle), 'Heartbeat.leave()');
  }
}
