/**
 * What becomes of a bad update: it is left out; or the records that spoil it are, and the rest is trained on; or the run goes back to a
 * snapshot and on behind it; or it stops. How far is the recipe's choice, how often its budget.
 */

import type { Recipe } from '../config/index.js';
import type { Action, GuardedRecord } from '../train/index.js';

export interface BadUpdate {
  /** Records without which it would be finite, once that was shown. */
  readonly records: readonly GuardedRecord[];
  /** Whether weights are as they were before. */
  readonly untouched: boolean;
  /** Bad updates in a row, this one included, none of which a record explains. */
  readonly inRow: number;
  readonly canRollBack: boolean;
}

export interface Step {
  readonly action: Action;
  readonly message: string;
}

const LEVELS = ['stop', 'leave-out', 'quarantine', 'roll-back'] as const;
/** Bad updates in a row after which weights, rather than an update, are what is wrong. */
const PATIENCE = 2;

/** @param answered bad updates before this one */
export function climb(
  { records, untouched, inRow, canRollBack }: BadUpdate,
  { onBadUpdate, budget }: Pick<Recipe['guard'], 'onBadUpdate' | 'budget'>,
  answered: number,
): Step {
  const level = LEVELS.indexOf(onBadUpdate);
  if (level === 0) return { action: 'stop', message: 'the recipe says to stop at a bad update' };
  if (answered >= budget) {
    return { action: 'stop', message: `its budget of ${budget} bad updates is used up` };
  }
  const may = (action: (typeof LEVELS)[number]): boolean => level >= LEVELS.indexOf(action);
  if (records.length > 0 && untouched && may('quarantine')) {
    const which = records.length === 1 ? 'the record' : `${records.length} records`;
    return {
      action: 'quarantine',
      message: `${which} will be left out from now on; the rest of the update is trained on`,
    };
  }
  if (may('roll-back') && canRollBack && (inRow >= PATIENCE || !untouched)) {
    return {
      action: 'roll-back',
      message:
        'weights and optimizer go back to the last snapshot; the data go on behind this update',
    };
  }
  return {
    action: 'leave-out',
    message: untouched
      ? 'the update is left out; weights and optimizer are as before it'
      : 'some segments were updated and others left out, each on its own: it cannot be run again from where it began',
  };
}
