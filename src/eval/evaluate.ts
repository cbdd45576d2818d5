/** A benchmark from its file to its score: what has no answer yet is asked, then all is scored. */
import { existsSync } from 'node:fs';

import { JsonLinesWriter } from '../base/json-lines.js';
import { requireWritable } from '../base/writable.js';
import type { ChatModel } from '../generate/index.js';
import {
  answersError,
  expectSame,
  holdAnswers,
  isOther,
  matchAnswers,
  readAnswers,
  storedAnswer,
} from './answers-file.js';
import type { AskOptions } from './ask.js';
import { isAnswered } from './item.js';
import { expectPictures, openTask, type OpenTask, type OpenTaskOptions } from './open-task.js';
import { compare, type Comparison, expectAnswered, grade, score, type Score } from './score.js';
import type { Graded, HarnessName } from './task.js';

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
  /** Told what may be meant so. */
  readonly onNotice?: ((message: string) => void) | undefined;
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
 * @throws UsageError `E_EVAL_TASK`, `E_EVAL_HARNESS`; DataError `E_EVAL_DATA`, `E_EVAL_ANSWERS`; EnvironmentError `E_UNWRITABLE`,
 *   `E_ANSWERS_IN_USE`; those of `askAll` and of `load`; the signal's reason
 */
export async function evaluate(name: string, options: EvaluateOptions): Promise<Evaluation> {
  const { onNotice, signal } = options;
  const open = await openTask(name, options);
  const { task, by, harness, items } = open;
  const isScored = options.compare !== undefined || items.some(isAnswered);
  // All that can be wrong with files is told before the first question.
  if (isScored) expectAnswered(items, task.name);
  const others = options.compare && (await storedTexts(open, options.compare, onNotice));
  const texts = await answerAll(open, options);
  if (!isScored) {
    const answered = items.map((item, i) => ({
      ...{ item, text: texts[i]! },
      extracted: harness.grade(texts[i]!, item).extracted,
      score: null,
    }));
    return { task: task.name, harness: by, answered, result: null };
  }
  const answered = grade(items, texts, harness);
  const result = await score(answered, harness, signal);
  if (!others) return { task: task.name, harness: by, answered, result };
  const second = grade(items, others, harness);
  const { score: other } = await score(second, harness, signal);
  return {
    ...{ task: task.name, harness: by, answered, result },
    comparison: { ...compare(answered, second), score: other },
  };
}

async function answerAll(open: OpenTask, options: EvaluateOptions): Promise<string[]> {
  const { answers: file, model, load, onProgress, onNotice, system, rows, signal } = options;
  const { task, harness, items, all } = open;
  if (load === undefined) return storedTexts(open, file, onNotice);
  if (file !== undefined) await requireWritable(file, 'keep the answers', 'log');
  using _held = file === undefined ? undefined : await holdAnswers(file);
  // A file may have the answers to more questions than are wanted now.
  const stored = file === undefined ? [] : matchAnswers(all, await readAnswers(file), file);
  const asked = items.map((item) => ({ prompt: harness.prompt(item), system, model }));
  if (file !== undefined) expectSame(stored.slice(0, items.length), asked, file);
  const texts = items.map((_, i) => stored[i]?.text);
  const places = items.flatMap((_, i) => (texts[i] === undefined ? [i] : []));
  if (places.length === 0) return texts as string[];
  const missing = places.map((i) => items[i]!);
  await expectPictures(missing, task);
  const chat = await load();
  // Who only scores needs no libtorch.
  const { askAll } = await import('./ask.js');
  using writer = file === undefined ? undefined : new JsonLinesWriter(file);
  let done = items.length - missing.length;
  onProgress?.(done, items.length);
  const { prompt, maxNewTokens } = harness;
  for await (const text of askAll(chat, missing, { prompt, maxNewTokens, system, rows, signal })) {
    const place = places.shift()!;
    writer?.write(storedAnswer(items[place]!, { ...asked[place]!, text }));
    texts[place] = text;
    onProgress?.(++done, items.length);
  }
  return texts as string[];
}

/** Answers that stand in a file, whoever gave them. */
async function storedTexts(
  { harness, by, items, all }: OpenTask,
  file: string | undefined,
  onNotice: EvaluateOptions['onNotice'],
): Promise<string[]> {
  if (file === undefined)
    throw answersError('There is neither a model to ask nor a file of answers.', ASK);
  if (!existsSync(file)) throw answersError(`There is no file of answers ${file}.`, ASK);
  const stored = matchAnswers(all, await readAnswers(file), file);
  const missing = items.filter((_, i) => stored[i] === undefined);
  if (missing.length > 0) {
    throw answersError(
      `${missing.length} of ${items.length} questions have no answer in ${file}, the first at ${missing[0]!.where}.`,
      ASK,
    );
  }
  const others = items.filter((item, i) => isOther(stored[i], harness.prompt(item)));
  if (others.length > 0) {
    onNotice?.(
      `${others.length} of ${items.length} answers in ${file} are to other words than ${by} asks with, the first at ${others[0]!.where}.`,
    );
  }
  return items.map((_, i) => stored[i]!.text);
}

const ASK = 'Name a model to ask, or the file that has all answers.';
