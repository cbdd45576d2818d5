/** Which attention kernel a device runs. */
import { type AttentionKernel, attentionKernel } from '../../nn/index.js';
import { type Device, type DType, torchFacts } from '../../torch/index.js';

/** The best kernel for a device of this machine; the CPU's for meta. */
export function deviceKernel(device: Device, dtype: DType): AttentionKernel {
  if (!device.startsWith('cuda')) return 'cpu';
  const index = Number(device.split(':')[1] ?? 0);
  const card = torchFacts().cuda?.devices.find((each) => each.index === index);
  return attentionKernel({ device, dtype, computeCapability: Number(card?.capability ?? 0) });
}
