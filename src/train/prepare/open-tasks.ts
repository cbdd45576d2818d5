/** The tasks that a run asks at each validation: read, and refused where something is wrong with them, before anything is loaded. */

import { createHash } from 'node:crypto';
import { DataError, PatinaError, UsageError } from '../../base/errors.js';
import { plural } from '../../base/format.js';
import { taskName, type Recipe, type TaskRecipe } from '../../config/index.js';
import { expectAnswered, expectPictures, openTask, type OpenTask } from '../../eval/index.js';

export interface RunTask extends OpenTask {
  /** Of its curve. */
  readonly name: string;
  readonly settings: Pick<TaskRecipe, 'rows' | 'system'>;
}

/**
 * @throws UsageError `E_EVAL_TASK`, `E_EVAL_HARNESS`; DataError `E_EVAL_DATA`, `E_JSON_LINE`, each of which names the field of the
 *   recipe
 */
export async function openTasks({ validation }: Pick<Recipe, 'validation'>): Promise<RunTask[]> {
  const tasks: RunTask[] = [];
  for (const [i, { task, rows, system, ...file }] of (validation?.tasks ?? []).entries()) {
    try {
      const open = await openTask(task, file);
      expectAnswered(open.items, task);
      await expectPictures(open.items, open.task);
      tasks.push({ ...open, name: taskName({ ...file, task }), settings: { rows, system } });
    } catch (error) {
      throw naming(`validation.tasks.${i}`, error);
    }
  }
  return tasks;
}

/** @throws DataError `E_EVAL_DATA` for a question with pictures to a model that sees none */
export function requireVision(tasks: readonly RunTask[]): void {
  const shown = tasks.flatMap(({ items }) => items).find(({ pictures }) => pictures.length > 0);
  if (shown === undefined) return;
  throw new DataError(`${shown.where} shows a picture, but the model has no vision tower.`, {
    code: 'E_EVAL_DATA',
    hint: 'Leave that task out of `validation.tasks`, or train a model that sees.',
  });
}

/** What of the tasks has to be the same on all ranks. */
export function digestOf({ name, by, items, harness }: RunTask): object {
  const asked = items.map((item) => [item.id, harness.prompt(item), item.answers, item.box]);
  const questions = createHash('sha256').update(JSON.stringify(asked)).digest('hex');
  return { name, by, questions };
}

/** What is told of them before the first update. */
export function describeTasks(tasks: readonly RunTask[]): string[] {
  return tasks.map(({ name, task, by, items }) => {
    const of = name === task.name ? '' : ` (${task.name})`;
    const questions = plural(items.length, 'question');
    return `task ${name}${of}: ${questions} before the first update and at each validation, by the rules of ${by}`;
  });
}

function naming(field: string, error: unknown): unknown {
  if (!(error instanceof PatinaError)) return error;
  const Kind = error instanceof UsageError ? UsageError : DataError;
  const { code, hint, message } = error;
  return new Kind(`${field}: ${message}`, { code, hint, cause: error });
}
