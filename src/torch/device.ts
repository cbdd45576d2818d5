/** Devices: facts, synchronisation, streams and events, threads. The CPU is its own twin: one stream, events by host clock. */

import { setTimeout } from 'node:timers/promises';
import { UsageError } from '../base/errors.js';
import { expectDone, expectValue, isFailure, failureError } from './errors.js';
import { native, type Device, type TorchFacts } from './native.js';
import { refusePromise } from './refuse-promise.js';
import type { Tensor } from './tensor.js';

/**
 * Version, CPU capability, threads and GPUs of the libtorch in use.
 *
 * @param options.freeMemory ask each GPU for its free memory, which opens a context there, with some hundred MiB of it.
 *   @default false
 */
export function torchFacts({ freeMemory = false }: { freeMemory?: boolean } = {}): TorchFacts {
  return expectValue(native.facts(freeMemory), 'facts');
}

/** Whether a GPU can be used. */
export function cudaAvailable(): boolean {
  return torchFacts().cuda !== null;
}

/** Threads that one CPU operator may use. */
export function threads(): number {
  return native.threads();
}

/** Sets the threads that one CPU operator may use. Results on CPU are reproducible at equal counts only. */
export function setThreads(count: number): void {
  if (!Number.isInteger(count) || count < 1) {
    throw new UsageError(`setThreads(): ${count} is no number of threads`, {
      code: 'E_ARGUMENT',
      hint: 'Give a whole number from 1.',
    });
  }
  expectDone(native.setThreads(count), 'setThreads()');
}

/** Tensors that are alive, on all devices. */
export function liveTensors(): number {
  return native.liveTensors();
}

/** Waits until a device has done all work given to it. */
export function synchronize(device: Device): void {
  expectDone(native.synchronize(device), 'synchronize()');
}

/** The same without blocking the thread. */
export async function synchronizeAsync(device: Device): Promise<void> {
  const promise = expectValue(native.synchronizeAsync(device), 'synchronizeAsync()');
  try {
    await promise;
  } catch (failure) {
    throw isFailure(failure) ? failureError(failure, { operator: 'synchronizeAsync()' }) : failure;
  }
}

const isCuda = (device: Device): boolean => device.startsWith('cuda');

/** A GPU has streams, and so has the meta device, for what it tells of one. */
const hasStreams = (device: Device): boolean => isCuda(device) || device === 'meta';

/** A queue of work on a device; work in one stream runs in order, different streams may overlap. */
export class Stream {
  private constructor(
    readonly device: Device,
    /** Its handle; 0 for the only stream of a CPU. */
    readonly id: number,
  ) {}

  /** A stream beside the current one. */
  static create(device: Device): Stream {
    return new Stream(
      device,
      hasStreams(device) ? expectValue(native.newStream(device), 'stream') : 0,
    );
  }

  /** The stream that operators go to now. */
  static current(device: Device): Stream {
    return new Stream(
      device,
      hasStreams(device) ? expectValue(native.currentStream(device), 'stream') : 0,
    );
  }

  /**
   * Runs a synchronous function whose operators go to this stream.
   *
   * @throws UsageError `E_SCOPE_ASYNC` if the function returns a promise.
   */
  run<T>(body: () => T): T {
    const before = this.id === 0 ? null : expectValue(native.setStream(this.id), 'stream');
    try {
      const result = body();
      refusePromise(result, 'Stream.run', 'Call run() around each synchronous part.');
      return result;
    } finally {
      if (before !== null) native.setStream(before);
    }
  }

  /** Keeps a tensor's memory from being given out again before this stream has passed this point. */
  protect(tensor: Tensor): void {
    if (this.id !== 0) expectDone(native.recordStream(tensor.handle, this.id), 'protect()');
  }

  /** Makes later work in this stream wait for an event; the host does not wait. */
  wait(event: DeviceEvent): void {
    if (event.id !== 0) expectDone(native.waitEvent(event.id, this.id), 'wait()');
    else event.traceIn(this, true);
  }
}

/** Marks on the meta device so far. */
let marks = 0;

/** A mark in a stream. */
export class DeviceEvent {
  /** Its handle; 0 on the CPU and the meta device, negative once disposed. */
  id: number;
  private hostTime = NaN;
  /** Its number in the trace of a ghost run. */
  private readonly mark: number;

  /** @param options.timed allow `elapsedSince`. @default false */
  constructor(
    readonly device: Device,
    { timed = false }: { timed?: boolean } = {},
  ) {
    this.id = isCuda(device) ? expectValue(native.newEvent(device, timed), 'event') : 0;
    this.mark = device === 'meta' ? ++marks : 0;
  }

  /** Puts the mark at the end of a stream. */
  record(stream: Stream = Stream.current(this.device)): this {
    if (this.id !== 0) expectDone(native.recordEvent(this.id, stream.id), 'record()');
    else this.hostTime = performance.now();
    this.traceIn(stream, false);
    return this;
  }

  /** Tells the trace of a ghost run that a stream marks it, or waits for it. */
  traceIn({ id }: Stream, waits: boolean): void {
    if (this.mark > 0) expectDone(native.traceEvent(this.mark, id, waits), 'traceIn()');
  }

  /** Whether the device has reached the mark. */
  reached(): boolean {
    return this.id === 0 || expectValue(native.queryEvent(this.id), 'reached()');
  }

  /** Until the device has reached the mark, while other work of the thread goes on. */
  async passed(): Promise<void> {
    while (!this.reached()) await setTimeout(1);
  }

  /** Waits until the device has reached the mark. */
  synchronize(): void {
    if (this.id !== 0) expectDone(native.synchronizeEvent(this.id), 'synchronize()');
  }

  /** Milliseconds from another timed event to this one. */
  elapsedSince(earlier: DeviceEvent): number {
    if (this.id === 0 && earlier.id === 0) return this.hostTime - earlier.hostTime;
    return expectValue(native.elapsed(earlier.id, this.id), 'elapsedSince()');
  }

  dispose(): void {
    if (this.id > 0) expectDone(native.dropEvent(this.id), 'dispose()');
    this.id = -1;
  }

  [Symbol.dispose](): void {
    this.dispose();
  }
}
