/** Runs whose memory is limited from the start by their recipe. */
import { execFile } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { RecipeInput } from '../config/index.js';
import { ColourFolder } from '../train/testing-files.js';
import type { MemoryEvent, TrainEvent, UpdateEvent } from '../train/index.js';
import { packageRoot } from '../base/native-path.js';
import { patina, type Ended } from './testing.js';

let folder: ColourFolder;
beforeAll(async () => {
  folder = await ColourFolder.make();
});
afterAll(() => folder.remove());

interface Trained {
  readonly code: number;
  readonly err: string;
  readonly events: readonly TrainEvent[];
  readonly updates: readonly UpdateEvent[];
  readonly memory: MemoryEvent | undefined;
}

interface How {
  /** Bytes. */
  readonly limit?: number;
  /** In a process of its own, where no other test's tensors count. @default false */
  readonly apart?: boolean;
}

async function train(
  more: Partial<RecipeInput>,
  { limit, apart = false }: How = {},
): Promise<Trained> {
  const recipe = folder.at('limited.json');
  const sources = [folder.at('one.jsonl')];
  const schedule = { updates: 4 };
  const memory = {
    policy: 'keep' as const,
    ...(limit !== undefined && { limit: limit / 2 ** 30 }),
  };
  const checkpoints = { background: false };
  const base = folder.recipe({ data: { sources, workers: 0 }, schedule, checkpoints, ...more });
  writeFileSync(recipe, JSON.stringify({ ...base, memory }));
  const run = apart ? patinaApart : patina;
  const { code, out, err } = await run('train', recipe, '--json');
  const events = out
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line) as TrainEvent);
  return {
    ...{ code, err, events },
    updates: events.filter((event) => event.type === 'update'),
    memory: events.find((event) => event.type === 'memory'),
  };
}

const BIN = join(packageRoot(), 'bin/patina.js');

/** Needs what `npm run build` makes. */
function patinaApart(...args: readonly string[]): Promise<Ended> {
  return new Promise((resolve) => {
    execFile(process.execPath, [BIN, ...args], (error, out, err) => {
      resolve({ code: typeof error?.code === 'number' ? error.code : 0, out, err });
    });
  });
}

const peakOf = ({ updates }: Trained): number => updates.at(-1)!.memory.peakBytes;

describe.each<[string, Partial<RecipeInput>]>([
  ['', {}],
  [', the optimizer in host memory', { parallel: { offload: 'optimizer' } }],
])('patina train with too little memory%s', (_name, more) => {
  test('goes on with smaller micro-batches, to the same losses', async () => {
    const whole = await train({ ...more, batchSize: 6, accumulate: 1 });
    const halves = await train({ ...more, batchSize: 3, accumulate: 2 });
    const limit = (peakOf(whole) + peakOf(halves)) / 2;
    const { code, err, events, updates } = await train({ ...more, batchSize: 6 }, { limit });
    expect(code, err).toBe(0);
    const told = events.filter((event) => event.type === 'recovery');
    expect(told).toMatchObject([
      { update: 1, action: 'halve', microBatch: { unit: 'records', before: 6, after: 3 } },
    ]);
    expect(updates).toHaveLength(4);
    updates.forEach(({ loss, counts }, i) => {
      expect(counts).toEqual(whole.updates[i]!.counts);
      expect(loss! / whole.updates[i]!.loss!).toBeCloseTo(1, 5);
    });
  });
});

test('patina train ends with exit code 5 where no single record fits', async () => {
  const { updates } = await train({ batchSize: 1 });
  const { code, err, events } = await train(
    { batchSize: 2 },
    { limit: 0.7 * updates[0]!.memory.peakBytes },
  );
  expect(code).toBe(5);
  expect(err).toMatch(/^error: .*out of memory on cpu/m);
  expect(err).toMatch(/^hint: Try, in this order: /m);
  expect(events.filter(({ type }) => type === 'update')).toEqual([]);
});

describe('the plan at the end of a run is that of all its phases', () => {
  const question = { text: 'What colour is it? '.repeat(30), images: [] };
  const probes = { questions: [question], maxNewTokens: 8 };

  test.each<[string, Partial<RecipeInput>]>([
    ['probes', { probes, checkpoints: { background: false } }],
    ['a checkpoint that is copied', { checkpoints: { background: true } }],
  ])('most is taken by %s', async (_, more) => {
    const { code, err, memory } = await train(more, { apart: true });
    expect(code, err).toBe(0);
    const { predicted, measured } = memory!;
    // All but a few numbers.
    expect(Math.abs(predicted!.allocated - measured.allocated)).toBeLessThan(1024);
    const less = await train({}, { apart: true });
    expect(predicted!.allocated).toBeGreaterThan(1.2 * less.memory!.predicted!.allocated);
  });

  test('what was not done is not in it', async () => {
    const validation = { sources: [folder.at('one.jsonl')] };
    const { memory } = await train({ validation }, { apart: true });
    const { predicted, measured } = memory!;
    // The CPU's loss and attention take more than a card's.
    expect(predicted!.allocated / measured.allocated).toBeGreaterThan(0.9);
    expect(predicted!.allocated).toBeLessThanOrEqual(measured.allocated);
  });
});
