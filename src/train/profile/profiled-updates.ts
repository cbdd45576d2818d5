/** `train({ profile: N })`: which updates of a run are profiled, and where their trace goes. */

import { join } from 'node:path';

import type { Device } from '../../torch/index.js';
import type { ProfileEvent } from '../events.js';
import { UpdateRecorder } from './update-recorder.js';

/** Updates that go by first: kernels are compiled and chosen in them, and memory is taken from the device. */
const WARM_UP = 3;

export interface ProfiledUpdatesOptions {
  /** How many to profile. */
  readonly count: number;
  /** Updates that are done, and how many there will be. */
  readonly done: number;
  readonly target: number;
  readonly device: Device;
  readonly rank: number;
  /** Folder of the run. */
  readonly run: string;
}

export class ProfiledUpdates {
  private readonly first: number;
  private readonly last: number;
  private recorder: UpdateRecorder | undefined;

  /** Where few updates are left, fewer go by first, and fewer are profiled. */
  constructor(private readonly options: ProfiledUpdatesOptions) {
    const { count, done, target } = options;
    this.first = Math.max(done, Math.min(done + WARM_UP, target - count));
    this.last = Math.min(this.first + count, target);
  }

  /** Before an update. @param done updates */
  begin(done: number): void {
    if (done === this.first) this.recorder = new UpdateRecorder(this.options.device);
  }

  /** Whether those that are recorded are enough. @param done updates */
  isFull(done: number): boolean {
    return this.recorder !== undefined && done >= this.last;
  }

  /** Ends the profile, if one runs. @param done updates */
  async end(done: number): Promise<ProfileEvent | undefined> {
    const { recorder, first } = this;
    const { run, rank } = this.options;
    this.recorder = undefined;
    if (recorder === undefined) return undefined;
    if (done === first) {
      recorder.discard();
      return undefined;
    }
    const name = `updates-${first + 1}-${done}-rank-${rank}.json.gz`;
    const trace = join(run, 'profile', name);
    return { type: 'profile', update: done, trace, ...(await recorder.stop(trace)) };
  }

  /** Throws away what is being recorded. */
  [Symbol.dispose](): void {
    this.recorder?.discard();
  }
}
