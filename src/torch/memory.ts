/** Memory of a device: what is allocated, the peak, a limit. The CPU and the meta device count like a GPU. */

import { UsageError } from '../base/errors.js';
import { torchFacts } from './device.js';
import { B } from './door.js';
import { expectDone, expectValue } from './errors.js';
import { native, type Device } from './native.js';

export interface MemoryStats {
  /** Bytes in tensors. */
  readonly allocated: number;
  /** Largest `allocated` since the last `resetPeak`. */
  readonly peakAllocated: number;
  /** Bytes taken from the device, cached blocks included; equal to `allocated` on CPU and meta. */
  readonly reserved: number;
  readonly peakReserved: number;
  /** Allocations so far. */
  readonly allocations: number;
  /** Allocations that failed. */
  readonly failures: number;
  /** The limit of `setMemoryLimit`, where the device can tell it. */
  readonly limit: number | null;
}

/** What a device's allocator counts, in bytes. Memory-mapped files do not count. */
export function memoryStats(device: Device): MemoryStats {
  expectDone(native.memory(device), 'memoryStats()');
  return {
    allocated: B[0]!,
    peakAllocated: B[1]!,
    reserved: B[2]!,
    peakReserved: B[3]!,
    allocations: B[4]!,
    failures: B[5]!,
    limit: Number.isNaN(B[6]) ? null : B[6]!,
  };
}

/**
 * Bytes of a GPU that are taken beside what libtorch's allocator has of it: the context, what libraries hold, and all of other processes.
 * `null` for a device without memory of its own.
 */
export function bytesBeside(device: Device): number | null {
  if (!device.startsWith('cuda')) return null;
  const index = Number(/\d+$/.exec(device)?.[0] ?? 0);
  const { totalBytes } = torchFacts().cuda!.devices[index]!;
  const free = expectValue(native.freeMemory(device), 'bytesBeside()');
  return totalBytes - free - memoryStats(device).reserved;
}

/** Starts the peaks again from what is in use now. */
export function resetPeak(device: Device): void {
  expectDone(native.resetPeak(device), 'resetPeak()');
}

/** Gives cached blocks back to the system. */
export function emptyCache(device: Device): void {
  expectDone(native.emptyCache(device), 'emptyCache()');
}

/** Limits the bytes that may be allocated; `null` or Infinity lifts the limit. Beyond it, operators throw `OutOfMemoryError`. */
export function setMemoryLimit(device: Device, bytes: number | null): void {
  if (bytes !== null && !(bytes >= 0)) {
    throw new UsageError(`setMemoryLimit(): ${bytes} is no number of bytes`, {
      code: 'E_ARGUMENT',
      hint: 'Give bytes from 0, or null for no limit.',
    });
  }
  expectDone(native.setMemoryLimit(device, bytes ?? NaN), 'setMemoryLimit()');
}
