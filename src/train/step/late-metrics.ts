/**
 * Numbers of an update, read one update late: they are copied to page-locked host memory behind the update's own work, and
 * reading waits for that copy alone, never for work given to the device since.
 */

import { DeviceEvent, empty, noGrad, scope, stack, type Tensor } from '../../torch/index.js';

export class LateMetrics<Name extends string> {
  private readonly names: readonly Name[];
  private readonly host: Tensor;
  private readonly copied: DeviceEvent;

  /** @param values device scalars */
  constructor(values: Readonly<Record<Name, Tensor>>) {
    this.names = Object.keys(values) as Name[];
    const tensors = this.names.map((name) => values[name]);
    const { device } = tensors[0]!;
    const onGpu = device.startsWith('cuda');
    this.host = noGrad(() =>
      scope(() => {
        const together = stack(tensors.map((value) => value.to('float32')));
        const target = {
          dtype: 'float32',
          device: device === 'meta' ? device : 'cpu',
          pinMemory: onGpu,
        } as const;
        return empty([tensors.length], target).copy_(together, onGpu);
      }),
    ).keep();
    this.copied = new DeviceEvent(device).record();
  }

  /** Waits for the copy, reads it and frees it. */
  read(): Record<Name, number> {
    this.copied.synchronize();
    const values = this.host.toTypedArray() as Float32Array;
    const read = Object.fromEntries(this.names.map((name, i) => [name, values[i]!]));
    this.dispose();
    return read as Record<Name, number>;
  }

  dispose(): void {
    this.host.dispose();
    this.copied.dispose();
  }
}
