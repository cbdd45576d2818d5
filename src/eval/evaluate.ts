/** A benchmark from its file to its score: what has no answer yet is asked, then all is scored. */
import { existsSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';

import type { DataError } from '../base/errors.js';
import { JsonLinesWriter } from '../base/json-lines.js';
import { requireWritable } from '../base/writable.js';
import type { ChatModel } from '../generate/index.js';
import {
  answersError,
  expectSame,
  matchAnswers,
  readAnswers,
  storedAnswer,
} from './answers-file.js';
import type { AskOptions } from './ask.js';
import { isAnswered, type Item } from './item.js';
import { expectPictures, openTask, type OpenTaskOptions } from './open-task.js';
import { compare, type Comparison, expectAnswered, grade, score, type Score } from './score.js';
import type { Graded, HarnessName, Task } from './task.js';

export interface EvaluateOptions
  extends OpenTaskOptions, Pick<AskOptions, 'rows' | 'system' | 'signal'> {
  /** File of the answers: what it has is not asked again, what is asked is added. @default none */
  readonly answers?: string | undefined;
  /** Answers of another model to the same questions. */
  readonly compare?: string | undefined;
  /** The name that answers are written under. */
  readonly model: string;
  /** Loads it, where there is something to ask; without it all must be answered. */
  readonly load?: (() => Promise<ChatModel>) | undefined;
  /** Before the first question, and after each. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

export interface Evaluation {
  readonly task: string;
  readonly harness: HarnessName;
  /** In the order of the file; a score is `null` where the file does not say what is right. */
  readonly answered: readonly (Omit<Graded, 'score'> & { readonly score: number | null })[];
  /** `null` where the file does not say what is right, as a test split. */
  readonly result: Score | null;
  readonly comparison?: (Comparison & { readonly score: number }) | undefined;
}

/**
 * @throws UsageError `E_EVAL_TASK`, `E_EVAL_HARNESS`; DataError `E_EVAL_DATA`, `E_EVAL_ANSWERS`; EnvironmentError `E_UNWRITABLE`; those of `askAll` and of `load`; the
 *   signal's reason
 */
export async function evaluate(name: string, options: EvaluateOptions): Promise<Evaluation> {
  const { task, by, harness, all, items } = await openTask(name, options);
  const asked = await answerAll(all, harness.prompt, harness.maxNewTokens, options, task);
  if (!items.some(isAnswered)) {
    const answered = items.map((item, i) => ({
      ...{ item, text: asked[i]! },
      extracted: harness.grade(asked[i]!, item).extracted,
      score: null,
    }));
    return { task: task.name, harness: by, answered, result: null };
  }
  expectAnswered(items, task.name);
  const answered = grade(items, asked, harness);
  const result = score(answered, harness);
  if (options.compare === undefined) {
    return { task: task.name, harness: by, answered, result };
  }
  const others = await storedTexts(all, options.compare, options.limit);
  const second = grade(items, others, harness);
  return {
    ...{ task: task.name, harness: by, answered, result },
    comparison: { ...compare(answered, second), score: score(second, harness).score },
  };
}

async function answerAll(
  all: readonly Item[],
  prompt: (item: Item) => string,
  maxNewTokens: number,
  { answers: file, model, load, onProgress, limit, ...options }: EvaluateOptions,
  task: Task,
): Promise<string[]> {
  const items = all.slice(0, limit);
  // A file may have the answers to more questions than are wanted now.
  const stored = file === undefined ? [] : matchAnswers(all, await readAnswers(file), file);
  const texts = items.map((_, i) => stored[i]?.text);
  const missing = items.filter((_, i) => texts[i] === undefined);
  if (missing.length === 0) return texts as string[];
  if (load === undefined) throw unanswered(missing, items.length, file);
  if (file !== undefined) {
    expectSame(stored.slice(0, limit), { prompts: items.map(prompt), model, file });
  }
  await expectPictures(missing, task);
  if (file !== undefined) await requireWritable(file, 'keep the answers', 'log');
  const chat = await load();
  // Who only scores needs no libtorch.
  const { askAll } = await import('./ask.js');
  if (file !== undefined) await mkdir(dirname(file), { recursive: true });
  using writer = file === undefined ? undefined : new JsonLinesWriter(file);
  let done = items.length - missing.length;
  onProgress?.(done, items.length);
  const places = items.flatMap((_, i) => (texts[i] === undefined ? [i] : []));
  for await (const text of askAll(chat, missing, { ...options, prompt, maxNewTokens })) {
    const place = places.shift()!;
    const item = items[place]!;
    writer?.write(storedAnswer(item, { prompt: prompt(item), text, model }));
    texts[place] = text;
    onProgress?.(++done, items.length);
  }
  return texts as string[];
}

async function storedTexts(all: readonly Item[], file: string, limit?: number): Promise<string[]> {
  const stored = matchAnswers(all, await readAnswers(file), file).slice(0, limit);
  const missing = all.slice(0, limit).filter((_, i) => stored[i] === undefined);
  if (missing.length > 0) throw unanswered(missing, stored.length, file);
  return stored.map((answer) => answer!.text);
}

function unanswered(missing: readonly Item[], all: number, file: string | undefined): DataError {
  return answersError(
    file === undefined
      ? 'There is neither a model to ask nor a file of answers.'
      : existsSync(file)
        ? `${missing.length} of ${all} questions have no answer in ${file}, the first at ${missing[0]!.where}.`
        : `There is no file of answers ${file}.`,
    'Name a model to ask, or the file that has all answers.',
  );
}
