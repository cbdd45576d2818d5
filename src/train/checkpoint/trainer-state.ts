/**
 * What a checkpoint holds beside the weights: the optimizer with the loss scale (`optimizer.safetensors`, in several files where it is large), and counters, the
 * place in the data and the best validation loss (`trainer.json`). Random streams follow from the seed, so nothing of them
 * is kept.
 */

import { readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { DataError } from '../../base/errors.js';
import { jsonText } from '../../base/json-text.js';
import { writing } from '../../base/system-error.js';
import type { StoredTensor } from '../../formats/stored.js';
import { openWeights } from '../../formats/weights.js';
import { type AdaptiveClip, type LossScale, parameterOf } from '../../optim/index.js';
import type { Tensor } from '../../torch/index.js';
import { onFirst, wholeParts, type Peers, type TensorPart } from '../../parallel/index.js';
import type { CutState } from '../loop/batch-cut.js';
import type { GuardCounters } from '../loop/guard.js';
import type { Quarantined } from '../loop/quarantine.js';
import type { EarlyStoppingState } from '../loop/validation.js';
import type { RunPlan } from '../prepare/run-plan.js';
import type { ParameterStore } from '../step/parameter-store.js';
import { TRAINER_STATE } from './manifest.js';
import { restoreStates } from './restore-states.js';
import { writeParts } from './write-parts.js';

/** Where a run stands; plain JSON. */
export interface TrainerCounters {
  /** Updates done. */
  readonly update: number;
  /** By which they were done. */
  readonly plan: RunPlan;
  /** Where the data go on; see `Dataset.updates`. */
  readonly cursor: unknown;
  readonly validation: EarlyStoppingState;
  /** The same of the scores of tasks, by name. @default none was asked */
  readonly scores?: Readonly<Record<string, EarlyStoppingState>>;
  /** Tasks that the run was interrupted before it had asked, by name. @default none */
  readonly owed?: readonly string[];
  readonly skipped: number;
  readonly badRecords: number;
  /** Odd records by the kind of their warning. */
  readonly warnings: Readonly<Record<string, number>>;
  /** Records that are left out of their updates. @default none */
  readonly quarantine?: readonly Quarantined[];
  /** What memory has cut micro-batches to. @default as the recipe has them */
  readonly cut?: CutState | undefined;
  /** @default nothing has happened */
  readonly guard?: GuardCounters | undefined;
}

/** First part of the names of the optimizer's files. */
const OPTIMIZER = 'optimizer';
const FORMAT = 2;

export interface OptimizerState {
  readonly store: Pick<ParameterStore, 'state'>;
  readonly lossScale?: LossScale | undefined;
  readonly clip?: AdaptiveClip | undefined;
}

/** This rank's parts of the state. */
export function stateParts({ store, ...counted }: OptimizerState, peers: Peers): TensorPart[] {
  // Each rank has these, and counts on by itself.
  return [...store.state(), ...wholeParts(countedState(counted), peers)];
}

/** The scalars of the loss scale and of clipping, by name. */
export function countedState({
  lossScale,
  clip,
}: Omit<OptimizerState, 'store'>): Map<string, Tensor> {
  return new Map([...(lossScale?.state() ?? []), ...(clip?.state() ?? [])]);
}

/** Writes the state of all ranks; every rank calls it. */
export async function writeTrainerState(
  folder: string,
  parts: readonly TensorPart[],
  counters: TrainerCounters,
  peers: Peers,
): Promise<void> {
  await writeParts(folder, { stem: OPTIMIZER, parts }, peers);
  await onFirst(peers, TRAINER_STATE, () =>
    writing(folder, 'write the checkpoint', () =>
      writeFile(join(folder, TRAINER_STATE), jsonText({ format: FORMAT, ...counters })),
    ),
  );
}

/** The optimizer's tensors in a checkpoint, in one file or several. */
export async function optimizerTensors(folder: string): Promise<readonly StoredTensor[]> {
  const file = `${OPTIMIZER}.safetensors`;
  const index = `${file}.index.json`;
  const names = await readdir(folder);
  return (await openWeights(join(folder, names.includes(index) ? index : file))).tensors;
}

/**
 * Reads the state back into this rank's parts of it, whichever ranks it was written by, and in whatever type moments are; every rank
 * calls it.
 *
 * @param changes parameters that no longer train, whose state is dropped, and those that have none yet
 * @throws DataError `E_CHECKPOINT_TENSORS`, `E_CHECKPOINT_STATE`
 */
export async function readTrainerState(
  folder: string,
  state: readonly TensorPart[],
  peers: Peers,
  { isFrozen, isThawed }: { isFrozen: Chosen; isThawed: Chosen } = UNCHANGED,
): Promise<RestoredState> {
  const tensors = await optimizerTensors(folder);
  // Clipping may have been chosen, or given up, since.
  const clips = (list: readonly { readonly name: string }[]): boolean =>
    list.some(({ name }) => isOfClip(name));
  const both = clips(tensors) && clips(state);
  const kept = (name: string): boolean => both || !isOfClip(name);
  const stored = tensors.filter(({ name }) => kept(name) && !isFrozen(parameterOf(name)));
  const parts = state.filter(({ name }) => kept(name) && !isThawed(parameterOf(name)));
  const told = parts
    .filter(({ writes, from }) => writes && from === 0)
    .map(({ name, tensor, dtype = tensor.dtype }) => [name, dtype] as const);
  const types = new Map((await peers.gather('what the optimizer reads', told)).flat());
  const byName = new Map(stored.map((tensor) => [tensor.name, tensor]));
  const where = join(folder, `${OPTIMIZER}.safetensors`);
  const converted = await restoreStates(where, byName, { types, parts });
  return { ...(await readCounters(join(folder, TRAINER_STATE))), converted };
}

/** Where a run stands, and what was kept in another type than the run keeps it in. */
export interface RestoredState extends TrainerCounters {
  readonly converted: readonly string[];
}

const isOfClip = (name: string): boolean => name.startsWith('adaptive_clip.');

type Chosen = (parameter: string) => boolean;
const UNCHANGED = { isFrozen: () => false, isThawed: () => false };

async function readCounters(path: string): Promise<TrainerCounters> {
  const { value, cause } = await readFile(path, 'utf8').then(parse, (error: unknown) => ({
    value: null,
    cause: error,
  }));
  const counters = (value ?? {}) as Partial<TrainerCounters & { format: number }>;
  const { format, update, plan, skipped, badRecords, validation, warnings, cut } = counters;
  const valid =
    format === FORMAT &&
    [update, plan?.planned, skipped, badRecords, validation?.since].every(Number.isSafeInteger) &&
    Object.values(warnings ?? { none: null }).every(Number.isSafeInteger) &&
    (cut === undefined || (Number.isSafeInteger(cut.asked) && cut.most >= 1));
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
