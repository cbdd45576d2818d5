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
import { GradientReducer } from './gradient-reducer.js';
import { OptimizingStore, type OptimizingStoreOptions } from './optimizing-store.js';
import type {
  ParameterStore,
  SegmentGradients,
  UpdateOutcome,
  UpdateStart,
} from './parameter-store.js';
import { gatherRows, type RankGroups } from './rank-groups.js';
import type { ShardedModel, ZeroStage } from './sharded-model.js';

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
  private readonly parameters: GatheredParameters;
  private readonly reducer: GradientReducer;
  private start: UpdateStart | undefined;

  constructor(private readonly options: ShardedStoreOptions) {
    super(options);
    const { model, groups, stage, reduction = 'float32', reshardAfterForward } = options;
    this.parameters = new GatheredParameters({ model, group: groups.shards, reshardAfterForward });
    this.reducer = new GradientReducer({ model, groups, reduction, eachMicroBatch: stage >= 2 });
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
    const { world, shards } = groups;
    const start = this.start!;
    yield* this.reducer.drain();
    const reached = model.trained.filter(({ visual }) => start.pictures || !visual);
    const names = reached.flatMap(({ buffer }) => [...buffer.leaves.keys()]);
    using own = hold(() =>
      noGrad(() => {
        const gradients = new Map(
          reached.flatMap((unit) => [...unit.buffer.piecesIn(this.reducer.sliceOf(unit))]),
        );
        const squares = squaredNorms(names, gradients, lossSum);
        return { gradients, mine: cat([lossSum.reshape([1]), squares]) };
      }),
    );
    const { gradients, mine } = own.value;
    using all = gatherRows(world, mine, 'numbers of the update');
    yield all.work.waitOnStream();
    const outcome = hold(() =>
      noGrad(() => {
        const { rows } = all;
        const lossOfAll = rows.select(1, 0).sum([0]);
        // Of those who share slices, in the order of ranks: the same sum of the same numbers, and the same bits, on every rank.
        const squares = rows.narrow(0, 0, shards.size).narrow(1, 1, names.length).sum([0]);
        return this.applyAll(start, { gradients, names, squares, lossSum: lossOfAll });
      }),
    );
    this.parameters.refresh();
    return outcome;
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
