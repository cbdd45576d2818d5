/** Questions the other way round: how large a batch, how long a record may be, and how few GPUs are enough. By bisection over plans. */

import { UsageError } from '../../base/errors.js';
import { checkRecipe, effectiveBatch, type Recipe } from '../../config/index.js';
import { modelConfigOf } from '../model-config.js';
import { planIfFits, type PlanOptions } from '../plan.js';
import { batchesOf } from './changes.js';

/** What is asked for, as `--largest`, `--longest` and `--fewest` name it. */
export type Question = 'batch' | 'sample' | 'gpus';

export interface Answer {
  /** The run that fits, and beyond which none does; after what is set already. */
  readonly set: readonly string[];
  readonly gpus: PlanOptions['gpus'];
}

export interface QuestionOptions extends PlanOptions {
  /** Before each plan. */
  readonly onPlan?: (answer: Answer) => void;
}

/** Lengths are told to so many tokens. */
const TOKENS = 128;
/** GPUs of a run that is planned for. */
const MOST_GPUS = 1024;

/**
 * @returns `null` where not even the smallest batch, the shortest record or 1,024 GPUs are enough
 * @throws UsageError `E_PLAN_QUESTION` where the recipe leaves nothing to choose; those of `plan`
 */
export async function answer(
  question: Question,
  recipe: Recipe,
  options: QuestionOptions,
): Promise<Answer | null> {
  const choices = await choicesOf(question, recipe, options);
  if (choices.length === 0) {
    throw new UsageError(`the recipe leaves no ${question} to choose`, {
      code: 'E_PLAN_QUESTION',
      hint: 'Give `effectiveBatch`, and a `batchSize` that divides it.',
    });
  }
  return lastThatFits(choices, async (choice) => {
    options.onPlan?.(choice);
    const changed = checkRecipe(recipe, { set: choice.set });
    return (await planIfFits(changed, { ...options, gpus: choice.gpus })) !== null;
  });
}

/** From that which fits soonest to that which fits last. */
async function choicesOf(
  question: Question,
  recipe: Recipe,
  { gpus, signal }: QuestionOptions,
): Promise<Answer[]> {
  if (question === 'gpus') {
    const counts = Array.from({ length: MOST_GPUS }, (_, i) => i + 1);
    return counts
      .filter((count) => isFollowed(recipe, count))
      .toReversed()
      .map((count) => ({ set: [], gpus: { ...gpus, count } }));
  }
  const sets = question === 'batch' ? batchSets(recipe, gpus) : await lengthSets(recipe, signal);
  return sets.map((set) => ({ set, gpus }));
}

/** Whether so many GPUs can share out the records of an update. */
function isFollowed(recipe: Recipe, count: number): boolean {
  const { shardOver } = recipe.parallel;
  if (shardOver !== undefined && count % shardOver !== 0) return false;
  try {
    return effectiveBatch(recipe, count).records >= count;
  } catch (error) {
    if (error instanceof UsageError) return false;
    throw error;
  }
}

/** Micro-batches with which the records of an update stay; without `effectiveBatch`, any. */
function batchSets(recipe: Recipe, gpus: PlanOptions['gpus']): (readonly string[])[] {
  const { batchSize, batchTokens, text, effectiveBatch: meant } = recipe;
  if (batchTokens !== undefined) {
    const { maxLength } = text;
    return Array.from({ length: meant! }, (_, i) => [`batchTokens=${(i + 1) * maxLength}`]);
  }
  if (meant === undefined) {
    return Array.from({ length: MOST_RECORDS }, (_, i) => [`batchSize=${i + 1}`]);
  }
  const { less, more } = batchesOf(recipe, gpus);
  const own = [`batchSize=${batchSize ?? 1}`];
  return [...less.toReversed().map(({ set }) => set), own, ...more.map(({ set }) => set)];
}

/** Of a micro-batch. */
const MOST_RECORDS = 4096;

/** Alone in its micro-batch. */
async function lengthSets(
  recipe: Recipe,
  signal: AbortSignal | undefined,
): Promise<(readonly string[])[]> {
  const model = await modelConfigOf(recipe, signal);
  const decoder = model.kind === 'text' ? model.config : model.config.text;
  const lengths = Array.from(
    { length: Math.floor(decoder.maxPositionEmbeddings / TOKENS) },
    (_, i) => (i + 1) * TOKENS,
  );
  return lengths.map((length) => {
    const micro = recipe.batchTokens === undefined ? ['batchSize=1'] : [`batchTokens=${length}`];
    return [`text.maxLength=${length}`, ...micro];
  });
}

/** Doubles its steps from the first on, then halves them: what is far beyond the limit is not tried. */
async function lastThatFits<T>(
  choices: readonly T[],
  fits: (choice: T) => Promise<boolean>,
): Promise<T | null> {
  let [low, high] = [-1, choices.length];
  for (let at = 0; at < high; at = Math.min(2 * at + 1, choices.length - 1)) {
    if (!(await fits(choices[at]!))) high = at;
    else low = at;
    if (low === choices.length - 1) break;
  }
  while (high - low > 1) {
    const middle = (low + high) >> 1;
    if (await fits(choices[middle]!)) low = middle;
    else high = middle;
  }
  return choices[low] ?? null;
}
