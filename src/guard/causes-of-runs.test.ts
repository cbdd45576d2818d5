/** Causes that lie in a run's settings rather than in one update, as a user could bring them about; beside each a near twin. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';

import type { LoadedSample } from '../data/index.js';
import type { Llava } from '../models/index.js';
import { RotaryEmbedding } from '../nn/index.js';
import { noGrad } from '../torch/index.js';
import type { TrainEvent } from '../train/index.js';
import { Guarded, tinyRecord, type GuardedOptions } from './testing.js';

let folder: string;
const open: Guarded[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-guard-'));
});
afterEach(() => {
  for (const each of open.splice(0)) each.dispose();
  rmSync(folder, { recursive: true });
});

async function run(options: GuardedOptions): Promise<Guarded> {
  const guarded = await Guarded.make(options);
  open.push(guarded);
  return guarded.run(folder);
}

type LossScale = { initial?: number; window?: number; hysteresis?: number; minimum?: number };
const fp16 = (lossScale: LossScale, updates = 8): GuardedOptions => ({
  recipe: {
    precision: { compute: 'fp16', lossScale },
    optimizer: { learningRate: 1e-4 },
    schedule: { updates, warmupUpdates: 1, decay: 'constant' },
  },
  precision: { compute: 'float16', scaled: true },
  dtype: 'float16',
});

const skipped = (events: readonly TrainEvent[]): number =>
  events.filter((event) => event.type === 'update' && event.skipped).length;

/** At which ordinary records fit, and one that insists does not. */
const SCALE = 2 ** 19;

const ordinary = Array.from({ length: 16 }, (_, i) => tinyRecord(i));
/** A record that says the same word without end: what its tokens pull at, they pull at together. */
const insistent = (i: number): LoadedSample => {
  const record = tinyRecord(i, 0, 400);
  const word = (id: number): number => (id < 0 ? id : 5);
  return { ...record, inputIds: record.inputIds.map(word), labels: record.labels.map(word) };
};

describe('scale-at-minimum', () => {
  const records = ordinary.map((each, i) => (i === 5 ? insistent(i) : each));

  test('one record overflows at a scale that may not fall', async () => {
    const { causes, diagnoses, error } = await run({
      ...fp16({ initial: SCALE, minimum: SCALE }),
      records,
    });
    expect([causes, error], JSON.stringify(diagnoses)).toEqual([['scale-at-minimum'], null]);
    expect(diagnoses[0]!.records).toMatchObject([{ line: 6 }]);
  });

  test('and not where it falls until the record fits', async () => {
    const { causes, events } = await run({ ...fp16({ initial: SCALE, hysteresis: 1 }), records });
    expect(skipped(events)).toBe(1);
    expect(causes).toEqual([]);
  });
});

describe('silent-skip', () => {
  test('a scale that doubles after each update loses every other one', async () => {
    const { causes, diagnoses, events, error } = await run(
      fp16({ initial: 2 ** 24, window: 1, hysteresis: 1 }, 60),
    );
    expect(skipped(events)).toBeGreaterThan(15);
    expect([causes, error], JSON.stringify(diagnoses)).toEqual([['silent-skip'], null]);
    expect(diagnoses[0]!.fix).toContain('--set precision.lossScale.window=');
  });

  test.each([
    ['is found from far above', { initial: 2 ** 60, hysteresis: 1 }],
    ['tries the next power now and then', { initial: 2 ** 24, window: 5, hysteresis: 1 }],
  ])('and not where the scale %s', async (_, lossScale) => {
    const { causes, events } = await run(fp16(lossScale, 60));
    expect(skipped(events)).toBeGreaterThan(5);
    expect(causes).toEqual([]);
  });
});

describe('low-precision-positions', () => {
  const rotary = (model: Llava): RotaryEmbedding =>
    [...model.namedModules()]
      .map(([, each]) => each)
      .find((each) => each instanceof RotaryEmbedding)!;

  test('frequencies were rounded to bf16', async () => {
    const breaks = (model: Llava): void => {
      const frequencies = rotary(model).namedBuffers().get('inv_freq')!;
      noGrad(() => frequencies.copy_(frequencies.to('bfloat16')));
    };
    const { causes, diagnoses, error } = await run({ breaks });
    expect([causes, error]).toEqual([['low-precision-positions'], null]);
    expect(diagnoses[0]!.update).toBe(0);
    expect(diagnoses[0]!.module).toContain('rotary');
  });

  test('and not where all else is in bf16', async () => {
    const { causes } = await run({ precision: { compute: 'bfloat16' }, dtype: 'bfloat16' });
    expect(causes).toEqual([]);
  });
});
