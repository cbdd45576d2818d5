/** Answers in LLaVA's format, one JSON object a line: what a model said to which question, so that it need not be asked again. */
import { randomUUID } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { dirname } from 'node:path';

import { DataError, EnvironmentError } from '../base/errors.js';
import { readJsonLines } from '../base/json-lines.js';
import { FileLock, tryLock } from '../base/lock-file.js';
import { shortText } from '../base/short-text.js';
import { writing } from '../base/system-error.js';
import type { Item } from './item.js';

export interface StoredAnswer {
  readonly question_id: string | number;
  readonly prompt: string;
  readonly text: string;
  readonly answer_id: string;
  readonly model_id: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** What is read back; other programs leave the rest out, or empty. */
interface ReadAnswer extends Pick<StoredAnswer, 'question_id' | 'text'> {
  readonly prompt: string | undefined;
  readonly model: string | undefined;
  /** `undefined` where it was left to the model, `null` where nothing is said of it. */
  readonly system: unknown;
}

/**
 * Takes hold of a file of answers, there or not yet: of two processes that ask, each would add all of them.
 *
 * @throws EnvironmentError `E_ANSWERS_IN_USE`, `E_UNWRITABLE`
 */
export async function holdAnswers(file: string): Promise<FileLock> {
  const path = `${file}.lock`;
  const lock = await writing(file, 'keep the answers', async () => {
    await mkdir(dirname(file), { recursive: true });
    return tryLock(path);
  });
  if (lock instanceof FileLock) return lock;
  throw new EnvironmentError(
    `${file} is in use by process ${lock.pid} on ${lock.host}, since ${lock.since}.`,
    {
      code: 'E_ANSWERS_IN_USE',
      hint: `Wait for it, stop it, or give another file for the answers; if that machine is gone, remove ${path}.`,
    },
  );
}

/** @throws DataError `E_EVAL_ANSWERS`, `E_JSON_LINE`; an empty list where there is no such file */
export async function readAnswers(file: string): Promise<ReadAnswer[]> {
  if (!existsSync(file)) return [];
  if (statSync(file).isDirectory()) {
    throw answersError(`${file} is a folder.`, 'Name a file in it, such as answers.jsonl.');
  }
  const answers: ReadAnswer[] = [];
  for await (const { value, line } of readJsonLines(file)) {
    const { question_id: id, text, ...rest } = (value ?? {}) as Record<string, unknown>;
    if ((typeof id !== 'string' && typeof id !== 'number') || typeof text !== 'string') {
      throw answersError(
        `${file}:${line} is no answer: it wants question_id and text.`,
        'Give a file that `patina eval --answers` or LLaVA has written.',
      );
    }
    const { prompt, model_id: model, metadata } = rest;
    answers.push({
      ...{ question_id: id, text },
      prompt: typeof prompt === 'string' ? prompt : undefined,
      model: typeof model === 'string' ? model : undefined,
      system: metadata ? (metadata as Record<string, unknown>)['system'] : null,
    });
  }
  return answers;
}

/**
 * The answer to each item, `undefined` where there is none; of several with one id the first belongs to the first item of that id.
 *
 * @throws DataError `E_EVAL_ANSWERS` for more answers of an id than items
 */
export function matchAnswers(
  items: readonly Item[],
  answers: readonly ReadAnswer[],
  file: string,
): (ReadAnswer | undefined)[] {
  const waiting = new Map<string, ReadAnswer[]>();
  for (const answer of answers) {
    const key = String(answer.question_id);
    const others = waiting.get(key);
    if (others === undefined) waiting.set(key, [answer]);
    else others.push(answer);
  }
  const matched = items.map(({ id }) => waiting.get(String(id))?.shift());
  const left = [...waiting.values()].flat();
  if (left.length === 0) return matched;
  throw answersError(
    `${file} has ${left.length} answers to no question of the data, the first to ${shortText(String(left[0]!.question_id), 60)}.`,
    'Give the file of questions that these answers are to, or another file for the answers.',
  );
}

/** How a question was put, and to whom. */
export interface Asked {
  readonly prompt: string;
  /** What was said before it, where that is not left to the model. */
  readonly system?: string | undefined;
  /** Name of the model. */
  readonly model: string;
}

/**
 * Checks that the answers of a file are those that a model would be asked for now; what a program does not say of its answers may be so.
 *
 * @throws DataError `E_EVAL_ANSWERS` where a question was put otherwise or another model has answered
 */
export function expectSame(
  matched: readonly (ReadAnswer | undefined)[],
  asked: readonly Asked[],
  file: string,
): void {
  matched.forEach((answer, i) => {
    if (answer === undefined) return;
    const { model, prompt, system } = asked[i]!;
    const { model: other = model } = answer;
    const question = `question ${shortText(String(answer.question_id), 60)}`;
    let what: string;
    if (other !== model) what = `answers of ${shortText(other, 120)}, not of ${model}`;
    else if (isOther(answer, prompt)) what = `an answer to ${question} in other words`;
    else if (answer.system !== null && answer.system !== system) {
      what = `an answer to ${question} behind another system prompt`;
    } else return;
    throw answersError(
      `${file} holds ${what}.`,
      'Give another file for the answers, or the same model, data and options as before; `-` in place of the model scores what the file holds.',
    );
  });
}

/** Whether the file says that it is an answer to something else. */
export function isOther(answer: ReadAnswer | undefined, prompt: string): boolean {
  return answer?.prompt !== undefined && answer.prompt !== prompt;
}

export function storedAnswer(
  { id }: Item,
  { prompt, system, model, text }: Asked & { readonly text: string },
): StoredAnswer {
  return {
    question_id: id,
    prompt,
    text,
    answer_id: randomUUID(),
    model_id: model,
    metadata: system === undefined ? {} : { system },
  };
}

export function answersError(message: string, hint: string): DataError {
  return new DataError(message, { code: 'E_EVAL_ANSWERS', hint });
}
