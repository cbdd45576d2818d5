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
import type { GradientPlace } from '../../nn/index.js';
import { squaredNorms } from '../../optim/index.js';
import type { TensorPart } from '../../parallel/index.js';
import {
  cat,
  empty,
  full,
  hold,
  noGrad,
  scope,
  type DType,
  type Holding,
  type Tensor,
} from '../../torch/index.js';
import { GatheredParameters } from './gathered-parameters.js';
import { GradientReducer, type Reduction } from './gradient-reducer.js';
import type { HostOptimizer } from './host-optimizer.js';
import {
  OptimizingStore,
  type GatedUpdate,
  type OptimizingStoreOptions,
} from './optimizing-store.js';
import {
  RANK_NUMBERS,
  type ParameterStore,
  type SegmentGradients,
  type StoreBytes,
  type UpdateOutcome,
  type UpdateStart,
} from './parameter-store.js';
import { gatherRows, type Gathered, type RankGroups } from './rank-groups.js';
import type { ShardedModel, ShardUnit, ZeroStage } from './sharded-model.js';
import { ENDS, type Shortage } from './shortage.js';

/** The optimizer is over the pieces of this rank. */
export interface ShardedStoreOptions extends OptimizingStoreOptions {
  readonly model: ShardedModel;
  readonly groups: RankGroups;
  readonly stage: ZeroStage;
  /** Type in which gradients are summed over ranks. @default 'float32' */
  readonly reduction?: DType | undefined;
  /** Where the optimizer is in host memory. Its AdamW is `optimizer`. */
  readonly host?: HostOptimizer | undefined;
  /** Whether parameters of stage 3 are gathered again for the backward. @default true */
  readonly reshardAfterForward?: boolean | undefined;
  /** What becomes of an update that memory does not suffice for. @default it ends there */
  readonly shortage?: Shortage | undefined;
}

export class ShardedStore extends OptimizingStore implements ParameterStore {
  protected readonly parameters: GatheredParameters;
  protected readonly reducer: GradientReducer;
  protected start: UpdateStart | undefined;
  private readonly shortage: Shortage;
  /** Squared norms of the gradients of each buffer, of this rank's pieces (n), fp32. */
  private readonly squares = new Map<ShardUnit, Tensor>();

  constructor(protected readonly options: ShardedStoreOptions) {
    super(options);
    const { model, groups, stage, reduction = 'float32', reshardAfterForward, host } = options;
    const { shortage = ENDS } = options;
    const { need } = shortage;
    this.shortage = shortage;
    this.parameters = new GatheredParameters({
      ...{ model, reshardAfterForward, need },
      group: groups.shards,
      updating: (unit) => host?.updating(unit),
    });
    this.reducer = new GradientReducer({
      ...{ model, groups, reduction, need },
      eachMicroBatch: stage >= 2,
      then: (unit) => this.afterReduction(unit),
    });
  }

  get overlaps(): boolean {
    return this.parameters.overlaps;
  }

  set overlaps(overlaps: boolean) {
    this.parameters.overlaps = overlaps;
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

  place(segment: SegmentBase, parameters: ReadonlyMap<string, Tensor>): GradientPlace | null {
    return this.reducer.place(segment, parameters);
  }

  accept(segment: SegmentBase, gradients: SegmentGradients): void {
    this.reducer.accept(segment, gradients);
  }

  *finish(lossSum: Tensor): Steps<Holding<UpdateOutcome>> {
    const { model, groups } = this.options;
    const { shards } = groups;
    const start = this.start!;
    yield* this.reducer.drain();
    const reached = this.reached();
    const names = reached.flatMap(({ buffer }) => [...buffer.leaves.keys()]);
    using own = hold(() =>
      noGrad(() => {
        const none = empty([0], { dtype: 'float32', device: lossSum.device });
        return cat([none, ...reached.map((unit) => this.squares.get(unit)!)]);
      }),
    );
    using all = yield* this.gatherNumbers(lossSum, own.value);
    const outcome = hold(() =>
      noGrad(() => {
        const { rows, byRank, lossSum: lossOfAll } = readNumbers(all.rows);
        // Of those who share slices, in the order of ranks: the same sum of the same numbers, and the same bits, on every rank.
        const squares = rows.narrow(0, 0, shards.size).sum([0]);
        const gradients = this.gradientsOf(reached);
        const refused = byRank.select(1, RANK_NUMBERS.indexOf('ranOut')).amax([]);
        const sums = { gradients, names, squares, lossSum: lossOfAll, refused };
        return { ...this.applyAll(start, sums), byRank };
      }),
    );
    this.parameters.refresh(model.trained);
    return outcome;
  }

  /** What some record of the update, on any rank, reached. */
  private reached(): ShardUnit[] {
    return this.options.model.trained.filter((unit) => this.isReached(unit));
  }

  protected isReached({ visual }: ShardUnit): boolean {
    return this.start!.pictures || !visual;
  }

  /** This rank's pieces of the gradients of some buffers; none where they have gone to the host. */
  protected gradientsOf(units: readonly ShardUnit[]): Map<string, Tensor> {
    return new Map(
      units.flatMap((unit) => {
        const slice = this.reducer.sliceOf(unit);
        return slice === null ? [] : [...unit.buffer.piecesIn(slice)];
      }),
    );
  }

  /** What comes after the last reduction of a buffer. */
  protected afterReduction(unit: ShardUnit): Reduction | undefined {
    if (this.isReached(unit)) {
      this.squares.set(unit, this.squaresOf(unit).keep());
      this.takeOut(unit);
    }
    return undefined;
  }

  protected squaresOf(unit: ShardUnit): Tensor {
    const names = [...unit.buffer.leaves.keys()];
    return noGrad(() =>
      scope(() => squaredNorms(names, this.gradientsOf([unit]), unit.buffer.whole)),
    );
  }

  /** Where the optimizer is in host memory, gradients go there. */
  protected takeOut(unit: ShardUnit): void {
    const { host } = this.options;
    if (host === undefined) return;
    host.take(unit, this.reducer.sliceOf(unit)!);
    this.reducer.freeSlice(unit);
  }

  protected override update(update: GatedUpdate): void {
    this.updateUnits(this.reached(), update);
  }

  protected updateUnits(units: readonly ShardUnit[], update: GatedUpdate): void {
    const { host } = this.options;
    this.isApplying = true;
    if (host === undefined) super.update(update);
    else host.update(units, update);
  }

  /** Tells all ranks what each has brought, and more numbers of each. */
  protected *gatherNumbers(lossSum: Tensor, more: Tensor): Steps<Gathered> {
    using mine = hold(() =>
      noGrad(() => {
        const { dtype, device } = lossSum;
        const ranOut = full([1], this.shortage.error === null ? 0 : 1, { dtype, device });
        return cat([lossSum.reshape([1]), this.reducer.ownExtremes(), ranOut, more]);
      }),
    );
    const all = gatherRows(this.options.groups.world, mine.value, 'numbers of the update');
    yield all.work.waitOnStream();
    return all;
  }

  /** Bytes on this rank for a number of micro-batches, beside what is gathered or on its way. */
  bytes(microBatches: number): StoreBytes {
    const { model, host, optimizer } = this.options;
    const states = [...optimizer.state().values()].reduce((sum, { bytes }) => sum + bytes, 0);
    const gradients = this.keepsGradients ? this.reducer.bytes(microBatches) : 0;
    const onHost = model.units.some(({ buffer }) => buffer.host);
    const weights = { weights: onHost ? 0 : model.bytes };
    if (host === undefined) {
      const device = { ...weights, gradients, optimizer: states + model.masterBytes };
      return { device, host: { weights: 0, gradients: 0, optimizer: 0 } };
    }
    return {
      device: { ...weights, gradients: 0, optimizer: 0 },
      host: {
        weights: onHost ? model.bytes : 0,
        gradients: host.gradientBytes,
        optimizer: states + host.copyBytes,
      },
    };
  }

  /** Whether gradients lie here until the end of the update. */
  protected readonly keepsGradients: boolean = true;

  override async settle(): Promise<void> {
    await this.parameters.settle();
  }

  clear(): void {
    for (const each of this.squares.values()) each.dispose();
    this.squares.clear();
    this.reducer.clear();
    this.parameters.clear();
    this.start = undefined;
  }

  override state(): readonly TensorPart[] {
    const { model, groups, optimizer } = this.options;
    const state = new Map([
      ...[...model.masters()].map(([name, piece]) => [`${name}.master`, piece] as const),
      ...optimizer.state(),
    ]);
    return model.partsOfState(state, groups);
  }

  override weightsRead(): void {
    this.options.host?.weightsRead();
  }

  weights(): readonly TensorPart[] {
    const { model, groups } = this.options;
    return model.parts(groups);
  }

  override dispose(): void {
    super.dispose();
    this.parameters.dispose();
    this.options.host?.dispose();
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
