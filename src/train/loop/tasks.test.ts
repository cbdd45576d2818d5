import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';
import { OutOfMemoryError } from '../../base/errors.js';
import { ALONE } from '../../parallel/index.js';
import { peersInMemory } from '../../parallel/testing.js';
import { openTasks, type RunTask } from '../prepare/open-tasks.js';
import { Ranks } from '../run/ranks.js';
import { Agreement } from './agreement.js';
import { answersTo, type AskTask } from './tasks.js';

let root: string;
let task: RunTask;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'patina-tasks-'));
  const data = join(root, 'seven.jsonl');
  const questions = Array.from({ length: 7 }, (_, i) =>
    JSON.stringify({ question_id: i, question: `Question ${i}?`, answer: 'yes' }),
  );
  writeFileSync(data, questions.join('\n'));
  [task] = (await openTasks({
    validation: {
      ...{ everyUpdates: 1, minimumImprovement: 0 },
      tasks: [{ task: 'exact', data, rows: 8 }],
    },
  })) as [RunTask];
});
afterAll(() => rmSync(root, { recursive: true }));

const agreementOf = (signal?: AbortSignal): Agreement =>
  new Agreement(new Ranks(), { signal, peakBytes: () => 0, saved: () => 0 });
/** Says the number of each question. */
const echo: AskTask = async function* (_task, items) {
  for (const { id } of items) {
    await Promise.resolve();
    yield `${id}`;
  }
};
const onCpu = { device: 'cpu', residency: null } as const;

describe('answers to a task', () => {
  test.each([1, 2, 3, 9])('come in the order of the questions from %i ranks', async (size) => {
    const all = await Promise.all(
      peersInMemory(size).map((peers) =>
        answersTo(task, echo, { ...onCpu, peers, agreement: agreementOf() }),
      ),
    );
    for (const each of all) expect(each.texts).toEqual(['0', '1', '2', '3', '4', '5', '6']);
  });

  test('are asked fewer at once where memory does not suffice, and none twice', async () => {
    const calls: [rows: number, first: unknown, count: number][] = [];
    const tight: AskTask = async function* (own, items, options) {
      calls.push([options.rows, items[0]!.id, items.length]);
      let given = 0;
      for await (const text of echo(own, items, options)) {
        if (options.rows > 2 && given++ === 2)
          throw new OutOfMemoryError('full', { code: 'E', hint: '' });
        yield text;
      }
    };
    const options = { ...onCpu, peers: ALONE, agreement: agreementOf() };
    const { texts, rows } = await answersTo(task, tight, options);
    expect(texts).toEqual(['0', '1', '2', '3', '4', '5', '6']);
    expect(rows).toBe(2);
    expect(calls).toEqual([
      [8, 0, 7],
      [4, 2, 5],
      [2, 4, 3],
    ]);

    const never: AskTask = async function* () {
      await Promise.resolve();
      throw new OutOfMemoryError('full', { code: 'E', hint: '' });
    };
    await expect(answersTo(task, never, options)).rejects.toThrow('full');
  });

  test('that a signal ends are none, on all ranks', async () => {
    const stop = new AbortController();
    const ask: AskTask = async function* (own, items, options) {
      for await (const text of echo(own, items, options)) {
        yield text;
        stop.abort(new Error('enough'));
        options.signal?.throwIfAborted();
      }
    };
    const agreement = agreementOf(stop.signal);
    const given = answersTo(task, ask, { ...onCpu, peers: ALONE, agreement });
    await expect(given).rejects.toThrow('enough');
  });

  test('that fail on one rank fail on all, with its error', async () => {
    const fails: AskTask = async function* (own, items, options) {
      for await (const text of echo(own, items, options)) {
        if (text === '3') throw new Error('seven.jsonl:4: no picture');
        yield text;
      }
    };
    const all = await Promise.allSettled(
      peersInMemory(2).map((peers) =>
        answersTo(task, fails, { ...onCpu, peers, agreement: agreementOf() }),
      ),
    );
    expect(all.map((each) => (each as { reason: Error }).reason.message)).toEqual([
      'rank 1: seven.jsonl:4: no picture',
      'seven.jsonl:4: no picture',
    ]);
  });
});
