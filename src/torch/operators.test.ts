/** Every operator of the table runs: on CPU, on meta with the same result shapes and dtypes, and on the GPU where there is one. */

import { describe, expect, test } from 'vitest';
import { surfaceName } from './generate/emit.js';
import { cudaAvailable, scope, tensorsIn, type Device } from './index.js';
import { OPERATORS } from './table.js';
import { CUDA_ONLY, maker, NOT_ON, SAMPLES } from './testing.js';

/** dtypes and shapes of the results on a device, in order. */
function outcome(name: string, device: Device): string[] {
  return scope(() =>
    [...tensorsIn(SAMPLES[name]!(maker(device)))].map(
      (tensor) => `${tensor.dtype}[${tensor.shape.join(', ')}]`,
    ),
  );
}

const names = OPERATORS.map(surfaceName);
const devices: Device[] = cudaAvailable() ? ['cpu', 'cuda:0'] : ['cpu'];

test('every operator of the table has a sample', () => {
  expect(Object.keys(SAMPLES).toSorted()).toEqual([...new Set(names)].toSorted());
});

describe.each(devices)('on %s and on meta', (device) => {
  const here = names.filter(
    (name) => !NOT_ON[device]?.has(name) && !(device === 'cpu' && CUDA_ONLY.has(name)),
  );
  test.each(here)('%s', (name) => {
    const real = outcome(name, device);
    expect(real.length).toBeGreaterThan(0);
    if (!NOT_ON.meta!.has(name)) expect(outcome(name, 'meta')).toEqual(real);
  });
});

test.each([...CUDA_ONLY].filter((name) => !NOT_ON.meta!.has(name)))(
  '%s on meta, forward',
  (name) => {
    expect(outcome(name, 'meta')[0]).toMatch(/bfloat16|float32/);
  },
);
