/** Memory: what is counted and limited on the CPU and the meta device, and on the GPU where there is one. */

import { afterEach, describe, expect, test } from 'vitest';
import { OutOfMemoryError } from '../base/errors.js';
import {
  bytesBeside,
  cudaAvailable,
  empty,
  cat,
  emptyCache,
  memoryStats,
  ones,
  resetPeak,
  scope,
  setMemoryLimit,
  torchFacts,
  type Device,
} from './index.js';

const code = (value: string): unknown => expect.objectContaining({ code: value });
const MiB = 2 ** 20;
const devices: Device[] = cudaAvailable() ? ['cpu', 'meta', 'cuda:0'] : ['cpu', 'meta'];

describe.each(devices)('memory of %s', (device) => {
  afterEach(() => setMemoryLimit(device, null));

  test('counts what is allocated, the peak and the number of allocations', () => {
    scope(() => {
      resetPeak(device);
      const before = memoryStats(device);
      const x = empty([4, MiB], { device, dtype: 'uint8' });
      const y = empty([2, MiB], { device, dtype: 'uint8' });
      x.dispose();
      const after = memoryStats(device);
      expect(after.allocated - before.allocated).toBe(2 * MiB);
      expect(after.peakAllocated - before.allocated).toBe(6 * MiB);
      expect(after.allocations - before.allocations).toBe(2);
      expect(after.reserved).toBeGreaterThanOrEqual(after.allocated);
      resetPeak(device);
      expect(memoryStats(device).peakAllocated).toBe(after.allocated);
      y.dispose();
      emptyCache(device);
      expect(memoryStats(device).allocated).toBe(before.allocated);
    });
  });

  test('what is taken of it beside the allocator is told of a GPU', () => {
    const beside = bytesBeside(device);
    if (!device.startsWith('cuda')) {
      expect(beside).toBe(null);
      return;
    }
    const { totalBytes } = torchFacts().cuda!.devices[0]!;
    // A context takes some hundred MiB.
    expect(beside).toBeGreaterThan(100 * MiB);
    expect(beside! + memoryStats(device).reserved).toBeLessThanOrEqual(totalBytes);
  });

  test('stays within its limit: an error with the figures, and work goes on after it', () => {
    scope(() => {
      emptyCache(device);
      const before = memoryStats(device);
      setMemoryLimit(device, before.reserved + 64 * MiB);
      const x = empty([32, MiB], { device, dtype: 'uint8' });
      expect(() => empty([128, MiB], { device, dtype: 'uint8' })).toThrow(OutOfMemoryError);
      expect(() => cat([x, x])).toThrow(code('E_OUT_OF_MEMORY'));
      expect(memoryStats(device).failures - before.failures).toBeGreaterThanOrEqual(2);
      expect(memoryStats(device).allocated - before.allocated).toBe(32 * MiB);
      expect(ones([4], { device }).numel).toBe(4);
      setMemoryLimit(device, null);
      expect(cat([x, x]).numel).toBe(64 * MiB);
      setMemoryLimit(device, Infinity);
      expect(cat([x, x]).numel).toBe(64 * MiB);
      expect(memoryStats(device).limit).toBeNull();
    });
  });
});

test('the meta device counts in blocks of 512 bytes, as the CUDA allocator does', () => {
  scope(() => {
    const before = memoryStats('meta').allocated;
    empty([1], { device: 'meta' });
    expect(memoryStats('meta').allocated - before).toBe(512);
    empty([129], { device: 'meta' });
    expect(memoryStats('meta').allocated - before).toBe(512 + 1024);
  });
});

test('a meta tensor of any size costs nothing', () => {
  scope(() => {
    expect(empty([2 ** 40], { device: 'meta' }).bytes).toBe(2 ** 42);
  });
});

test('the limit shows; what is no limit is refused', () => {
  setMemoryLimit('cpu', 2 ** 40);
  expect(memoryStats('cpu').limit).toBe(2 ** 40);
  setMemoryLimit('cpu', null);
  expect(memoryStats('cpu').limit).toBeNull();
  for (const wrong of [-1, NaN]) {
    expect(() => setMemoryLimit('cpu', wrong)).toThrow(code('E_ARGUMENT'));
  }
});

test('what the system itself refuses is out of memory too', () => {
  expect(() => empty([2 ** 46])).toThrow(code('E_OUT_OF_MEMORY'));
});

test('small blocks are kept for the next tensor and never handed out twice', () => {
  scope(() => {
    const lists = Array.from({ length: 100 }, (_, i) => ones([1 + (i % 40)]).mul(i));
    lists.forEach((t, i) => {
      if (i % 3 === 0) t.dispose();
    });
    for (let i = 0; i < 60; i++) ones([1 + i]).mul(-1);
    lists.forEach((t, i) => {
      if (i % 3 !== 0) expect(t.amax([]).item() === i && t.amin([]).item() === i).toBe(true);
    });
  });
});
