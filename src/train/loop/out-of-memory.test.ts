/** Going on after an update that memory did not suffice for: with a limit on the CPU's tensors that is lowered while a run goes. */

import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { OutOfMemoryError } from '../../base/errors.js';
import type { RecipeInput } from '../../config/index.js';
import { AdamW } from '../../optim/index.js';
import { memoryStats, setMemoryLimit } from '../../torch/index.js';
import { newestWhole } from '../checkpoint/checkpoints.js';
import type { MemoryEvent, SmallerBatchesEvent, TrainEvent, UpdateEvent } from '../events.js';
import type { UpdateShape } from './heaviest.js';
import { overshotOf, type Prediction } from './prediction.js';
import type { PredictUpdate } from './run-memory.js';
import { makeTinyTrainer, tinyData, type TinyTrainer } from './testing.js';
import type { RunOptions, TrainerParts, TrainingData } from './trainer.js';

let folder: string;
const open: TinyTrainer[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-memory-'));
});
afterEach(() => {
  setMemoryLimit('cpu', null);
  for (const each of open.splice(0)) each.dispose();
  rmSync(folder, { recursive: true, force: true });
});

/** A large epsilon: Adam would turn the rounding of gradients that are nearly 0 into whole steps. */
const BASE: Partial<RecipeInput> = {
  batchSize: 4,
  accumulate: 1,
  optimizer: { learningRate: 3e-3, epsilon: 1e-2 },
};

function tiny(more: Partial<RecipeInput> = {}, parts: Partial<TrainerParts> = {}): TinyTrainer {
  const made = makeTinyTrainer({ ...BASE, ...more }, parts);
  open.push(made);
  return made;
}

async function all({ trainer }: TinyTrainer, options?: RunOptions): Promise<TrainEvent[]> {
  const events: TrainEvent[] = [];
  await into(events, { trainer }, options);
  return events;
}

async function into(
  events: TrainEvent[],
  { trainer }: Pick<TinyTrainer, 'trainer'>,
  options?: RunOptions,
): Promise<void> {
  const place = { path: folder, checkpoints: folder, setState: () => Promise.resolve() };
  for await (const event of trainer.run(place, options)) events.push(event);
}

const types = (events: readonly TrainEvent[]): string[] => events.map(({ type }) => type);
const updates = (events: readonly TrainEvent[]): UpdateEvent[] =>
  events.filter((event) => event.type === 'update');
const recoveries = (events: readonly TrainEvent[]): SmallerBatchesEvent[] =>
  events.filter((event) => event.type === 'recovery').filter((event) => event.action === 'halve');

/** Records that take more memory than the gradients of the tiny model. */
const WORDS = 60;

/** Bytes that updates with so many records in a micro-batch take beside what lasts. */
async function taken(batchSize: number, more: Partial<RecipeInput> = {}): Promise<number> {
  const key = JSON.stringify({ batchSize, more });
  const known = TAKEN.get(key);
  if (known !== undefined) return known;
  let [lasting, peak] = [NaN, NaN];
  const data = tinyData((update) => {
    const { allocated, peakAllocated } = memoryStats('cpu');
    if (update === 0) lasting = allocated;
    peak = peakAllocated;
  }, WORDS);
  const batching = { batchSize, accumulate: 4 / batchSize };
  const run = tiny({ ...more, ...batching }, { data });
  await all(run);
  run.dispose();
  open.splice(open.indexOf(run), 1);
  rmSync(folder, { recursive: true });
  TAKEN.set(key, peak - lasting);
  return peak - lasting;
}
const TAKEN = new Map<string, number>();

/** Data during which memory falls: from an update on, so many bytes beside what lasts. */
function falling(...falls: readonly (readonly [update: number, bytes: number])[]): TrainingData {
  return tinyData((update) => {
    const fall = falls.find(([at]) => at === update);
    if (fall !== undefined) setMemoryLimit('cpu', memoryStats('cpu').allocated + fall[1]);
  }, WORDS);
}

const between = (a: number, b: number): number => Math.round((a + b) / 2);

function distance({ model: a }: TinyTrainer, { model: b }: TinyTrainer): number {
  const valuesOf = (model: TinyTrainer['model']): number[] =>
    model.parameters().flatMap((each) => [...(each.toTypedArray() as Float32Array)]);
  const [p, q] = [valuesOf(a), valuesOf(b)];
  const norm = (list: readonly number[]): number => Math.sqrt(list.reduce((s, x) => s + x * x, 0));
  return norm(p.map((x, i) => x - q[i]!)) / norm(q);
}

const decoder = { lora: { rank: 2, alpha: 4, dropout: 0.2 } };

describe.each<[string, Partial<RecipeInput>]>([
  ['full', {}],
  ['LoRA with dropout', { train: { vision: 'frozen', projector: 'full', decoder } }],
])('an update that memory does not suffice for, %s', (_name, more) => {
  test('runs again in halves, and the run is the undisturbed one up to rounding', async () => {
    const [four, two] = [await taken(4, more), await taken(2, more)];
    const whole = tiny(more, { data: falling() });
    const expected = await all(whole);
    rmSync(folder, { recursive: true });

    const cut = tiny(more, { data: falling([2, between(two, four)]) });
    const events = await all(cut);
    expect(types(events)).toEqual([
      ...['update', 'update', 'recovery', 'update', 'update', 'update', 'update'],
      ...['checkpoint', 'end'],
    ]);
    expect(recoveries(events)).toMatchObject([
      { update: 3, microBatch: { unit: 'records', before: 4, after: 2 }, overshot: null },
    ]);
    const [a, b] = [updates(expected), updates(events)];
    expect(b.map(({ update }) => update)).toEqual([1, 2, 3, 4, 5, 6]);
    b.forEach(({ loss, gradientNorm, counts, learningRate }, i) => {
      expect({ counts, learningRate }).toEqual({
        counts: a[i]!.counts,
        learningRate: a[i]!.learningRate,
      });
      expect(Math.abs(loss! / a[i]!.loss! - 1)).toBeLessThan(1e-6);
      expect(Math.abs(gradientNorm / a[i]!.gradientNorm - 1)).toBeLessThan(1e-6);
    });
    expect(distance(cut, whole)).toBeLessThan(1e-6);
  });
});

test('a second time they are halved again, and where one record does not fit the run ends', async () => {
  const [four, two, one] = [await taken(4), await taken(2), await taken(1)];
  const data = falling([1, between(two, four)], [3, between(one, two)], [5, between(0, one)]);
  const events: TrainEvent[] = [];
  const error = await into(events, tiny({}, { data })).catch((thrown: unknown) => thrown);
  expect(error).toBeInstanceOf(OutOfMemoryError);
  expect(error).toMatchObject({ code: 'E_OUT_OF_MEMORY', exitCode: 5 });
  expect(String(error)).toMatch(/Update 6 does not fit with one record in each micro-batch: /);
  expect(types(events)).toEqual([
    ...['update', 'recovery', 'update', 'update', 'recovery', 'update', 'update'],
  ]);
  expect(recoveries(events).map(({ update, microBatch }) => ({ update, ...microBatch }))).toEqual([
    { update: 2, unit: 'records', before: 4, after: 2 },
    { update: 4, unit: 'records', before: 2, after: 1 },
  ]);
});

test('what was abandoned leaves no tensor behind', async () => {
  const [four, two] = [await taken(4), await taken(2)];
  const data = () => falling([1, between(two, four)]);
  await all(tiny({}, { data: data() }));
  for (const each of open.splice(0)) each.dispose();
  await expect(async () => {
    setMemoryLimit('cpu', null);
    expect(recoveries(await all(tiny({}, { data: data() })))).toHaveLength(1);
    for (const each of open.splice(0)) each.dispose();
  }).toLeakNothing();
});

test('memory that runs out for the batch itself, before the step begins, is no different', async () => {
  const events: TrainEvent[] = [];
  const run = tiny({}, { data: falling() });
  const { trainer, model } = run;
  const place = { path: folder, checkpoints: folder, setState: () => Promise.resolve() };
  for await (const event of trainer.run(place)) {
    if (events.push(event) === 2) {
      const { input: value } = model;
      const get = (): never => {
        Object.defineProperty(model, 'input', { value });
        throw new OutOfMemoryError('none left', { code: 'E_OUT_OF_MEMORY', hint: 'Wait.' });
      };
      Object.defineProperty(model, 'input', { get, configurable: true });
    }
  }
  expect(recoveries(events)).toMatchObject([{ update: 3, microBatch: { before: 4, after: 2 } }]);
  expect(updates(events)).toHaveLength(6);
});

test('with update in backward, whose segments are applied one by one, the run ends', async () => {
  const optimizer = { ...BASE.optimizer!, updateInBackward: true, clipNorm: null };
  const events: TrainEvent[] = [];
  const run = tiny({ optimizer }, { data: falling([1, 1000]) });
  await expect(into(events, run)).rejects.toThrow(OutOfMemoryError);
  expect(types(events)).toEqual(['update']);
});

test('memory that runs out while weights change ends the run: they would change twice', async () => {
  const update = vi.spyOn(AdamW.prototype, 'update').mockImplementationOnce(() => {
    throw new OutOfMemoryError('none left', { code: 'E_OUT_OF_MEMORY', hint: 'Wait.' });
  });
  const events: TrainEvent[] = [];
  await expect(into(events, tiny())).rejects.toThrow(/^none left$/);
  expect(types(events)).toEqual([]);
  update.mockRestore();
});

test('a run that goes on keeps its micro-batches small, and is the uninterrupted one to the bit', async () => {
  const [four, two] = [await taken(4), await taken(2)];
  const fall = [1, between(two, four)] as const;
  const whole = tiny({}, { data: falling(fall) });
  const expected = await all(whole);
  setMemoryLimit('cpu', null);
  rmSync(folder, { recursive: true });

  const first = tiny({}, { data: falling(fall) });
  await all(first, { maxUpdates: 3 });
  setMemoryLimit('cpu', null);
  const { checkpoint } = await newestWhole(folder);
  const second = tiny({}, { data: falling() });
  expect(await second.trainer.resume(checkpoint!)).toEqual([
    'micro-batches stay cut to 2 records, as memory did not suffice for more; another `batchSize` than 4 begins anew',
  ]);
  const rest = await all(second);
  expect(recoveries(rest)).toEqual([]);
  const losses = (events: readonly TrainEvent[]) => updates(events).map(({ loss }) => loss);
  expect(losses(rest)).toEqual(losses(expected).slice(3));
  expect(distance(second, whole)).toBe(0);
});

describe('with somebody who plans', () => {
  const planned = { allocated: 1000, reserved: 2000, atPeak: { 'frozen weights': 400 } };

  test('a run ends with the plan of its heaviest update beside what was measured', async () => {
    const asked: UpdateShape[] = [];
    const predict = (batches: UpdateShape): Promise<Prediction> => {
      asked.push(batches);
      return Promise.resolve(planned);
    };
    const events = await all(tiny({ batchSize: 2, accumulate: 3 }, { data: falling(), predict }));
    expect(types(events).slice(-3)).toEqual(['checkpoint', 'memory', 'end']);
    const { predicted, measured } = events.at(-2) as MemoryEvent;
    expect(predicted).toEqual({ allocated: 1000, reserved: 2000 });
    expect(measured.allocated).toBeGreaterThan(100_000);
    expect(measured.reserved).toBe(measured.allocated);
    // Of three micro-batches the two heaviest: records 5 and 2, 3 and 4 of pictures and words by their numbers.
    expect(asked).toHaveLength(1);
    const tokens = (i: number): number => 4 * (i % 3) + WORDS + (i % 4);
    expect(asked[0]!.map((records) => records.map((each) => each.tokens))).toEqual([
      [tokens(6), tokens(7)],
      [tokens(10), tokens(11)],
    ]);
    expect(asked[0]![0]![1]).toEqual({ tokens: tokens(7), images: 1, supervised: 32 });
  });

  test('time is told of a typical update, where there were enough of them', async () => {
    const typical: unknown[] = [];
    const predict: PredictUpdate = (_, done) => {
      typical.push(done?.typical);
      return Promise.resolve({ ...planned, seconds: 7 });
    };
    const memory = async (updates: number) =>
      (await all(tiny({ schedule: { updates } }, { predict }))).find(
        ({ type }) => type === 'memory',
      );
    expect(await memory(10)).not.toHaveProperty('seconds');
    const { seconds } = (await memory(12)) as MemoryEvent;
    expect(seconds).toEqual({ predicted: 7, measured: expect.any(Number) as number });
    expect(typical).toEqual([
      null,
      expect.objectContaining({ microBatches: 1, seconds: seconds!.measured }),
    ]);
  });

  test('a plan that fails, or has nothing to plan for, is none, for a reason', async () => {
    const predict = (): Promise<Prediction> => Promise.reject(new Error('no such card'));
    const memory = async (options?: RunOptions) =>
      (await all(tiny({}, { predict }), options)).find(({ type }) => type === 'memory');
    expect(await memory()).toMatchObject({ predicted: null, note: 'no such card' });
    const none = await memory({ maxUpdates: 0 });
    expect(none).toMatchObject({ predicted: null, note: 'no update was run' });
  });

  test('an update that memory did not suffice for tells which part of its plan was passed', async () => {
    const [four, two] = [await taken(4), await taken(2)];
    const data = falling([1, between(two, four)]);
    const run = tiny({}, { data, predict: () => Promise.resolve(planned) });
    const [event] = recoveries(await all(run));
    expect(event).toMatchObject({ memory: { predicted: 1000 }, overshot: 'update' });
  });

  test.each<[number, number, string | null]>([
    [900, 400, null],
    [1100, 400, 'update'],
    [1000, 450, 'lasting'],
    [1200, 450, 'update'],
  ])('%d bytes at most, of which %d last, pass a plan of 1000 and 400: %s', (...given) => {
    const [allocated, lasting, expected] = given;
    expect(overshotOf(planned, { allocated, lasting })).toBe(expected);
    expect(overshotOf({ ...planned, atPeak: {} }, { allocated, lasting })).toBeNull();
  });
});
