import { expect, test } from 'vitest';

import { chooseDevice } from './choose-device.js';
import type { TorchFacts } from './native.js';

const GPU = { name: 'NVIDIA H200', capability: '9.0', totalBytes: 139, freeBytes: 138 };
const facts = (...indices: number[]): TorchFacts => ({
  version: '2.11.0+cu130',
  cpuCapability: 'AVX512',
  threads: 16,
  cuda:
    indices.length === 0
      ? null
      : { driver: '13.0', runtime: '13.0', devices: indices.map((index) => ({ ...GPU, index })) },
});

test('the first GPU where there is one, else the CPU; what is named where it is there', () => {
  const of = (wanted: string, ...gpus: number[]): string =>
    chooseDevice(wanted, facts(...gpus)).device;
  expect(of('auto')).toBe('cpu');
  expect(of('auto', 0, 1)).toBe('cuda:0');
  expect(of('cpu', 0)).toBe('cpu');
  expect(of('cuda', 0, 1)).toBe('cuda:0');
  expect(of('cuda:1', 0, 1)).toBe('cuda:1');
  expect(chooseDevice('cuda', facts(0))).toMatchObject({ capability: 9, totalBytes: 139 });
  expect(chooseDevice('cpu', facts()).capability).toBeNull();
});

test('what is not there is named, with what there is', () => {
  const failing =
    (wanted: string, ...gpus: number[]) =>
    () =>
      chooseDevice(wanted, facts(...gpus));
  const error = (type: string, code: string, message: RegExp): unknown =>
    expect.objectContaining({
      name: type,
      code,
      message: expect.stringMatching(message) as string,
    });
  expect(failing('tpu', 0)).toThrow(error('UsageError', 'E_DEVICE', /"tpu"/));
  expect(failing('cuda:x', 0)).toThrow(error('UsageError', 'E_DEVICE', /"cuda:x"/));
  expect(failing('cuda')).toThrow(error('EnvironmentError', 'E_NO_GPU', /as cuda/));
  expect(failing('cuda:7', 0, 1)).toThrow(
    error('EnvironmentError', 'E_DEVICE', /cuda:7; there is cuda:0 \(NVIDIA H200\), cuda:1/),
  );
});
