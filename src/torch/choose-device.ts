/** Which device a command computes on: the one that is named, checked, or the first GPU, or the CPU. */

import { totalmem } from 'node:os';
import { EnvironmentError, UsageError } from '../base/errors.js';
import { plural } from '../base/format.js';
import { torchFacts } from './device.js';
import type { Device, TorchFacts } from './native.js';

export interface ChosenDevice {
  readonly device: Device;
  /** For people. */
  readonly name: string;
  /** Compute capability of a GPU, for example 9; `null` for the CPU. */
  readonly capability: number | null;
  /** Bytes of memory that it has. */
  readonly totalBytes: number;
}

/**
 * @param wanted `auto`, `cpu`, `cuda` (the first GPU) or `cuda:<index>`
 * @throws UsageError `E_DEVICE` for another name; EnvironmentError `E_NO_GPU` where there is none, `E_DEVICE` for an index that
 *   there is not
 */
export function chooseDevice(wanted: string, facts: TorchFacts = torchFacts()): ChosenDevice {
  if (!/^(auto|cpu|cuda(:\d+)?)$/.test(wanted)) {
    throw new UsageError(`There is no device "${wanted}".`, {
      code: 'E_DEVICE',
      hint: 'Use cpu, cuda, or cuda:1 for the second GPU.',
    });
  }
  const gpus = facts.cuda?.devices ?? [];
  if (wanted === 'cpu' || (wanted === 'auto' && gpus.length === 0)) {
    const totalBytes = Math.min(totalmem(), process.constrainedMemory() || Infinity);
    const { cpuCapability, threads } = facts;
    const name = `the CPU (${cpuCapability}, ${plural(threads, 'thread')})`;
    return { device: 'cpu', name, capability: null, totalBytes };
  }
  if (gpus.length === 0) {
    throw new EnvironmentError(`There is no GPU to use as ${wanted}.`, {
      code: 'E_NO_GPU',
      hint: 'Choose the device cpu; `patina doctor` tells what is wrong with a GPU.',
    });
  }
  const index = Number(/:(\d+)$/.exec(wanted)?.[1] ?? gpus[0]!.index);
  const gpu = gpus.find((each) => each.index === index);
  if (gpu === undefined) {
    const there = gpus.map((each) => `cuda:${each.index} (${each.name})`).join(', ');
    throw new EnvironmentError(`There is no device ${wanted}; there is ${there}.`, {
      code: 'E_DEVICE',
      hint: `Choose one that there is, such as cuda:${gpus[0]!.index}.`,
    });
  }
  return {
    device: `cuda:${index}`,
    name: `cuda:${index} (${gpu.name})`,
    capability: Number(gpu.capability),
    totalBytes: gpu.totalBytes,
  };
}
