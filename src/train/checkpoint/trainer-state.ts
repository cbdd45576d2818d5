/**
 * What a checkpoint holds beside the weights: the optimizer with the loss scale (`optimizer.safetensors`), and counters, the
 * place in the data and the best validation loss (`trainer.json`). Random streams follow from the seed, so nothing of them
 * is kept.
 */

import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DataError } from '../../base/errors.js';
import { jsonText } from '../../base/json-text.js';
import { readSafetensors } from '../../formats/safetensors/header.js';
import { writeTensorFile } from '../../models/index.js';
import { type LossScale, parameterOf } from '../../optim/index.js';
import type { Tensor } from '../../torch/index.js';
import type { EarlyStoppingState } from '../loop/validation.js';
import type { RunPlan } from '../prepare/run-plan.js';
import type { ParameterStore } from '../step/parameter-store.js';
import { TRAINER_STATE } from './manifest.js';
import { restoreTensors } from './restore-tensors.js';

/** Where a run stands; plain JSON. */
export interface TrainerCounters {
  /** Updates done. */
  readonly update: number;
  /** By which they were done. */
  readonly plan: RunPlan;
  /** Where the data go on; see `Dataset.updates`. */
  readonly cursor: unknown;
  readonly validation: EarlyStoppingState;
  readonly skipped: number;
  readonly badRecords: number;
  /** Odd records by the kind of their warning. */
  readonly warnings: Readonly<Record<string, number>>;
}

export const OPTIMIZER_FILE = 'optimizer.safetensors';
const FORMAT = 2;

export interface OptimizerState {
  readonly store: Pick<ParameterStore, 'state'>;
  readonly lossScale?: LossScale | undefined;
}

function tensorsOf({ store, lossScale }: OptimizerState): Map<string, Tensor> {
  return new Map([
    ...store.state().map(({ name, tensor }) => [name, tensor] as const),
    ...(lossScale?.state() ?? []),
  ]);
}

/** Bytes of the state on disk. */
export function optimizerBytes(state: OptimizerState): number {
  return [...tensorsOf(state).values()].reduce((sum, { bytes }) => sum + bytes, 0);
}

export async function writeTrainerState(
  folder: string,
  state: OptimizerState,
  counters: TrainerCounters,
): Promise<void> {
  await writeTensorFile(join(folder, OPTIMIZER_FILE), tensorsOf(state));
  await writeFile(join(folder, TRAINER_STATE), jsonText({ format: FORMAT, ...counters }));
}

/**
 * Reads the state back into the optimizer.
 *
 * @param changes parameters that no longer train, whose state is dropped, and those that have none yet
 * @throws DataError `E_CHECKPOINT_TENSORS`, `E_CHECKPOINT_STATE`
 */
export async function readTrainerState(
  folder: string,
  state: OptimizerState,
  { isFrozen, isThawed }: { isFrozen: Chosen; isThawed: Chosen } = UNCHANGED,
): Promise<TrainerCounters> {
  const file = join(folder, OPTIMIZER_FILE);
  const { tensors } = await readSafetensors(file);
  const stored = tensors.filter(({ name }) => !isFrozen(parameterOf(name)));
  const targets = [...tensorsOf(state)].filter(([name]) => !isThawed(parameterOf(name)));
  const byName = new Map(stored.map((tensor) => [tensor.name, tensor]));
  await restoreTensors(file, byName, new Map(targets));
  return readCounters(join(folder, TRAINER_STATE));
}

type Chosen = (parameter: string) => boolean;
const UNCHANGED = { isFrozen: () => false, isThawed: () => false };

async function readCounters(path: string): Promise<TrainerCounters> {
  const { value, cause } = await readFile(path, 'utf8').then(parse, (error: unknown) => ({
    value: null,
    cause: error,
  }));
  const counters = (value ?? {}) as Partial<TrainerCounters & { format: number }>;
  const { format, update, plan, skipped, badRecords, validation, warnings } = counters;
  const valid =
    format === FORMAT &&
    [update, plan?.planned, skipped, badRecords, validation?.since].every(Number.isSafeInteger) &&
    Object.values(warnings ?? { none: null }).every(Number.isSafeInteger);
  if (valid) return counters as TrainerCounters;
  throw new DataError(`${path} does not say where the run stands.`, {
    code: 'E_CHECKPOINT_STATE',
    hint: 'Go on from an earlier checkpoint.',
    cause,
  });
}

function parse(text: string): { value: unknown; cause?: unknown } {
  try {
    return { value: JSON.parse(text) };
  } catch (cause) {
    return { value: null, cause };
  }
}
