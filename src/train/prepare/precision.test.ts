import { expect, test } from 'vitest';
import type { Recipe } from '../../config/index.js';
import { choosePrecision } from './precision.js';

type Wanted = Pick<Recipe['precision'], 'compute' | 'master' | 'states'>;

const lossScale = { initial: 65_536, window: 1000, hysteresis: 2, minimum: 1 };
const choose = (wanted: Partial<Wanted>, capability: number | null) =>
  choosePrecision(
    { compute: 'bf16', master: 'fp32', states: 'fp32', lossScale, ...wanted },
    { name: 'The device', capability },
  );

test.each<[Partial<Wanted>, number | null, object]>([
  [{}, 9, { compute: 'bfloat16', master: 'float32', states: 'float32', scaled: false }],
  [{ master: 'bf16', states: 'bf16' }, 8, { master: 'stochastic', states: 'bfloat16' }],
  [{ compute: 'fp16' }, 7.5, { compute: 'float16', master: 'float32', scaled: true }],
  [{ compute: 'fp32' }, 9, { compute: 'float32', scaled: false, statement: 'computes in fp32' }],
  // What the device lacks falls back as a whole.
  [
    { master: 'bf16', states: 'bf16' },
    7.5,
    { compute: 'float16', master: 'float32', states: 'float32', scaled: true },
  ],
  [{ compute: 'fp16' }, null, { compute: 'float32', master: 'float32', scaled: false }],
])('%j on capability %d', (wanted, capability, expected) => {
  expect(choose(wanted, capability)).toMatchObject(expected);
});

test('a fallback says its reason', () => {
  expect(choose({}, 7.5).statement).toBe(
    'computes in fp16 in place of bf16, weights kept in fp32: The device has no bf16 (compute capability 7.5)',
  );
  expect(choose({}, null).statement).toBe(
    'computes in fp32 in place of bf16: CPUs are slow in bf16',
  );
});
