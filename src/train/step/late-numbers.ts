/**
 * Numbers of an update, read one update late: they are copied to page-locked host memory behind the update's own work, and
 * reading waits for that copy alone, never for work given to the device since.
 */

import { cat, DeviceEvent, emptyOnHost, noGrad, scope, type Tensor } from '../../torch/index.js';

export class LateNumbers<Name extends string> {
  private readonly lengths: readonly (readonly [Name, number])[];
  private readonly host: Tensor;
  private readonly copied: DeviceEvent;

  /** @param values device tensors of any shape, joined into one vector in fp32 */
  constructor(values: Readonly<Record<Name, Tensor>>) {
    const named = Object.entries<Tensor>(values) as [Name, Tensor][];
    this.lengths = named.map(([name, { numel }]) => [name, numel]);
    const { device } = named[0]![1];
    const onGpu = device.startsWith('cuda');
    this.host = noGrad(() =>
      scope(() => {
        const together = cat(named.map(([, value]) => value.to('float32').reshape([-1])));
        return emptyOnHost(together.shape, 'float32', device).copy_(together, onGpu);
      }),
    ).keep();
    this.copied = new DeviceEvent(device).record();
  }

  /** Until the copy is there, without holding up the thread. */
  arrived(): Promise<void> {
    return this.copied.passed();
  }

  /** Waits for the copy, reads it and frees it. On meta, where nothing is computed, zeros. */
  read(): Record<Name, Float32Array> {
    this.copied.synchronize();
    const { host } = this;
    const values =
      host.device === 'meta' ? new Float32Array(host.numel) : (host.toTypedArray() as Float32Array);
    let at = 0;
    const read = Object.fromEntries(
      this.lengths.map(([name, length]) => [name, values.slice(at, (at += length))]),
    );
    this.dispose();
    return read as Record<Name, Float32Array>;
  }

  dispose(): void {
    this.host.dispose();
    this.copied.dispose();
  }
}
