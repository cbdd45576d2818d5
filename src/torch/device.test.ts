/** Devices: facts, streams and events (the CPU is its own twin), waiting, threads. */

import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { nativeLibrary } from '../base/native-path.js';
import { failureError } from './errors.js';
import {
  arange,
  cudaAvailable,
  DeviceEvent,
  empty,
  ones,
  scope,
  setThreads,
  Stream,
  synchronize,
  synchronizeAsync,
  threads,
  torchFacts,
  type Device,
} from './index.js';
import type { NativeFailure } from './native.js';

const code = (value: string): unknown => expect.objectContaining({ code: value });
const devices: Device[] = cudaAvailable() ? ['cpu', 'meta', 'cuda:0'] : ['cpu', 'meta'];

test('facts name the version, the CPU and the GPUs', () => {
  const facts = torchFacts();
  expect(facts.version).toMatch(/^2\.\d+/);
  expect(facts.cpuCapability).not.toBe('');
  expect(facts.cuda !== null).toBe(cudaAvailable());
  for (const gpu of facts.cuda?.devices ?? []) {
    expect(gpu.totalBytes).toBeGreaterThan(0);
    expect(gpu).not.toHaveProperty('freeBytes');
    expect(gpu.capability).toMatch(/^\d+\.\d$/);
  }
});

test('free memory of GPUs is measured where it is asked for', () => {
  for (const gpu of torchFacts({ freeMemory: true }).cuda?.devices ?? []) {
    expect(gpu.freeBytes).toBeGreaterThan(0);
    expect(gpu.freeBytes).toBeLessThan(gpu.totalBytes);
  }
});

describe.each(devices)('streams and events on %s', (device) => {
  test('work in a stream is ordered by events', () => {
    scope(() => {
      const x = ones([1000], { device });
      const stream = Stream.create(device);
      using ready = new DeviceEvent(device).record();
      stream.wait(ready);
      const y = stream.run(() => x.add(1));
      using done = new DeviceEvent(device).record(stream);
      y.keep();
      stream.protect(x);
      Stream.current(device).wait(done);
      done.synchronize();
      expect(done.reached()).toBe(true);
      if (device !== 'meta') expect(y.sum(null).item()).toBe(2000);
      y.dispose();
    });
  });

  test('a tensor goes to host memory and back on a side stream', () => {
    scope(() => {
      const x = arange(0, 100_000, 1, { device });
      const here = Stream.current(device);
      const side = Stream.create(device);
      using made = new DeviceEvent(device).record(here);
      side.wait(made);
      const host = empty([100_000], { pinMemory: device === 'cuda:0' });
      if (device !== 'meta') side.run(() => host.copy_(x, true));
      side.protect(x);
      x.dispose();
      const y = side.run(() => host.to({ device }, { nonBlocking: true }));
      using returned = new DeviceEvent(device).record(side);
      here.wait(returned);
      here.protect(y);
      const sum = y.sum(null, false, { dtype: 'float64' });
      if (device !== 'meta') expect(sum.item()).toBe(4_999_950_000);
    });
  });

  test('an exception restores the stream', () => {
    const before = Stream.current(device).id;
    expect(() =>
      Stream.create(device).run(() => {
        throw new Error('stop');
      }),
    ).toThrow('stop');
    expect(Stream.current(device).id).toBe(before);
    expect(() => Stream.create(device).run(() => Promise.resolve())).toThrow(code('E_SCOPE_ASYNC'));
    expect(Stream.current(device).id).toBe(before);
  });

  test('timed events measure', () => {
    scope(() => {
      const start = new DeviceEvent(device, { timed: true }).record();
      const x = ones([256, 256], { device });
      for (let i = 0; i < 20; i++) x.matmul(x);
      const end = new DeviceEvent(device, { timed: true }).record();
      end.synchronize();
      expect(end.elapsedSince(start)).toBeGreaterThanOrEqual(0);
      start.dispose();
      end.dispose();
      end.dispose();
    });
  });

  test('waiting blocks, or does not', async () => {
    synchronize(device);
    let ticked = false;
    const waiting = synchronizeAsync(device).then(() => ticked);
    ticked = true;
    expect(await waiting).toBe(true);
  });
});

test('devices that are not there or not used are named', async () => {
  expect(() => empty([1], { device: 'cuda:99' })).toThrow(code('E_DEVICE'));
  expect(() => empty([1], { device: 'mps' as Device })).toThrow(code('E_DEVICE'));
  expect(() => empty([1], { device: 'gpu' as Device })).toThrow(code('E_DEVICE'));
  expect(() => synchronize('cuda:99')).toThrow(code('E_DEVICE'));
  await expect(synchronizeAsync('cuda:99')).rejects.toThrow(code('E_DEVICE'));
  expect(() => Stream.create('cuda:99')).toThrow(code('E_DEVICE'));
});

test('threads are set and checked', () => {
  const before = threads();
  setThreads(2);
  expect(threads()).toBe(2);
  setThreads(before);
  for (const wrong of [0, 1.5, NaN]) expect(() => setThreads(wrong)).toThrow(code('E_ARGUMENT'));
});

test('tensor code on a second thread is refused', async () => {
  const source = `
    const { parentPort, workerData } = require('node:worker_threads');
    const native = require(workerData);
    parentPort.postMessage([native.setBuffer(new Float64Array(8)), native.release(0), native.facts()]);
  `;
  const worker = new Worker(source, { eval: true, workerData: nativeLibrary('patina') });
  const failures = await new Promise<NativeFailure[]>((resolve, reject) => {
    worker.once('message', resolve);
    worker.once('error', reject);
  });
  await worker.terminate();
  expect(failures).toHaveLength(3);
  for (const failure of failures) {
    expect(failureError(failure, { operator: 'add()' })).toMatchObject({
      name: 'ThreadError',
      code: 'E_THREAD',
    });
  }
  scope(() => expect(ones([2]).add(1).toArray()).toEqual([2, 2]));
});
