/**
 * The store of several ranks: parameters in flat buffers, of which each rank keeps a slice (Rajbhandari et al. 2020, "ZeRO").
 *
 * | stage | optimizer | gradients                                           | parameters                            |
 * | ----- | --------- | --------------------------------------------------- | ------------------------------------- |
 * | 0     | whole     | whole, all-reduced once an update                   | whole                                 |
 * | 1     | slice     | whole, reduce-scattered once an update              | whole, gathered after the update      |
 * | 2     | slice     | slice, reduce-scattered in each micro-batch         | whole, gathered after the update      |
 * | 3     | slice     | slice, likewise                                     | slice, gathered for each visit        |
 *
 * The order of the collectives follows from the recipe and the number of micro-batches alone: a micro-batch without pictures, or
 * without records, hands in zeros.
 */

import type { Pause, Phase, SegmentBase, Steps } from '../../models/index.js';
import { squaredNorms } from '../../optim/index.js';
import type { TensorPart } from '../../parallel/index.js';
import { cat, hold, noGrad, type DType, type Holding, type Tensor } from '../../torch/index.js';
import { GatheredParameters } from './gathered-parameters.js';
import { GradientReducer, type Reduction } from './gradient-reducer.js';
import { OptimizingStore, type OptimizingStoreOptions } from './optimizing-store.js';
import {
  RANK_NUMBERS,
  type ParameterStore,
  type SegmentGradients,
  type UpdateOutcome,
  type UpdateStart,
} from './parameter-store.js';
import { gatherRows, type Gathered, type RankGroups } from './rank-groups.js';
import type { ShardedModel, ShardUnit, ZeroStage } from './sharded-model.js';

/** The optimizer is over the pieces of this rank. */
export interface ShardedStoreOptions extends OptimizingStoreOptions {
  readonly model: ShardedModel;
  readonly groups: RankGroups;
  readonly stage: ZeroStage;
  /** Type in which gradients are summed over ranks. @default 'float32' */
  readonly reduction?: DType | undefined;
  /** Whether parameters of stage 3 are gathered again for the backward. @default true */
  readonly reshardAfterForward?: boolean | undefined;
}

export class ShardedStore extends OptimizingStore implements ParameterStore {
  protected readonly parameters: GatheredParameters;
  protected readonly reducer: GradientReducer;
  protected start: UpdateStart | undefined;

  constructor(protected readonly options: ShardedStoreOptions) {
    super(options);
    const { model, groups, stage, reduction = 'float32', reshardAfterForward } = options;
    this.parameters = new GatheredParameters({ model, group: groups.shards, reshardAfterForward });
    this.reducer = new GradientReducer({
      ...{ model, groups, reduction },
      eachMicroBatch: stage >= 2,
      then: (unit) => this.afterReduction(unit),
    });
  }

  acquire(segment: SegmentBase): Pause {
    return this.parameters.acquire(segment);
  }

  prefetch(segment: SegmentBase): void {
    this.parameters.prefetch(segment);
  }

  release(segment: SegmentBase, phase: Phase): Pause {
    this.parameters.release(segment, phase);
    return this.reducer.advance();
  }

  begin(start: UpdateStart): void {
    this.clear(); // a validation may have been abandoned since the last update
    this.start = start;
    this.parameters.begin(start.microBatches);
    this.reducer.begin(start.microBatches);
  }

  accept(segment: SegmentBase, gradients: SegmentGradients): void {
    this.reducer.accept(segment, gradients);
  }

  *finish(lossSum: Tensor): Steps<Holding<UpdateOutcome>> {
    const { model, groups } = this.options;
    const { shards } = groups;
    const start = this.start!;
    yield* this.reducer.drain();
    const reached = model.trained.filter((unit) => this.isReached(unit));
    const names = reached.flatMap(({ buffer }) => [...buffer.leaves.keys()]);
    using own = hold(() =>
      noGrad(() => {
        const gradients = new Map(
          reached.flatMap((unit) => [...unit.buffer.piecesIn(this.reducer.sliceOf(unit))]),
        );
        return { gradients, squares: squaredNorms(names, gradients, lossSum) };
      }),
    );
    const { gradients, squares: ownSquares } = own.value;
    using all = yield* this.gatherNumbers(lossSum, ownSquares);
    const outcome = hold(() =>
      noGrad(() => {
        const { rows, byRank, lossSum: lossOfAll } = readNumbers(all.rows);
        // Of those who share slices, in the order of ranks: the same sum of the same numbers, and the same bits, on every rank.
        const squares = rows.narrow(0, 0, shards.size).sum([0]);
        const sums = { gradients, names, squares, lossSum: lossOfAll };
        return { ...this.applyAll(start, sums), byRank };
      }),
    );
    this.parameters.refresh(model.trained);
    return outcome;
  }

  /** Whether any record of the update, on any rank, reached a buffer. */
  protected isReached({ visual }: ShardUnit): boolean {
    return this.start!.pictures || !visual;
  }

  /** What comes after the last reduction of a buffer. */
  protected afterReduction(_unit: ShardUnit): Reduction | undefined {
    return undefined;
  }

  /** Tells all ranks what each has brought, and more numbers of each. */
  protected *gatherNumbers(lossSum: Tensor, more: Tensor): Steps<Gathered> {
    using mine = hold(() =>
      noGrad(() => cat([lossSum.reshape([1]), this.reducer.ownExtremes(), more])),
    );
    const all = gatherRows(this.options.groups.world, mine.value, 'numbers of the update');
    yield all.work.waitOnStream();
    return all;
  }

  override async settle(): Promise<void> {
    await this.parameters.settle();
  }

  clear(): void {
    this.reducer.clear();
    this.parameters.clear();
    this.start = undefined;
  }

  override state(): readonly TensorPart[] {
    const { model, groups, optimizer } = this.options;
    const masters = [...model.masters()];
    const state = new Map([
      ...masters.map(([name, piece]) => [`${name}.master`, piece] as const),
      ...optimizer.state(),
    ]);
    return model.partsOfState(state, groups);
  }

  weights(): readonly TensorPart[] {
    const { model, groups } = this.options;
    return model.parts(groups);
  }

  override dispose(): void {
    super.dispose();
    this.options.model.dispose();
  }
}

/** Parts of what `gatherNumbers` gives: what ranks brought, the loss of all, and the further numbers of each (N, n). */
export function readNumbers(all: Tensor): { byRank: Tensor; lossSum: Tensor; rows: Tensor } {
  const count = RANK_NUMBERS.length;
  const byRank = all.narrow(1, 0, count);
  const rows = all.narrow(1, count, all.size(1) - count);
  return { byRank, rows, lossSum: byRank.select(1, 0).sum([0]) };
}
