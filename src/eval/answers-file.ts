/** Answers in LLaVA's format, one JSON object a line: what a model said to which question, so that it need not be asked again. */
import { randomUUID } from 'node:crypto';
import { existsSync, statSync } from 'node:fs';

import { DataError } from '../base/errors.js';
import { readJsonLines } from '../base/json-lines.js';
import { shortText } from '../base/short-text.js';
import type { Item } from './item.js';

export interface StoredAnswer {
  readonly question_id: string | number;
  readonly prompt: string;
  readonly text: string;
  readonly answer_id: string;
  readonly model_id: string;
  readonly metadata: Readonly<Record<string, unknown>>;
}

/** What is read back; other programs leave fields out. */
type ReadAnswer = Pick<StoredAnswer, 'question_id' | 'text'> & Partial<StoredAnswer>;

/** @throws DataError `E_EVAL_ANSWERS`, `E_JSON_LINE`; an empty list where there is no such file */
export async function readAnswers(file: string): Promise<ReadAnswer[]> {
  if (!existsSync(file)) return [];
  if (statSync(file).isDirectory()) {
    throw answersError(`${file} is a folder.`, 'Name a file in it, such as answers.jsonl.');
  }
  const answers: ReadAnswer[] = [];
  for await (const { value, line } of readJsonLines(file)) {
    const { question_id: id, text } = (value ?? {}) as Record<string, unknown>;
    if ((typeof id !== 'string' && typeof id !== 'number') || typeof text !== 'string') {
      throw answersError(
        `${file}:${line} is no answer: it wants question_id and text.`,
        'Give a file that `patina eval --answers` or LLaVA has written.',
      );
    }
    answers.push(value as ReadAnswer);
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
    waiting.set(key, [...(waiting.get(key) ?? []), answer]);
  }
  const matched = items.map(({ id }) => waiting.get(String(id))?.shift());
  const left = [...waiting.values()].flat();
  if (left.length === 0) return matched;
  throw answersError(
    `${file} has ${left.length} answers to no question of the data, the first to ${shortText(String(left[0]!.question_id), 60)}.`,
    'Give the file of questions that these answers are to, or another file for the answers.',
  );
}

/**
 * Checks that new answers may stand beside those of a file.
 *
 * @throws DataError `E_EVAL_ANSWERS` where a question was put otherwise or another model has answered
 */
export function expectSame(
  matched: readonly (ReadAnswer | undefined)[],
  { prompts, model, file }: { prompts: readonly string[]; model: string; file: string },
): void {
  matched.forEach((answer, i) => {
    if (answer === undefined) return;
    const { prompt, model_id: other, question_id: id } = answer;
    const otherPrompt = prompt !== undefined && prompt !== prompts[i];
    if (!otherPrompt && (other === undefined || other === model)) return;
    const what = otherPrompt
      ? `was asked question ${shortText(String(id), 60)} in other words`
      : `holds answers of ${shortText(other!, 60)}, not of ${model}`;
    throw answersError(
      `${file} ${what}, so the missing answers cannot be added.`,
      'Give another file for the answers, or the same model, data and --harness as before.',
    );
  });
}

export interface Said {
  readonly prompt: string;
  readonly text: string;
  /** Name of the model. */
  readonly model: string;
}

export function storedAnswer({ id }: Item, { prompt, text, model }: Said): StoredAnswer {
  return {
    question_id: id,
    prompt,
    text,
    answer_id: randomUUID(),
    model_id: model,
    metadata: {},
  };
}

export function answersError(message: string, hint: string): DataError {
  return new DataError(message, { code: 'E_EVAL_ANSWERS', hint });
}
