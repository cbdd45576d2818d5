/** `patina train --nproc` as it is typed: real processes, which meet over the loopback. */
import { readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

import type { RecipeInput } from '../config/index.js';
import { listRuns, type TrainEvent } from '../train/index.js';
import { updatesOf } from '../train/testing-events.js';
import { ColourFolder } from '../train/testing-files.js';
import { isAlive, run, Running, savedUnder, rankRecipe, trainArgs } from './testing-ranks.js';

let folder: ColourFolder;
beforeAll(async () => {
  folder = await ColourFolder.make();
});
afterAll(() => folder.remove());
afterEach(() => rmSync(folder.runs, { recursive: true, force: true }));

const recipe = (more?: Partial<RecipeInput>): string => rankRecipe(folder, more);
const train = trainArgs;
const lossesIn = (events: readonly TrainEvent[]): number[] =>
  events.flatMap((event) =>
    event.type === 'update' || event.type === 'validation' ? [event.loss!] : [],
  );
const answersIn = (events: readonly TrainEvent[]): unknown[] =>
  events.flatMap((event) => (event.type === 'probes' ? [event.answers] : []));

describe('a run of several ranks', () => {
  const text = 'What colour is it?';
  const whole: Partial<RecipeInput> = {
    effectiveBatch: 4,
    probes: { questions: [{ text, images: [] }], maxNewTokens: 4 },
  };

  test('learns what one process learns, in every stage', async () => {
    const validation = { sources: [folder.at('two.jsonl')], everyUpdates: 3 };
    const questions = [[], [folder.at('0.png')]].map((images) => ({ text, images }));
    const path = recipe({ ...whole, validation, probes: { questions, maxNewTokens: 4 } });
    const alone = await run(train(path));
    expect(alone.code, alone.err).toBe(0);
    const losses = lossesIn(alone.events);
    expect(losses).toHaveLength(8);
    for (const [zero, offload] of [
      [0, 'none'],
      [1, 'none'],
      [2, 'optimizer'],
      [3, 'parameters'],
    ] as const) {
      const { code, events, err } = await run(
        train(path, '--nproc', '2', '--set', `parallel=${JSON.stringify({ zero, offload })}`),
      );
      expect([code, err]).toEqual([0, '']);
      for (const [i, loss] of lossesIn(events).entries()) {
        expect(Math.abs(loss - losses[i]!), `stage ${zero}, loss ${i}`).toBeLessThan(1e-5);
      }
      expect(answersIn(events)).toEqual(answersIn(alone.events));
      for (const [i, { counts, epoch, ranks }] of updatesOf(events).entries()) {
        const same = updatesOf(alone.events)[i]!;
        expect([counts, epoch]).toEqual([same.counts, same.epoch]);
        expect(ranks!.map(({ rank }) => rank)).toEqual([0, 1]);
      }
      const statements = events.flatMap((event) =>
        event.type === 'start' ? event.statements : [],
      );
      expect(statements.at(-1)).toMatch(
        new RegExp(`^2 ranks, ZeRO stage ${zero}: each holds .* of optimizer`),
      );
    }
  });

  test('learns over a base in 4 bits, which stage 3 shares out as codes and scales', async () => {
    const base = await run(train(recipe(whole)));
    const { checkpoint } = base.events.at(-1) as { checkpoint: string };
    const path = recipe({
      ...{ effectiveBatch: 4, model: { from: checkpoint } },
      train: {
        vision: { base: 'nf4' },
        decoder: { lora: { rank: 2 }, base: 'nf4', doubleQuantised: true },
      },
    });
    const alone = await run(train(path));
    expect(alone.code, alone.err).toBe(0);
    for (const zero of [2, 3]) {
      const shared = await run(train(path, '--nproc', '2', '--set', `parallel.zero=${zero}`));
      expect([shared.code, shared.err]).toEqual([0, '']);
      for (const [i, loss] of lossesIn(shared.events).entries()) {
        expect(Math.abs(loss - lossesIn(alone.events)[i]!), `${zero}, ${i}`).toBeLessThan(1e-5);
      }
    }
  });

  test('shares out moments in 8 bits', async () => {
    const path = recipe({ ...whole, precision: { states: 'int8' } });
    const alone = await run(train(path));
    expect(alone.code, alone.err).toBe(0);
    for (const zero of [1, 3]) {
      const shared = await run(train(path, '--nproc', '2', '--set', `parallel.zero=${zero}`));
      expect([shared.code, shared.err]).toEqual([0, '']);
      for (const [i, loss] of lossesIn(shared.events).entries()) {
        // Where sums in another order decide between two codes.
        expect(Math.abs(loss - lossesIn(alone.events)[i]!), `${zero}, ${i}`).toBeLessThan(1e-3);
      }
    }
  });

  test('packed by tokens makes the same updates on one, two and four', async () => {
    const dropping = { projector: 'full', decoder: { lora: { rank: 2, alpha: 4, dropout: 0.1 } } };
    const path = recipe({
      ...{ batchSize: undefined, batchTokens: 40, batchImages: 2, effectiveBatch: 5 },
      ...{ train: dropping as RecipeInput['train'], schedule: { epochs: 1 } },
    });
    const alone = await run(train(path));
    expect(alone.code, alone.err).toBe(0);
    expect(updatesOf(alone.events).map(({ counts }) => counts.sequences)).toEqual([5, 5]);
    for (const [ranks, zero] of [
      [2, 2],
      [4, 3],
    ] as const) {
      const many = ['--nproc', String(ranks), '--set', `parallel.zero=${zero}`];
      const { code, events, err } = await run(train(path, ...many));
      expect([code, err]).toEqual([0, '']);
      for (const [i, { loss, counts, gradientNorm, filled }] of updatesOf(events).entries()) {
        const same = updatesOf(alone.events)[i]!;
        expect(counts).toEqual(same.counts);
        expect(Math.abs(loss! / same.loss! - 1), `${ranks} ranks, update ${i}`).toBeLessThan(1e-6);
        expect(Math.abs(gradientNorm / same.gradientNorm - 1)).toBeLessThan(1e-5);
        // Ranks wait for the one with most micro-batches, and all of them have as many.
        const steps = counts.tokens / (filled! * 40 * ranks);
        expect(steps).toBeCloseTo(Math.round(steps), 9);
      }
    }
  });

  test('goes on with any number of ranks, and each keeps a log', async () => {
    const path = recipe({ ...whole, schedule: { updates: 6 }, parallel: { zero: 2 } });
    const set = ['--set', 'accumulate=1'];
    const two = await run(train(path, '--nproc', '2', '--max-updates', '2'));
    expect(two.events.at(-1)).toMatchObject({ reason: 'max-updates', update: 2 });
    const one = await run(train(path, '--resume', '--max-updates', '4'));
    expect(one.events.at(-1)).toMatchObject({ reason: 'max-updates', update: 4 });
    const three = await run(
      train(
        path,
        '--resume',
        '--nproc',
        '3',
        '--profile',
        '1',
        '--set',
        'effectiveBatch=6',
        ...set,
      ),
    );
    expect(three.events.at(-1), three.err).toMatchObject({ reason: 'finished', update: 6 });
    const made = (await listRuns(folder.runs))[0]!.path;
    expect(readdirSync(join(made, 'logs')).sort()).toEqual(['rank-1.log', 'rank-2.log']);
    expect(readFileSync(join(made, 'logs/rank-2.log'), 'utf8')).toContain('goes on after update 4');
    // Each has its own profile, and the first tells of it.
    expect(readdirSync(join(made, 'profile')).sort()).toEqual(
      [0, 1, 2].map((rank) => `updates-6-6-rank-${rank}.json.gz`),
    );
    expect(three.events.filter(({ type }) => type === 'profile')).toHaveLength(1);
    expect(readFileSync(join(made, 'logs/rank-1.log'), 'utf8')).toContain('rank-1.json.gz');
  });

  const colours = ['red', 'green', 'blue', 'white', 'black'];
  const tasks = (count: number) => {
    const questions = Array.from({ length: count }, (_, i) => ({
      ...{ question_id: i, image: `${i % 5}.png`, question: text },
      answer: [`It is ${colours[i % 5]!}.`, colours[i % 5]!],
    }));
    return [{ task: 'exact', rows: 2, data: folder.writeRecords('questions.jsonl', questions) }];
  };
  const scoresIn = (events: readonly TrainEvent[]): unknown[] =>
    events.flatMap((event) =>
      event.type === 'score' ? [[event.update, event.score, event.n, event.best]] : [],
    );

  test('is asked tasks as one process is: dealt, or in stage 3 together', async () => {
    const validation = { tasks: tasks(5), everyUpdates: 3 };
    // One that has learnt to answer shortly.
    const learnt = await run(train(recipe({ effectiveBatch: 4, schedule: { updates: 40 } })));
    const { checkpoint } = learnt.events.at(-1) as { checkpoint: string };
    const model = { from: checkpoint };
    const batch = { batchSize: 1, effectiveBatch: 6 };
    const path = recipe({ ...batch, model, validation, schedule: { updates: 3 } });
    const texts = (events: readonly TrainEvent[]): string[] => {
      const { answers } = events.findLast(({ type }) => type === 'score') as { answers: string };
      const lines = readFileSync(answers, 'utf8').trim().split('\n');
      return lines.map((line) => (JSON.parse(line) as { text: string }).text);
    };
    const alone = await run(train(path));
    expect(alone.code, alone.err).toBe(0);
    expect(scoresIn(alone.events)).toHaveLength(2);
    for (const [ranks, parallel] of [
      [3, { zero: 0 }],
      [2, { zero: 2, offload: 'optimizer' }],
      [2, { zero: 3 }],
    ] as const) {
      const set = `parallel=${JSON.stringify(parallel)}`;
      const shared = await run(train(path, '--nproc', `${ranks}`, '--set', set));
      expect([shared.code, shared.err]).toEqual([0, '']);
      expect(scoresIn(shared.events)).toEqual(scoresIn(alone.events));
      expect(texts(shared.events)).toEqual(texts(alone.events));
    }
  });

  test('ends on all ranks where one of them cannot read a picture of a task', async () => {
    const [task] = tasks(5);
    writeFileSync(folder.at('page.png'), '<!doctype html>');
    const lines = readFileSync(task!.data, 'utf8').replace('"1.png"', '"page.png"');
    writeFileSync(task!.data, lines);
    for (const zero of [0, 3] as const) {
      const path = recipe({ validation: { tasks: [task!] }, parallel: { zero } });
      const { code, err } = await run(train(path, '--nproc', '2'));
      expect(code, err).toBe(4);
      expect(err).toContain('questions.jsonl:2: ');
    }
  });

  /** Events of a run that Ctrl-C ends on all ranks before its first update. */
  async function interruptedAtOnce(path: string) {
    const running = new Running(train(path, '--nproc', '2'));
    while ((await listRuns(folder.runs)).length === 0) await setTimeout(20);
    running.signal('SIGINT');
    const { code, events, err } = await running.ended;
    expect(code, err).toBe(130);
    expect(events.at(-1)).toMatchObject({ type: 'end', reason: 'interrupted', update: 0 });
    return events;
  }

  test('Ctrl-C ends an answer on all ranks', async () => {
    const probes = { questions: [{ text, images: [] }], maxNewTokens: 2000 };
    const path = recipe({ probes, parallel: { zero: 3 } });
    const events = await interruptedAtOnce(path);
    expect(answersIn(events)).toEqual([]);
  });

  test.each([0, 3] as const)('Ctrl-C ends a task on all ranks, in stage %i', async (zero) => {
    const path = recipe({ validation: { tasks: tasks(400) }, parallel: { zero } });
    const events = await interruptedAtOnce(path);
    expect(scoresIn(events)).toEqual([]);
  });

  test('Ctrl-C saves once, and ends with 130', async () => {
    const running = new Running(
      train(
        recipe({ schedule: { updates: 100_000 }, checkpoints: { everyUpdates: 10 } }),
        ...['--nproc', '2', '--set', 'parallel.zero=2'],
      ),
    );
    await savedUnder(folder.runs);
    const { ranks } = running;
    running.signal('SIGINT');
    const { code, events } = await running.ended;
    expect(code).toBe(130);
    const end = events.at(-1)!;
    expect(end).toMatchObject({ type: 'end', reason: 'interrupted' });
    expect(events.at(-2)).toMatchObject({ type: 'checkpoint' });
    const of = events.filter(
      (each) => each.type === 'checkpoint' && 'update' in end && each.update === end.update,
    );
    expect(of).toHaveLength(1);
    expect(ranks.filter(isAlive)).toEqual([]);
  });
});
