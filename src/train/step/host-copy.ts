/**
 * A boundary in host memory. On a GPU it travels in side streams between page-locked memory and the device, so that neither copy
 * holds up computing: out behind the forward, back one segment ahead of the backward.
 */

import {
  DeviceEvent,
  empty,
  noGrad,
  Stream,
  type Device,
  type DType,
  type Tensor,
} from '../../torch/index.js';

/** The side streams of a device; streams come from a pool of the device's and are never given back. */
const sideStreams = new Map<Device, { out: Stream; back: Stream }>();

export function streamsOf(device: Device): { out: Stream; back: Stream } {
  const streams = sideStreams.get(device) ?? {
    out: Stream.create(device),
    back: Stream.create(device),
  };
  sideStreams.set(device, streams);
  return streams;
}

export class HostCopy {
  private readonly shape: readonly number[];
  private readonly dtype: DType;
  private readonly device: Device;
  /** `null` on meta: host memory is no memory of the device that a ghost run counts. */
  private readonly host: Tensor | null;
  private readonly left: DeviceEvent;
  private target: Tensor | undefined;
  private arrived: DeviceEvent | undefined;

  /** Begins to copy; the source may be freed right after. */
  constructor(source: Tensor) {
    const { shape, dtype, device } = source;
    this.shape = shape;
    this.dtype = dtype;
    this.device = device;
    const pinMemory = device.startsWith('cuda');
    const host = device === 'meta' ? null : noGrad(() => empty(shape, { dtype, pinMemory })).keep();
    this.host = host;
    const { out } = streamsOf(device);
    after(out, () => noGrad(() => host?.copy_(source, pinMemory)));
    out.protect(source);
    this.left = new DeviceEvent(device).record(out);
  }

  /** Begins to bring the values back: from here on they take memory of the device. */
  fetch(): void {
    if (this.target !== undefined) return;
    const { shape, dtype, device, host } = this;
    const { back } = streamsOf(device);
    // Made in the stream that will use it, so that its memory is that stream's.
    const target = noGrad(() => empty(shape, { dtype, device })).keep();
    this.target = target;
    back.wait(this.left);
    after(back, () => noGrad(() => host && target.copy_(host, device.startsWith('cuda'))));
    this.arrived = new DeviceEvent(device).record(back);
  }

  /** The values on the device that they came from; they live as long as this. */
  take(): Tensor {
    this.fetch();
    this.settle();
    return this.target!;
  }

  dispose(): void {
    this.settle();
    this.target?.dispose();
    this.host?.dispose();
    this.left.dispose();
  }

  /** Work of the current stream comes after the copy. */
  private settle(): void {
    if (this.arrived === undefined) return;
    Stream.current(this.device).wait(this.arrived);
    this.arrived.dispose();
    this.arrived = undefined;
  }
}

/** Runs `body` in a side stream, after what the current stream was given so far. */
export function after<T>(side: Stream, body: () => T): T {
  using given = new DeviceEvent(side.device).record();
  side.wait(given);
  return side.run(body);
}
