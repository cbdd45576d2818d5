import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';
import type { RecipeInput } from '../config/index.js';
import { loadChatModel } from '../generate/index.js';
import type { StartEvent, TrainEvent, UpdateEvent } from './events.js';
import { listRuns } from './run/list-runs.js';
import { colourRecord, ColourFolder } from './testing-files.js';
import { resumeRun, train, type TrainOptions } from './train.js';

let folder: ColourFolder;
beforeAll(async () => {
  folder = await ColourFolder.make();
});
afterAll(() => folder.remove());
afterEach(() => rmSync(folder.runs, { recursive: true, force: true }));

const at = (...path: string[]): string => folder.at(...path);
const runs = (): string => folder.runs;
const recipe = (more?: Partial<RecipeInput>): RecipeInput => folder.recipe(more);
const writeRecords = (name: string, records: readonly unknown[]): string =>
  folder.writeRecords(name, records);

async function all(events: AsyncIterable<TrainEvent>): Promise<TrainEvent[]> {
  const seen: TrainEvent[] = [];
  for await (const event of events) seen.push(event);
  return seen;
}

const run = (more?: Partial<RecipeInput>, options?: TrainOptions): Promise<TrainEvent[]> =>
  all(train(recipe(more), options));
const losses = (events: readonly TrainEvent[]): (number | null)[] =>
  events.filter((event): event is UpdateEvent => event.type === 'update').map(({ loss }) => loss);
const started = (events: readonly TrainEvent[]): StartEvent =>
  events.find((event): event is StartEvent => event.type === 'start')!;
const weightsOf = (events: readonly TrainEvent[]): Buffer => {
  const end = events.at(-1)!;
  return readFileSync(join((end as { checkpoint: string }).checkpoint, 'model.safetensors'));
};

describe('train', () => {
  test('makes a run folder, and a model in it that can be spoken to', async () => {
    const probes = { questions: [{ text: 'What colour is it?', images: [at('0.png')] }] };
    const events = await run({ probes });
    expect(started(events)).toMatchObject({
      recipe: 'colours',
      resumedFrom: 0,
      updates: { perEpoch: 5, planned: 10, warmup: 1 },
      data: { recordsPerEpoch: 10, validationRecords: 0 },
      statements: [
        'computes in fp32 in place of bf16: CPUs are slow in bf16',
        'batch 2 x 1 accumulated x 1 device = 2 records an update',
      ],
    });
    expect(events.filter(({ type }) => type === 'probes')).toHaveLength(2);
    const [summary] = await listRuns(runs());
    expect(summary).toMatchObject({ state: 'finished', updates: 10, plannedUpdates: 10 });
    expect(summary!.losses).toEqual(losses(events));
    const files = readdirSync(summary!.path).sort();
    expect(files).toEqual(
      [
        'checkpoints',
        'environment.json',
        'events.jsonl',
        'metrics.jsonl',
        'recipe.json',
        'state.json',
        'tensorboard',
      ].sort(),
    );
    const end = events.at(-1) as { checkpoint: string };
    const { model } = await loadChatModel(end.checkpoint);
    expect(model.input.image?.tokens).toBe(4);
    model.dispose();
  });

  test('that is interrupted in an epoch goes on to the bit', async () => {
    const whole = await run();
    const stop = new AbortController();
    const first: TrainEvent[] = [];
    for await (const event of train(recipe(), { signal: stop.signal })) {
      first.push(event);
      if (event.type === 'update' && event.update === 7) stop.abort();
    }
    expect(first.at(-1)).toMatchObject({ type: 'end', reason: 'interrupted', update: 7 });
    const path = started(first).run!;
    expect((await listRuns(runs())).find((each) => each.path === path)).toMatchObject({
      state: 'interrupted',
      updates: 7,
    });
    const rest = await all(resumeRun(path));
    expect(started(rest)).toMatchObject({ resumedFrom: 7, run: path });
    expect([...losses(first), ...losses(rest)]).toEqual(losses(whole));
    expect(weightsOf(rest).equals(weightsOf(whole))).toBe(true);
    expect((await all(resumeRun(path))).at(-1)).toMatchObject({ reason: 'finished', update: 10 });
  });

  test('of a dry run tells what would happen, and makes nothing', async () => {
    const events = await run({}, { dryRun: true });
    expect(events.map(({ type }) => type)).toEqual(['loading', 'loading', 'start', 'end']);
    expect(existsSync(runs())).toBe(false);
  });

  test('left early is a run that was interrupted', async () => {
    for await (const event of train(recipe())) if (event.type === 'update') break;
    expect(await listRuns(runs())).toMatchObject([{ state: 'interrupted', updates: 1 }]);
  });

  test('counts, tells and lists bad records where they may be skipped', async () => {
    const source = writeRecords('bad.jsonl', [
      colourRecord(1),
      colourRecord(2, 'missing.png'),
      colourRecord(3),
    ]);
    const events = await run({
      data: { sources: [source], badRecords: 'skip', workers: 0, shuffle: false },
      schedule: { epochs: 1 },
    });
    const bad = events.filter(({ type }) => type === 'bad-record');
    expect(bad).toMatchObject([{ record: { line: 2, file: source } }]);
    expect(events.at(-1)).toMatchObject({ badRecords: 1 });
    expect(readFileSync(join(started(events).run!, 'events.jsonl'), 'utf8')).toContain(
      '"type":"bad-record"',
    );
  });

  test('leaves no tensor behind', async () => {
    await expect(() => run({ schedule: { updates: 1 } })).toLeakNothing();
    await expect(() => run({}, { dryRun: true })).toLeakNothing();
  });
});
