import { beforeAll, expect, test } from 'vitest';
import { type LlavaConfig, readLlavaConfig } from '../src/models/index.js';
import { quickstart } from '../src/recipes/quickstart/recipes.js';
import {
  distance,
  permuted,
  quickstartData,
  trajectory,
  type TrajectoryData,
} from './trajectories.js';

let config: LlavaConfig;
let data: TrajectoryData;
beforeAll(async () => {
  const { config: json } = quickstart.model as { config: Record<string, unknown> };
  config = readLlavaConfig({ file: 'config.json', json });
  data = await quickstartData(config, { updates: 12, records: 3 });
});

const options = { device: 'cpu', learningRate: 2e-3, policy: 'products' } as const;

test.each(['full', 'lora'] as const)('%s: in fp32 both forms are equal to rounding', (mode) => {
  expect(() => {
    const given = { ...options, mode, config, data, dtype: 'float32' } as const;
    const composite = trajectory('composite', given);
    expect(composite).toHaveLength(12);
    // Rounding differs, so it is not one program twice.
    const { largest, first } = distance(trajectory('by hand', given), composite);
    expect(largest).toBeGreaterThan(0);
    expect(largest).toBeLessThan(1e-4);
    expect(first).toBeLessThan(1e-6);
    if (mode === 'full') expect(composite.at(-1)!).toBeLessThan(0.85 * composite[0]!);
    expect(
      distance(trajectory('composite', { ...given, data: permuted(data) }), composite).largest,
    ).toBeLessThan(1e-4);
  }).toLeakNothing();
});

test('in bf16 they differ as one of them does from itself in another order', () => {
  const given = { ...options, mode: 'full', config, data, dtype: 'bfloat16' } as const;
  const composite = trajectory('composite', given);
  const noise = distance(trajectory('composite', { ...given, data: permuted(data) }), composite);
  expect(noise.mean).toBeGreaterThan(0);
  expect(distance(trajectory('by hand', given), composite).mean).toBeLessThan(3 * noise.mean);
});

test('another order has the same records in each micro-batch', () => {
  const ids = (all: TrajectoryData): string[][] =>
    all.flat().map((samples) => samples.map(({ inputIds }) => Array.from(inputIds).join()));
  const other = permuted(data);
  expect(ids(other)).not.toEqual(ids(data));
  expect(ids(other).map((each) => each.toSorted())).toEqual(
    ids(data).map((each) => each.toSorted()),
  );
});

test('distances are relative to the second', () => {
  const { largest, mean, first } = distance([1, 3], [2, 4]);
  expect([largest, mean, first]).toEqual([0.5, 0.375, 0.5]);
});
