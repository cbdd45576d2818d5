/**
 * Tasks during training: the questions of a benchmark, answered by the model as it is now.
 *
 * Questions are dealt to the ranks. Where each has the whole model they answer on their own, many questions at once and the next one as
 * soon as one is answered; where they share it out, in step.
 */

import { join } from 'node:path';
import { OutOfMemoryError } from '../../base/errors.js';
import { jsonLine } from '../../base/json-text.js';
import { writing } from '../../base/system-error.js';
import { writeWholeFile } from '../../base/whole-file.js';
import { grade, score, storedAnswer, type Item, type Score } from '../../eval/index.js';
import type { Each } from '../../generate/index.js';
import type { Residency } from '../../models/index.js';
import { together, type Peers } from '../../parallel/index.js';
import { emptyCache, type Device } from '../../torch/index.js';
import type { RunTask } from '../prepare/open-tasks.js';
import type { Agreement } from './agreement.js';

/** Answers to questions of a task with the model as it is now, in their order. */
export type AskTask = (
  task: RunTask,
  items: readonly Item[],
  options: AskTaskOptions,
) => AsyncIterable<string>;

export interface AskTaskOptions {
  /** Most questions at once. */
  readonly rows: number;
  readonly signal: AbortSignal | undefined;
  /** For ranks that share the model out; `null` for one that answers alone. */
  readonly shared: {
    readonly residency: Residency;
    readonly each: Each;
    /** How often every rank asks so many. */
    readonly rounds: number;
  } | null;
}

export interface Answers {
  readonly texts: readonly string[];
  /** Most questions that were answered at once on each rank: fewer than the recipe says where memory did not suffice for these. */
  readonly rows: number;
}

export interface TaskRanks {
  readonly device: Device;
  readonly agreement: Agreement;
  /** The ranks, as they meet for answers alone: one may wait for another for long. */
  readonly peers: Peers;
  /** What brings the parameters; `null` where each rank has them all. */
  readonly residency: Residency | null;
}

/**
 * The answers to all questions of a task, on every rank.
 *
 * @throws what `ask` throws, on all ranks; the signal's reason
 */
export async function answersTo(
  task: RunTask,
  ask: AskTask,
  { device, agreement, peers, residency }: TaskRanks,
): Promise<Answers> {
  const { items, settings } = task;
  const { rank, size } = peers;
  const dealt = items.filter((_, i) => i % size === rank);
  const label = `answers to ${task.name}`;
  let told: readonly (Answers | null)[];
  if (residency === null) {
    // A rank that is told to stop does so at once, and the others learn of it when they are done.
    const { own: signal } = agreement;
    told = await together(peers, label, async () => {
      try {
        return await answersAlone(task, dealt, { ask, device, signal });
      } catch (error) {
        if (signal?.aborted === true && error === signal.reason) return null;
        throw error;
      }
    });
  } else {
    const { rows } = settings;
    const { each, signal } = agreement;
    const shared = { residency, each, rounds: Math.ceil(items.length / size / rows) };
    await agreement.settle();
    signal?.throwIfAborted();
    const texts = await all(ask(task, dealt, { rows, signal, shared }));
    told = await peers.gather(label, { texts, rows });
  }
  await agreement.settle();
  agreement.signal?.throwIfAborted();
  return {
    texts: items.map((_, i) => told[i % size]!.texts[Math.floor(i / size)]!),
    rows: Math.min(...told.map((each) => each!.rows)),
  };
}

/** Fewer at once where memory does not suffice for more: a run should not end by what it is only asked. */
async function answersAlone(
  task: RunTask,
  items: readonly Item[],
  { ask, device, signal }: { ask: AskTask; device: Device; signal: AbortSignal | undefined },
): Promise<Answers> {
  const texts: string[] = [];
  let { rows } = task.settings;
  for (;;) {
    try {
      const left = items.slice(texts.length);
      for await (const text of ask(task, left, { rows, signal, shared: null })) texts.push(text);
      return { texts, rows };
    } catch (error) {
      if (!(error instanceof OutOfMemoryError) || rows === 1) throw error;
      rows = Math.floor(rows / 2);
      emptyCache(device);
    }
  }
}

export function scoreOf({ items, harness }: RunTask, texts: readonly string[]): Promise<Score> {
  return score(grade(items, texts, harness), harness);
}

export interface KeepOptions {
  readonly texts: readonly string[];
  readonly update: number;
  /** Folder of the run. */
  readonly run: string;
  /** Name under which answers stand. */
  readonly model: string;
}

/**
 * Keeps answers in LLaVA's format, for `patina eval - TASK --answers FILE`.
 *
 * @returns the file
 * @throws EnvironmentError `E_DISK_FULL`, `E_UNWRITABLE`
 */
export async function keepAnswers(
  { name, items, harness }: RunTask,
  { texts, update, run, model }: KeepOptions,
): Promise<string> {
  const file = `update-${String(update).padStart(8, '0')}.jsonl`;
  const path = join(run, 'answers', name, file);
  const lines = items.map((item, i) =>
    jsonLine(storedAnswer(item, { prompt: harness.prompt(item), text: texts[i]!, model })),
  );
  await writing(path, 'keep the answers', () => writeWholeFile(path, lines.join('')));
  return path;
}

async function all(texts: AsyncIterable<string>): Promise<string[]> {
  const list: string[] = [];
  for await (const text of texts) list.push(text);
  return list;
}
