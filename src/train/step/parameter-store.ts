/**
 * How the step program gets at parameters and what becomes of their gradients. A store lives as long as the run; a strategy
 * (sums until the end of the update, updates within the backward, later sharding) is a store.
 */

import type { GradientPlace } from '../../nn/index.js';
import type { Residency, SegmentBase, Steps } from '../../models/index.js';
import type { StepSize } from '../../optim/index.js';
import type { TensorPart } from '../../parallel/index.js';
import type { Holding, Tensor } from '../../torch/index.js';

/**
 * Gradients of one segment's trainable parameters by name; `null` where the segment gave none in this micro-batch, or wrote it to its
 * place.
 */
export type SegmentGradients = ReadonlyMap<string, Tensor | null>;

/** What is known when an update begins. */
export interface UpdateStart {
  /** Counts from 0. */
  readonly update: number;
  readonly microBatches: number;
  /** What the schedule multiplies learning rates by. */
  readonly scheduleFactor: number;
  /** Supervised tokens of the effective batch, on all ranks; a device scalar, fp32. */
  readonly tokens: Tensor;
  /** Whether any record of the effective batch, on any rank, has a picture. */
  readonly pictures: boolean;
  /** What the sum of the losses is multiplied by before its backward; a device scalar, fp32. */
  readonly lossFactor: Tensor;
}

/** What an update did, as the device knows it. The caller owns its tensors, fp32. */
export interface UpdateOutcome {
  /** Sum of the token losses of all ranks; a scalar. */
  readonly lossSum: Tensor;
  /** Global norm of the gradient before clipping; a scalar. */
  readonly norm: Tensor;
  /** For each gate (G), or (1) where there is one: 1 where what it guards was not finite and was left out. */
  readonly foundInf: Tensor;
  /** Segments that were applied or left out each on its own (G); none where the update was applied as a whole, by one gate. */
  readonly gates: readonly string[];
  /** Norms of the gradients of single tensors before clipping (n), for the parameters that got one. */
  readonly tensorNorms: Tensor;
  readonly tensorNames: readonly string[];
  /** How far it moved some weights of this rank; 0 where it was left out. */
  readonly step?: StepSize;
  /** What each of several ranks brought (N, 4), as in `RANK_NUMBERS`. */
  readonly byRank?: Tensor;
}

/**
 * Of a rank's own batches: the sum of the token losses, the largest absolute gradient (times `lossFactor`), how many gradients are
 * not finite, and whether memory did not suffice for them (1, else 0). They name the rank that spoils an update.
 */
export const RANK_NUMBERS = ['lossSum', 'largest', 'nonFinite', 'ranOut'] as const;

/** One of these numbers of each rank, out of `byRank` as it was read. */
export function ofRanks(
  byRank: Float32Array,
  number: (typeof RANK_NUMBERS)[number],
): readonly number[] {
  const at = RANK_NUMBERS.indexOf(number);
  return [...byRank].filter((_, i) => i % RANK_NUMBERS.length === at);
}

/** Bytes of a rank that last, on its device and in host memory. */
export interface StoreBytes {
  readonly device: ByteCounts;
  readonly host: ByteCounts;
}

export interface ByteCounts {
  /** Of what is sharded: all that trains, in stage 3 all. */
  readonly weights: number;
  readonly gradients: number;
  readonly optimizer: number;
}

export interface ParameterStore extends Residency {
  /**
   * Whether an update has begun to change weights or the optimizer, and so cannot be run again from where it began. Who wants to know
   * takes it back before the update.
   */
  isApplying: boolean;
  begin(start: UpdateStart): void;
  /**
   * Where the gradients of matrices are summed, one above the other. Who asks writes there, before the segment's other gradients are
   * handed in; `null` where these are to be handed in too.
   *
   * @param parameters of the segment, by name, with equal columns
   */
  place?(segment: SegmentBase, parameters: ReadonlyMap<string, Tensor>): GradientPlace | null;
  /**
   * The gradients of the sum of the losses, times `lossFactor`. The store owns these tensors from now on. A parameter that
   * several segments share comes once for each of them.
   */
  accept(segment: SegmentBase, gradients: SegmentGradients): void;
  /** All micro-batches are done: brings ranks together, and applies what is not applied yet. */
  finish(lossSum: Tensor): Steps<Holding<UpdateOutcome>>;
  /**
   * Whether parameters are gathered while others compute. Off, each is gathered when it is needed, and the host waits until it is there:
   * slower, and free of races, for who looks for one. All ranks set it at the same place. Undefined where nothing is gathered.
   */
  overlaps?: boolean;
  /** Until parameters and optimizer are those after the latest update: before they are read outside of a visit. */
  settle(): Promise<void>;
  /** Frees what the update held, also after one that was abandoned. */
  clear(): void;
  /** Bytes on this rank for a number of micro-batches, beside what is gathered or on its way; where something is shared out. */
  bytes?(microBatches: number): StoreBytes;
  /** This rank's parts of what a checkpoint must hold of the optimizer. */
  state(): readonly TensorPart[];
  /** This rank's parts of the model's own parameters, frozen ones too. */
  weights(): readonly TensorPart[];
  /** These have been read from a checkpoint, the state not yet: brings copies that are kept of them elsewhere in line. */
  weightsRead(): void;
  dispose(): void;
}
