/**
 * Which of several kernels each operation of a model runs, chosen in one place for the device that the model is meant for, not for
 * the tensors at hand: on meta tensors, with the kernels of a card, a model calls the very operators that it will call there.
 */
import { type Device, type DType, torchFacts } from '../torch/index.js';
import type { AttentionKernel } from './attention.js';
import type { PatchKernel } from './patches.js';

export interface Kernels {
  readonly attention: AttentionKernel;
  readonly patches: PatchKernel;
}

/** How layers are built. */
export interface BuildOptions {
  /** Element type of the parameters. @default 'float32' */
  dtype?: DType;
  /** @default those of the CPU */
  kernels?: Kernels;
}

export const CPU_KERNELS: Kernels = { attention: 'cpu', patches: 'convolution' };

/** What a model is meant to compute on. */
export interface KernelTarget {
  device: Device;
  /** Of its weights. */
  dtype: DType;
  /** Of the card, for example 9.0; it need not be in this machine. @default that of the device in this machine */
  computeCapability?: number;
}

/** The best kernels for a target; meta stands for the CPU. */
export function kernelsFor({ device, dtype, computeCapability }: KernelTarget): Kernels {
  if (!device.startsWith('cuda')) return CPU_KERNELS;
  const capability = computeCapability ?? capabilityOf(device);
  return { attention: attentionOf(dtype, capability), patches: 'product' };
}

/** `cudnn` where it runs, else `efficient`, which lacks float64. */
function attentionOf(dtype: DType, capability: number): AttentionKernel {
  if (dtype === 'float64') return 'math';
  return dtype !== 'float32' && capability >= 8 ? 'cudnn' : 'efficient';
}

function capabilityOf(device: Device): number {
  const index = Number(device.split(':')[1] ?? 0);
  const card = torchFacts().cuda?.devices.find((each) => each.index === index);
  return Number(card?.capability ?? 0);
}
