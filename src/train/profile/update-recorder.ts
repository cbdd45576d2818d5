/** Records updates on a device, and says where their time went. */

import { createReadStream, createWriteStream, mkdirSync } from 'node:fs';
import { rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { pipeline } from 'node:stream/promises';
import { createGzip } from 'node:zlib';

import { writeError } from '../../base/system-error.js';
import {
  cardTeraflops,
  startProfile,
  synchronize,
  torchFacts,
  type Device,
  type RunningProfile,
} from '../../torch/index.js';
import { stepProfile, type StepProfile } from './step-profile.js';

export class UpdateRecorder {
  private readonly profile: RunningProfile;

  /** Begins, once the device has done what it was given before. @throws UsageError `E_PROFILE` while another profile runs */
  constructor(private readonly device: Device) {
    synchronize(device);
    this.profile = startProfile(device);
  }

  /**
   * Ends it, once the device is done; nothing is recorded after this call.
   *
   * @param path of the trace, gzipped, in the Trace Event Format: `*.json.gz`
   * @throws EnvironmentError `E_DISK_FULL`, `E_UNWRITABLE`
   */
  async stop(path: string): Promise<StepProfile> {
    const plain = `${path}.part`;
    synchronize(this.device);
    try {
      mkdirSync(dirname(path), { recursive: true });
      const activities = await this.profile.stop(plain);
      await compress(plain, path);
      return stepProfile(activities, { teraflops: teraflopsOf(this.device) });
    } catch (error) {
      this.profile.discard(); // before it could be written, it was still running
      throw writeError(error, path, 'write the trace of the profile');
    } finally {
      // What keeps it from being removed kept it from being written, and that is what is said.
      await rm(plain, { force: true }).catch(() => undefined);
    }
  }

  /** Ends it, and leaves nothing of it. */
  discard(): void {
    this.profile.discard();
  }
}

async function compress(from: string, to: string): Promise<void> {
  const half = `${to}.half`;
  await pipeline(createReadStream(from), createGzip(), createWriteStream(half));
  await rename(half, to);
}

function teraflopsOf(device: Device): number | undefined {
  const index = /^cuda:(\d+)$/.exec(device)?.[1];
  const card = torchFacts().cuda?.devices.find((each) => String(each.index) === index);
  return card && cardTeraflops(card.name);
}
