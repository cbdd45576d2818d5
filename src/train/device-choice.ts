/** Which device a run computes on: what the recipe names, checked, or the first GPU, or the CPU. */

import { totalmem } from 'node:os';
import { EnvironmentError } from '../base/errors.js';
import { torchFacts, type Device, type TorchFacts } from '../torch/index.js';

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
 * @param wanted `auto`, `cpu`, `cuda` or `cuda:<index>`
 * @throws EnvironmentError `E_NO_GPU` where there is none, `E_NO_DEVICE` for an index that there is not.
 */
export function chooseDevice(wanted: string, facts: TorchFacts = torchFacts()): ChosenDevice {
  const gpus = facts.cuda?.devices ?? [];
  if (wanted === 'cpu' || (wanted === 'auto' && gpus.length === 0)) {
    const totalBytes = Math.min(totalmem(), process.constrainedMemory() || Infinity);
    const { cpuCapability, threads } = facts;
    const name = `the CPU (${cpuCapability}, ${threads} ${threads === 1 ? 'thread' : 'threads'})`;
    return { device: 'cpu', name, capability: null, totalBytes };
  }
  if (gpus.length === 0) {
    throw new EnvironmentError(
      `The recipe asks for the device ${wanted}, and no GPU is in reach.`,
      {
        code: 'E_NO_GPU',
        hint: 'See `patina doctor` for what is missing, or train with `--set device=cpu`.',
      },
    );
  }
  const index = Number(/:(\d+)$/.exec(wanted)?.[1] ?? gpus[0]!.index);
  const gpu = gpus.find((each) => each.index === index);
  if (gpu === undefined) {
    const there = gpus.map((each) => `cuda:${each.index} (${each.name})`).join(', ');
    throw new EnvironmentError(`There is no device ${wanted}; there is ${there}.`, {
      code: 'E_NO_DEVICE',
      hint: `Choose one of these, for example \`--set device=cuda:${gpus[0]!.index}\`.`,
    });
  }
  return {
    device: `cuda:${index}`,
    name: `cuda:${index} (${gpu.name})`,
    capability: Number(gpu.capability),
    totalBytes: gpu.totalBytes,
  };
}
