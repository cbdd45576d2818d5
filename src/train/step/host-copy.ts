/** A tensor's values in host memory, page-locked where the tensor is on a GPU, so that copies overlap with computing. */

import { empty, noGrad, type Device, type Tensor } from '../../torch/index.js';

export class HostCopy {
  private readonly host: Tensor;
  private readonly device: Device;

  /** Copies in the current stream; the source may be freed right after. */
  constructor(source: Tensor) {
    const { shape, dtype, device } = source;
    this.device = device;
    const onGpu = device.startsWith('cuda');
    this.host = noGrad(() =>
      empty(shape, { dtype, device: device === 'meta' ? 'meta' : 'cpu', pinMemory: onGpu })
        .copy_(source, onGpu)
        .keep(),
    );
  }

  /** The values on the device that they came from. */
  restore(): Tensor {
    return noGrad(() =>
      this.device.startsWith('cuda')
        ? this.host.to(this.device, { nonBlocking: true })
        : this.host.clone(),
    );
  }

  dispose(): void {
    this.host.dispose();
  }
}
