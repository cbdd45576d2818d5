/** A task opened: its questions read from a file, and what can be wrong with them found before a model is loaded. */
import { access } from 'node:fs/promises';

import { DataError } from '../base/errors.js';
import { readItems } from './data/read-items.js';
import type { Item } from './item.js';
import type { Harness, HarnessName, Task } from './task.js';
import { findHarness, findTask } from './tasks.js';

export interface OpenTaskOptions {
  /** File of the questions. */
  readonly data: string;
  /** Folder of the pictures. @default that of the file */
  readonly images?: string | undefined;
  /** By whose rules. @default the first of the task's */
  readonly harness?: string | undefined;
  /** Only so many questions, the first ones. @default all */
  readonly limit?: number | undefined;
}

export interface OpenTask {
  readonly task: Task;
  readonly harness: Harness;
  readonly by: HarnessName;
  /** All questions of the file. */
  readonly all: readonly Item[];
  /** Those that are asked. */
  readonly items: readonly Item[];
}

/**
 * Reads the questions of a task.
 *
 * @throws UsageError `E_EVAL_TASK`, `E_EVAL_HARNESS`; DataError `E_EVAL_DATA`, `E_JSON_LINE`
 */
export async function openTask(
  name: string,
  { data, images, harness: rules, limit }: OpenTaskOptions,
): Promise<OpenTask> {
  const task = findTask(name);
  const { harness, name: by } = findHarness(task, rules);
  try {
    const read = await readItems(data, { images });
    const all = task.refine === undefined ? read : read.map(task.refine);
    return { task, harness, by, all, items: all.slice(0, limit) };
  } catch (cause) {
    throw withSource(cause, task);
  }
}

/**
 * Looks for the pictures of questions: hours should not go by before one is missed.
 *
 * @throws DataError `E_EVAL_DATA`
 */
export async function expectPictures(
  items: readonly Item[],
  { source }: Pick<Task, 'source'>,
): Promise<void> {
  /** By path, where each is first asked about. */
  const places = new Map<string, string>();
  for (const { pictures, where } of items) {
    for (const each of pictures) {
      if ('path' in each && !places.has(each.path)) places.set(each.path, where);
    }
  }
  const missing: [path: string, where: string][] = [];
  for (const place of places) await access(place[0]).catch(() => missing.push(place));
  const [first] = missing;
  if (first === undefined) return;
  throw new DataError(
    `${missing.length} of ${places.size} pictures are missing, the first is ${first[0]} (${first[1]}).`,
    {
      code: 'E_EVAL_DATA',
      hint: `Name their folder: --images, or \`images\` in a recipe. ${source}.`,
    },
  );
}

function withSource(cause: unknown, { name, source, fields }: Task): unknown {
  if (!(cause instanceof DataError) || cause.code !== 'E_EVAL_DATA') return cause;
  return new DataError(cause.message, {
    code: cause.code,
    hint: `${source}. A file of ${name} (TSV, JSON or JSON Lines) has ${fields}; see docs/evaluation.md.`,
    cause,
  });
}
