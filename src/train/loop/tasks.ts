/**
 * Tasks during training: the questions of a benchmark, answered by the model as it is now.
 *
 * Where each rank has the whole model, questions are dealt to the ranks; where ranks share it out, all of them answer all questions
 * together, as no rank could alone.
 */

import { join } from 'node:path';
import { jsonLine } from '../../base/json-text.js';
import { writing } from '../../base/system-error.js';
import { writeWholeFile } from '../../base/whole-file.js';
import { grade, score, storedAnswer, type Item, type Score } from '../../eval/index.js';
import type { Agree } from '../../generate/index.js';
import type { Residency } from '../../models/index.js';
import { together, type Peers } from '../../parallel/index.js';
import type { RunTask } from '../prepare/open-tasks.js';
import type { Agreement } from './agreement.js';

/** Answers to questions of a task with the model as it is now, in their order. */
export type AskTask = (
  task: RunTask,
  items: readonly Item[],
  options: AskTaskOptions,
) => AsyncIterable<string>;

export interface AskTaskOptions {
  readonly signal: AbortSignal | undefined;
  /** For ranks that answer together: what brings the parameters, and what they agree by; `null` for one that answers alone. */
  readonly shared: { readonly residency: Residency; readonly agree: Agree } | null;
}

export interface TaskRanks {
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
  { agreement, peers, residency }: TaskRanks,
): Promise<string[]> {
  const { items } = task;
  if (residency !== null) {
    await agreement.settle();
    const { agree, signal } = agreement;
    return all(ask(task, items, { signal, shared: { residency, agree } }));
  }
  const { rank, size } = peers;
  const dealt = items.filter((_, i) => i % size === rank);
  // A rank that is told to stop does so at once, and the others learn of it when they are done.
  const { own: signal } = agreement;
  const told = await together(peers, `answers to ${task.name}`, async () => {
    try {
      return await all(ask(task, dealt, { signal, shared: null }));
    } catch (error) {
      if (signal?.aborted === true && error === signal.reason) return null;
      throw error;
    }
  });
  await agreement.settle();
  agreement.signal?.throwIfAborted();
  return items.map((_, i) => told[i % size]![Math.floor(i / size)]!);
}

export function scoreOf({ items, harness }: RunTask, texts: readonly string[]): Score {
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
