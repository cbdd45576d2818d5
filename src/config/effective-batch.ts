/** How many records make an update, and what that means for the learning rate. */
import { UsageError } from '../base/errors.js';
import { plural } from '../base/format.js';
import type { Recipe } from './schema/recipe.js';

export interface EffectiveBatch {
  /** Micro-batches in an update; `null` where its records are packed, so that each has as many as it takes. */
  accumulate: number | null;
  /** Records in an update over all devices. */
  records: number;
  /** Factor on every learning rate. */
  learningRateScale: number;
  /** One sentence for the start of the run. */
  statement: string;
}

/**
 * `records = batchSize * accumulate * worldSize`. Without `accumulate` it is chosen to reach `effectiveBatch`; with
 * it, a run may have another batch than the recipe is meant for, and the rule asked for sets the learning rate. With
 * `batchTokens` records are `effectiveBatch`, on any number of devices.
 *
 * @throws UsageError E_BATCH if `effectiveBatch` is no multiple of what all devices take at once.
 */
export function effectiveBatch(recipe: Recipe, worldSize: number): EffectiveBatch {
  const { batchSize = 1, batchTokens, batchImages } = recipe;
  const { accumulate, effectiveBatch: meant, learningRateRule: rule } = recipe;
  const devices = plural(worldSize, 'device');
  if (batchTokens !== undefined) {
    const pictures = batchImages === undefined ? '' : ` and ${plural(batchImages, 'picture')}`;
    const budget = `${plural(batchTokens, 'token')}${pictures}`;
    const records = meant!;
    return {
      ...{ accumulate: null, records, learningRateScale: 1 },
      statement: `${plural(records, 'record')} an update, packed into micro-batches of up to ${budget} on ${devices}`,
    };
  }
  const atOnce = batchSize * worldSize;
  if (accumulate === undefined && meant !== undefined && meant % atOnce !== 0) {
    throw new UsageError(
      `effectiveBatch ${meant} is no multiple of batchSize ${batchSize} on ${devices}.`,
      {
        code: 'E_BATCH',
        hint:
          meant < worldSize
            ? `Set batchSize to 1 and train on ${plural(meant, 'device')} at most, set accumulate yourself, or set batchTokens in place of batchSize: packed, an update may leave devices without a record.`
            : 'Choose a batchSize that divides it on all devices together, or set accumulate yourself.',
      },
    );
  }
  const steps = accumulate ?? (meant === undefined ? 1 : meant / atOnce);
  const records = atOnce * steps;
  const product = `batch ${batchSize} x ${steps} accumulated x ${devices} = ${plural(records, 'record')} an update`;
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

function round(value: number): number {
  return Number(value.toPrecision(4));
}
