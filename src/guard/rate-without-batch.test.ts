/** Full fine-tuning with batch 1 and the learning rate of a large batch: what is said before, while it breaks, and how it ends with the advice. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { checkRecipe, type RecipeInput } from '../config/index.js';
import { checkTraining } from './check/recipe-check.js';
import { Guarded } from './testing.js';

const UPDATES = 60;
const BROKEN = {
  accumulate: 1,
  schedule: { updates: UPDATES, warmupUpdates: 0, decay: 'constant' },
  optimizer: { learningRate: 0.3, clipNorm: null },
  precision: { compute: 'fp16', lossScale: { initial: 1024 } },
  guard: { onBadUpdate: 'leave-out', budget: 3 },
} as const satisfies Partial<RecipeInput>;

let folder: string;
let broken: Guarded;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'patina-rate-'));
  broken = await run(BROKEN, 'broken');
});
afterAll(() => {
  broken.dispose();
  rmSync(folder, { recursive: true });
});

async function run(recipe: Partial<RecipeInput>, name: string): Promise<Guarded> {
  const precision = { compute: 'float16', scaled: true } as const;
  const guarded = await Guarded.make({ recipe, precision, dtype: 'float16' });
  return guarded.run(join(folder, name));
}

const lossesOf = ({ events }: Guarded): number[] =>
  events.flatMap((event) => (event.type === 'update' ? [event.loss ?? NaN] : []));

test('before: a check tells the rate, the batch, and that nothing clips', () => {
  const recipe = checkRecipe({
    ...{ name: 'rate', model: { from: 'model' }, data: { sources: ['data'] }, batchSize: 1 },
    train: { vision: 'full', projector: 'full', decoder: 'full' },
    ...BROKEN,
  });
  const traits = { hiddenSize: 24, vocabSize: 40, parameters: 20_000, isNew: false };
  const findings = checkTraining(recipe, { records: 60, worldSize: 1, traits, tensors: [] });
  const causes = new Set(findings.map(({ cause }) => cause));
  expect(causes).toContain('learning-rate-too-high');
  expect(causes).toContain('batch-without-lr-rule');
  expect(causes).toContain('no-clipping');
});

test('during: the spike is told, with the rate as its cause, before the loss is NaN', () => {
  const losses = lossesOf(broken);
  const lost = losses.findIndex((loss) => !Number.isFinite(loss));
  expect(lost).toBeGreaterThan(5);
  expect(Math.max(...losses.slice(0, lost))).toBeGreaterThan(1.5 * losses[0]!);
  const [first] = broken.diagnoses;
  expect(first!.cause).toBe('learning-rate-too-high');
  expect(first!.update).toBeLessThan(lost);
  expect(broken.error).toMatchObject({ code: 'E_NON_FINITE', exitCode: 6 });
});

test('after: with the changes that were advised it ends well', async () => {
  const recipe = structuredClone(BROKEN) as unknown as Record<string, Record<string, unknown>>;
  const advice = broken.diagnoses[0]!.fix.split('; or')[0]!;
  const changes = [...advice.matchAll(/--set (\w+)\.(\w+)=([\d.e-]+)/g)];
  expect(changes.length).toBeGreaterThan(1);
  for (const [, section, field, value] of changes) recipe[section!]![field!] = Number(value);
  const mended = await run(recipe, 'mended');
  try {
    expect([mended.error, mended.causes]).toEqual([null, []]);
    const losses = lossesOf(mended);
    const mean = (values: readonly number[]): number => values.reduce((a, b) => a + b) / 12;
    // The same twelve records.
    expect(mean(losses.slice(-12))).toBeLessThan(mean(losses.slice(0, 12)));
    expect(losses).toHaveLength(UPDATES);
  } finally {
    mended.dispose();
  }
});

test.each([
  ['float16', 1],
  ['float16', 3],
  ['float32', 1e3],
  ['float32', 1e5],
] as const)(
  'in %s a rate of %d is named, whatever overflows by it',
  async (dtype, learningRate) => {
    const optimizer = { ...BROKEN.optimizer, learningRate };
    const half = dtype === 'float16';
    const guarded = await Guarded.make({
      recipe: { ...BROKEN, optimizer, precision: half ? BROKEN.precision : { compute: 'fp32' } },
      ...(half && { precision: { compute: dtype, scaled: true }, dtype }),
    });
    try {
      await guarded.run(join(folder, `${dtype}-${learningRate}`));
      expect(guarded.causes.length).toBeGreaterThan(0);
      expect(new Set(guarded.causes)).toEqual(new Set(['learning-rate-too-high']));
    } finally {
      guarded.dispose();
    }
  },
);
