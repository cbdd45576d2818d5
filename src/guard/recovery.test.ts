/** What becomes of a bad update: nothing that it touched has changed, and going on is as if it had been known. */
import { mkdtempSync, mkdirSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import type { RecipeInput } from '../config/index.js';
import type { Llava } from '../models/index.js';
import { liveTensors, noGrad } from '../torch/index.js';
import { listCheckpoints, type TrainEvent } from '../train/index.js';
import { Guarded, spoilt, tinyRecord, type GuardedOptions } from './testing.js';

let folder: string;
const open: Guarded[] = [];
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-recovery-'));
});
afterEach(() => {
  vi.restoreAllMocks();
  for (const each of open.splice(0)) each.dispose();
  rmSync(folder, { recursive: true });
});

let runs = 0;
async function run(
  options: GuardedOptions & { readonly late?: boolean },
  onEvent?: (event: TrainEvent) => void,
): Promise<Guarded> {
  const place = join(folder, `${runs++}`);
  mkdirSync(place);
  const guarded = await Guarded.make(options);
  open.push(guarded);
  if (options.late === true) vi.spyOn(guarded.trainer, 'readsLate', 'get').mockReturnValue(true);
  return guarded.run(place, onEvent);
}

const records = Array.from({ length: 16 }, (_, i) => (i === 5 ? spoilt(i) : tinyRecord(i)));
const QUARANTINED = { quarantine: [{ source: 'tiny.jsonl', line: 6 }] };

describe.each<[string, Partial<RecipeInput>]>([
  ['one process', {}],
  ['one micro-batch', { batchSize: 2, accumulate: 1 }],
  ['alone in its update', { accumulate: 1 }],
  [
    'LoRA with dropout',
    {
      train: { vision: 'frozen', projector: 'full', decoder: { lora: { rank: 2, dropout: 0.5 } } },
    },
  ],
  ['moments in bf16', { precision: { states: 'bf16' } }],
  ['boundaries on the host', { memory: { policy: 'offload' } }],
  ['no clipping', { optimizer: { learningRate: 3e-3, clipNorm: null } }],
  ['adaptive clipping', { optimizer: { learningRate: 3e-3, clipNorm: 'adaptive' } }],
  ['optimizer on the host', { parallel: { zero: 2, offload: 'optimizer' } }],
  ['parameters on the host', { parallel: { zero: 3, offload: 'parameters' } }],
])('%s', (_, recipe) => {
  test('a poisoned record leaves the weights of a run that had it in quarantine from the start, to the bit', async () => {
    const found = await run({ recipe, records });
    expect([found.error, found.recoveries.map(({ action }) => action)]).toEqual([
      null,
      ['quarantine'],
    ]);
    expect(found.diagnoses.map(({ fix }) => fix)).toEqual([
      expect.stringMatching(/mend or remove it; this run leaves what spoilt the update out/),
    ]);
    const known = await run({ recipe: { ...recipe, guard: QUARANTINED }, records });
    expect([known.error, known.recoveries]).toEqual([null, []]);
    expect(await stateOf(found)).toEqual(await stateOf(known));
  });

  test('an update that is left out changes no weight, moment or count', async () => {
    const first = recipe.accumulate === 1 && recipe.batchSize === undefined ? 5 : 2;
    const before = await run({
      recipe: {
        ...recipe,
        guard: { onBadUpdate: 'leave-out' },
        schedule: { updates: 8, warmupUpdates: 1, decay: 'constant' },
      },
      records,
      until: first,
    });
    const after = await run({
      recipe: { ...recipe, guard: { onBadUpdate: 'leave-out' } },
      records,
      until: first + 1,
    });
    expect(after.recoveries).toMatchObject([{ action: 'leave-out', update: first + 1 }]);
    expect(await stateOf(after)).toEqual(await stateOf(before));
  });
});

/** Losses that are not finite while these updates run, whatever the records. */
function breakAt(updates: readonly number[]): (model: Llava) => void {
  return ({ head }) => {
    const losses = head.losses.bind(head);
    vi.spyOn(head, 'losses').mockImplementation((x, supervised, options) => {
      const result = losses(x, supervised, options);
      if (updates.includes(at)) noGrad(() => result.inputGradient?.fill_(NaN));
      return result;
    });
  };
}
/** The update that runs, from 1. */
let at = 0;
const follow = (event: TrainEvent): void => {
  // A bad one runs again before it is answered.
  const isOver = event.type === 'recovery' || (event.type === 'update' && !event.skipped);
  if (isOver) at = event.update + 1;
};

describe('a run whose updates are bad whatever the records', () => {
  beforeEach(() => {
    at = 1;
  });
  const good = Array.from({ length: 16 }, (_, i) => tinyRecord(i));
  const guard = { onBadUpdate: 'roll-back' } as const;

  test.each<[string, Partial<RecipeInput>]>([
    ['a snapshot', { guard: { ...guard, snapshotEvery: 3 } }],
    ['a checkpoint', { guard, checkpoints: { everyUpdates: 3, background: false } }],
    [
      'a snapshot on the host',
      { guard: { ...guard, snapshotEvery: 3 }, parallel: { zero: 2, offload: 'optimizer' } },
    ],
    [
      'a checkpoint on the host',
      {
        guard,
        checkpoints: { everyUpdates: 3, background: false },
        parallel: { zero: 3, offload: 'parameters' },
      },
    ],
  ])('goes back to %s, to the bit, and on behind them', async (_, recipe) => {
    const bad = await run({ recipe, records: good, breaks: breakAt([5, 6]), until: 6 }, follow);
    expect(bad.error).toBeNull();
    expect(bad.causes).toEqual(['loss-kernel', 'loss-kernel']);
    expect(bad.recoveries.map(({ action, update }) => [action, update])).toEqual([
      ['leave-out', 5],
      ['roll-back', 6],
    ]);
    const same = { ...recipe, guard: {} };
    const before = await run({ recipe: same, records: good, until: 3 });
    expect(await stateOf(bad)).toEqual(await stateOf(before));
    const on = await run({ recipe, records: good, breaks: breakAt([5, 6]) }, follow);
    expect(on.events.at(-1)).toMatchObject({ type: 'end', reason: 'finished', update: 8 });
  });

  test('stops at once, or when its budget is used up, with the cause and what to do', async () => {
    const stops = await run(
      { recipe: { guard: { onBadUpdate: 'stop' } }, breaks: breakAt([3]) },
      follow,
    );
    expect(stops.error).toMatchObject({ code: 'E_NON_FINITE', exitCode: 6 });
    expect(String(stops.error)).toContain('loss-kernel');
    expect(stops.recoveries).toMatchObject([{ action: 'stop', update: 3 }]);
    at = 1;
    const spent = await run({ recipe: { guard: { budget: 1 } }, breaks: breakAt([3, 5]) }, follow);
    expect(spent.recoveries.map(({ action }) => action)).toEqual(['leave-out', 'stop']);
    expect(spent.error).toMatchObject({ code: 'E_NON_FINITE' });
  });

  test('ends after five in a row, with the cause', async () => {
    const { error, recoveries } = await run({ breaks: breakAt([2, 3, 4, 5, 6, 7]) }, follow);
    expect(error).toMatchObject({ code: 'E_NON_FINITE' });
    expect(String(error)).toMatch(/5 updates in a row.*loss-kernel/s);
    expect(recoveries).toHaveLength(4);
  });

  test('with update in backward says which segments were applied, and that it cannot be run again', async () => {
    const recipe: Partial<RecipeInput> = {
      accumulate: 1,
      optimizer: { learningRate: 3e-3, clipNorm: null, updateInBackward: true },
    };
    const { recoveries, events } = await run({ recipe, breaks: breakAt([5]) }, follow);
    expect(recoveries[0]).toMatchObject({ action: 'leave-out' });
    expect(recoveries[0]!.message).toContain('some segments were updated');
    const skipped = events.find((event) => event.type === 'update' && event.skipped);
    expect(skipped).toMatchObject({
      skippedSegments: expect.arrayContaining(['decoder.0']) as unknown,
    });
  });
});

test.each([{}, { parallel: { zero: 2, offload: 'optimizer' } } as const])(
  'numbers that come one update late change nothing: what was queued behind a bad update is run again (%o)',
  async (recipe) => {
    const known = await run({ recipe: { ...recipe, guard: QUARANTINED }, records });
    const late = await run({ recipe, records, late: true });
    expect([late.error, late.causes]).toEqual([null, ['poisoned-record']]);
    expect(await stateOf(late)).toEqual(await stateOf(known));
    const told = late.events.flatMap((event) => (event.type === 'update' ? [event.update] : []));
    expect(told).toEqual([1, 2, 3, 3, 4, 5, 6, 7, 8]);
  },
);

test('of an array of JSON on one line the record alone is left out', async () => {
  const oneLine = records.map((each) => ({ ...each, place: { ...each.place, line: 1 } }));
  const found = await run({ records: oneLine });
  expect(found.recoveries).toMatchObject([
    { action: 'quarantine', records: [{ source: 'tiny.jsonl', line: 1, record: 6 }] },
  ]);
  const known = await run({ recipe: { guard: QUARANTINED }, records });
  expect(await stateOf(found)).toEqual(await stateOf(known));
  const numbered = { quarantine: [{ source: 'tiny.jsonl', line: 1, record: 6 }] };
  const told = await run({ recipe: { guard: numbered }, records: oneLine });
  expect(told.recoveries).toEqual([]);
  expect(await stateOf(told)).toEqual(await stateOf(known));
});

test('quarantine and what was answered are in the checkpoint', async () => {
  const first = await run({ records, until: 4 });
  expect(first.recoveries).toHaveLength(1);
  const newest = (await listCheckpoints(first.folder)).at(-1)!;
  const counters = JSON.parse(readFileSync(join(newest.path, 'trainer.json'), 'utf8')) as object;
  expect(counters).toMatchObject({
    quarantine: [{ source: 'tiny.jsonl', line: 6 }],
    guard: { answered: 1 },
  });
  const again = await Guarded.make({
    records,
    recipe: { schedule: { updates: 12, warmupUpdates: 1, decay: 'constant' } },
  });
  open.push(again);
  await again.trainer.resume(newest);
  await again.run(join(folder, 'again'));
  // Record 6 comes once more in update 11.
  expect([again.error, again.recoveries]).toEqual([null, []]);
});

test('a bad update and what follows leave no tensor behind', async () => {
  const counts = [];
  for (const updates of [4, 12]) {
    const place = join(folder, `leaks${updates}`);
    mkdirSync(place);
    const guarded = await Guarded.make({
      records,
      recipe: { schedule: { updates, warmupUpdates: 1 } },
    });
    const before = liveTensors();
    await guarded.run(place);
    expect(guarded.recoveries).toHaveLength(1);
    counts.push(liveTensors() - before);
    guarded.dispose();
  }
  // Moments are made with the first update.
  expect(counts[1]).toBe(counts[0]);
});

/** Weights, moments and counts in the last checkpoint, by file. */
async function stateOf({ folder: place }: Guarded): Promise<Record<string, string>> {
  const newest = (await listCheckpoints(place)).at(-1)!;
  const files = readdirSync(newest.path, { recursive: true, encoding: 'utf8' });
  const tensors = files.filter((name) => name.endsWith('.safetensors'));
  expect(tensors.length).toBeGreaterThan(1);
  return Object.fromEntries(
    tensors.map((name) => [name, readFileSync(join(newest.path, name)).toString('base64')]),
  );
}
