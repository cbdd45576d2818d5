/** How many records make an update, and what that means for the learning rate. */
import { UsageError } from '../base/errors.js';
import type { Recipe } from './schema/recipe.js';

export interface EffectiveBatch {
  /** Micro-batches of a device in an update; where they hold tokens, at most. */
  accumulate: number;
  /** What a micro-batch holds, where that is not a number of records. */
  budget?: { tokens: number; images?: number | undefined };
  /** Records in an update over all devices. */
  records: number;
  /** Factor on every learning rate. */
  learningRateScale: number;
  /** One sentence for the start of the run. */
  statement: string;
}

/**
 * `records = batchSize * accumulate * worldSize`, or with `batchTokens` those of `effectiveBatch`. Without `accumulate` it is chosen to reach `effectiveBatch`; with
 * it, a run may have another batch than the recipe is meant for, and the rule asked for sets the learning rate.
 *
 * @throws UsageError E_BATCH if `effectiveBatch` is no multiple of what all devices take at once, or where `batchTokens` stands without it or
 *   beside `accumulate`.
 */
export function effectiveBatch(recipe: BatchFields, worldSize: number): EffectiveBatch {
  const { batchSize, accumulate, effectiveBatch: meant, learningRateRule: rule } = recipe;
  if (recipe.batchTokens !== undefined) return byTokens(recipe, worldSize);
  if (recipe.batchImages !== undefined) {
    throw refused(
      'batchImages is given without batchTokens',
      'Give the tokens of a micro-batch too.',
    );
  }
  const atOnce = batchSize * worldSize;
  if (accumulate === undefined && meant !== undefined && meant % atOnce !== 0) {
    throw new UsageError(
      `effectiveBatch ${meant} is no multiple of batchSize ${batchSize} times ${worldSize} devices.`,
      {
        code: 'E_BATCH',
        hint: 'Choose a batchSize that divides it on all devices together, or set accumulate yourself.',
      },
    );
  }
  const steps = accumulate ?? (meant === undefined ? 1 : meant / atOnce);
  const records = atOnce * steps;
  const devices = `${worldSize} ${worldSize === 1 ? 'device' : 'devices'}`;
  const product = `batch ${batchSize} x ${steps} accumulated x ${devices} = ${records} records an update`;
  if (meant === undefined || meant === records) {
    const statement = meant === undefined ? product : `${product}, as the recipe means it`;
    return { accumulate: steps, records, learningRateScale: 1, statement };
  }
  const ratio = records / meant;
  const scale = { keep: 1, linear: ratio, sqrt: Math.sqrt(ratio) }[rule];
  const effect = {
    keep: 'learning rates stay as they are (learningRateRule: keep)',
    linear: `learning rates are multiplied by ${round(scale)} (learningRateRule: linear)`,
    sqrt: `learning rates are multiplied by ${round(scale)}, the square root of ${round(ratio)} (learningRateRule: sqrt)`,
  }[rule];
  return {
    accumulate: steps,
    records,
    learningRateScale: scale,
    statement: `${product}, not the ${meant} that the recipe is meant for: ${effect}`,
  };
}

type BatchFields = Pick<
  Recipe,
  'batchSize' | 'batchTokens' | 'batchImages' | 'accumulate' | 'effectiveBatch' | 'learningRateRule'
>;

/** Micro-batches of so many tokens: how many there are differs from update to update, the records of an update do not. */
function byTokens(
  { batchTokens, batchImages, accumulate, effectiveBatch: records }: BatchFields,
  worldSize: number,
): EffectiveBatch {
  const tokens = batchTokens!;
  if (accumulate !== undefined) {
    const hint = 'Give effectiveBatch, the records of an update, in its place.';
    throw refused('accumulate says nothing beside batchTokens', hint);
  }
  if (records === undefined) {
    const hint = 'Give effectiveBatch: an update has so many records, whatever their lengths.';
    throw refused('batchTokens is given without effectiveBatch', hint);
  }
  const images = batchImages === undefined ? '' : ` and ${batchImages} pictures`;
  const each = worldSize === 1 ? '' : ` on each of ${worldSize} devices`;
  return {
    accumulate: Math.ceil(records / worldSize),
    budget: { tokens, images: batchImages },
    records,
    learningRateScale: 1,
    statement: `${records} records an update, packed into micro-batches of up to ${tokens} tokens${images}${each}`,
  };
}

function refused(message: string, hint: string): UsageError {
  return new UsageError(`${message}.`, { code: 'E_BATCH', hint });
}

function round(value: number): number {
  return Number(value.toPrecision(4));
}
