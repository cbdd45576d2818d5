/**
 * The store of several ranks: parameters in flat buffers, of which each rank keeps a slice (Rajbhandari et al. 2020, "ZeRO").
 *
 * | stage | optimizer | gradients                                    | parameters                            |
 * | ----- | --------- | -------------------------------------------- | ------------------------------------- |
 * | 0     | whole     | whole, all-reduced once an update            | whole                                 |
 * | 1     | slice     | whole, reduce-scattered once an update       | whole, gathered after the update      |
 * | 2     | slice     | slice, reduce-scattered after each segment   | whole, gathered after the update      |
 * | 3     | slice     | slice, likewise                              | slice, gathered for each visit        |
 *
 * The order of the collectives follows from the recipe and the number of micro-batches alone: a micro-batch without pictures, or
 * without records, hands in zeros.
 */

import type { Pause, Phase, SegmentBase, Steps } from '../../models/index.js';
import { tensorNorms } from '../../optim/index.js';
import type { FlatBuffer, ProcessGroup, TensorPart, Work } from '../../parallel/index.js';
import {
  empty,
  hold,
  noGrad,
  scope,
  stack,
  zeros,
  type DType,
  type Holding,
  type Tensor,
} from '../../torch/index.js';
import { OptimizingStore, type OptimizingStoreOptions } from './optimizing-store.js';
import type {
  ParameterStore,
  SegmentGradients,
  UpdateOutcome,
  UpdateStart,
} from './parameter-store.js';
import type { ShardedModel, ShardUnit, ZeroStage } from './sharded-model.js';

/** The optimizer is over the pieces of this rank; over whole parameters in stage 0. */
export interface ShardedStoreOptions extends OptimizingStoreOptions {
  readonly model: ShardedModel;
  readonly group: ProcessGroup;
  readonly stage: ZeroStage;
  /** Type in which gradients are summed over ranks. @default 'float32' */
  readonly reduction?: DType;
}

/** The gradients of one buffer in one update. */
interface Sums {
  /** (P), until it is reduced. */
  whole: Tensor | null;
  /** (S), summed over ranks, fp32. */
  slice: Tensor | null;
  /** A reduction under way. */
  reducing: Promise<void> | null;
  /** Segments that still bring gradients in this micro-batch. */
  missing: number;
}

export class ShardedStore extends OptimizingStore implements ParameterStore {
  private readonly sums = new Map<ShardUnit, Sums>();
  private readonly gathering = new Map<FlatBuffer, Work>();
  /** Visits under way that need a gathered buffer. */
  private readonly users = new Map<FlatBuffer, number>();
  /** The reduction before the latest: no more than two are under way, so that their copies do not pile up. */
  private earlier: Promise<void> | null = null;
  private latest: Promise<void> | null = null;
  private start: UpdateStart | undefined;

  constructor(private readonly options: ShardedStoreOptions) {
    super(options);
  }

  // --- parameters: gathered for a visit in stage 3

  acquire(segment: SegmentBase, _phase: Phase): Pause {
    const waits: Promise<void>[] = [];
    for (const unit of this.gathered(segment)) {
      const { buffer } = unit;
      const users = this.users.get(buffer) ?? 0;
      this.users.set(buffer, users + 1);
      if (users > 0) continue;
      this.gather(unit);
      waits.push(this.gathering.get(buffer)!.waitOnStream());
      this.gathering.delete(buffer);
    }
    return waits.length === 0 ? undefined : Promise.all(waits).then(() => undefined);
  }

  prefetch(segment: SegmentBase): void {
    for (const unit of this.gathered(segment)) {
      if ((this.users.get(unit.buffer) ?? 0) === 0) this.gather(unit);
    }
  }

  release(segment: SegmentBase): Pause {
    for (const { buffer } of this.gathered(segment)) {
      const users = this.users.get(buffer)! - 1;
      this.users.set(buffer, users);
      if (users === 0 && !this.gathering.has(buffer)) buffer.free();
    }
    return this.earlier ?? undefined;
  }

  private gathered(segment: SegmentBase): readonly ShardUnit[] {
    return this.options.stage === 3 ? this.options.model.unitsOf(segment) : [];
  }

  private gather({ buffer, name: label }: ShardUnit): void {
    if (this.gathering.has(buffer)) return;
    buffer.allocate();
    const work = this.options.group.allGather(buffer.whole, buffer.slice, { label });
    this.gathering.set(buffer, work);
  }

  // --- gradients

  begin(start: UpdateStart): void {
    this.clear(); // a validation may have been abandoned since the last update
    this.start = start;
    for (const unit of this.options.model.trained) {
      const sums = { whole: null, slice: null, reducing: null, missing: unit.segments };
      this.sums.set(unit, sums);
    }
  }

  accept(segment: SegmentBase, gradients: SegmentGradients): void {
    const { model, stage } = this.options;
    for (const unit of model.unitsOf(segment)) {
      const sums = this.sums.get(unit);
      if (sums === undefined) continue;
      this.add(unit, sums, gradients);
      sums.missing--;
      if (sums.missing > 0) continue;
      sums.missing = unit.segments;
      if (stage >= 2) this.reduce(unit, sums);
    }
    for (const gradient of gradients.values()) gradient?.dispose();
  }

  private add({ buffer }: ShardUnit, sums: Sums, gradients: SegmentGradients): void {
    const { reduction = 'float32' } = this.options;
    const { device } = buffer.whole;
    sums.whole ??= zeros([buffer.layout.length], { dtype: reduction, device }).keep();
    const { whole } = sums;
    noGrad(() =>
      scope(() => {
        for (const name of buffer.leaves.keys()) {
          const gradient = gradients.get(name);
          if (gradient) buffer.stretchOf(whole, name).add_(gradient.reshape([-1]));
        }
      }),
    );
  }

  /** Begins to sum a buffer's gradients over ranks, into this rank's slice; after what is under way for it. */
  private reduce(unit: ShardUnit, sums: Sums): void {
    const whole = sums.whole!;
    sums.whole = null;
    sums.reducing = this.reduced(unit, sums, whole);
    // Who fails is told by the next call of the group.
    sums.reducing.catch(() => undefined);
    this.earlier = this.latest;
    this.latest = sums.reducing;
  }

  private async reduced(unit: ShardUnit, sums: Sums, whole: Tensor): Promise<void> {
    const { group } = this.options;
    const { buffer, name: label } = unit;
    const { dtype, device } = whole;
    const own = empty([buffer.layout.sliceLength], { dtype, device }).keep();
    const before = sums.reducing;
    // Called at once: the order of calls is that of the program.
    const work = group.reduceScatter(own, whole, { label });
    try {
      await before;
      await work.waitOnStream();
      if (this.sums.get(unit) !== sums) return; // the update was abandoned
      noGrad(() => {
        if (sums.slice === null) sums.slice = own.to('float32').keep();
        else sums.slice.add_(own);
      });
    } finally {
      if (sums.slice !== own) own.dispose();
      whole.dispose();
    }
  }

  // --- the update

  *finish(lossSum: Tensor): Steps<Holding<UpdateOutcome>> {
    const { model, group, stage } = this.options;
    const start = this.start!;
    for (const unit of model.trained) {
      const sums = this.sums.get(unit)!;
      if (stage === 0) yield group.allReduce(sums.whole!, { label: unit.name }).waitOnStream();
      if (stage === 1) this.reduce(unit, sums);
      if (sums.reducing !== null) yield sums.reducing;
    }
    using own = hold(() =>
      noGrad(() => {
        const gradients = this.gradients(start.pictures);
        const norms = tensorNorms([...gradients.values()], lossSum);
        const squares = norms.square().sum(null);
        // In stage 0 every rank has all of them.
        const counted = stage === 0 && group.rank > 0 ? squares.zerosLike() : squares;
        const mine = stack([lossSum, counted]);
        const all = empty([2 * group.size], { dtype: 'float32', device: mine.device });
        return { gradients, norms, mine, all };
      }),
    );
    const { gradients, norms, mine, all } = own.value;
    yield group.allGather(all, mine, { label: 'numbers of the update' }).waitOnStream();
    const outcome = hold(() =>
      noGrad(() => {
        // The same sum of the same numbers on every rank: the same bits.
        const sums = all.view([group.size, 2]).sum([0]);
        const [lossOfAll, squares] = [sums.select(0, 0), sums.select(0, 1)];
        const complete = { gradients, norms, squares, lossSum: lossOfAll, stream: group.rank };
        return this.applyAll(start, complete);
      }),
    );
    if (stage === 1 || stage === 2) yield* this.gatherUpdated();
    return outcome;
  }

  /** All ranks get what each of them has updated. */
  private *gatherUpdated(): Steps<void> {
    const { model, group } = this.options;
    for (const { buffer, name: label } of model.trained) {
      yield group.allGather(buffer.whole, buffer.slice, { label }).waitOnStream();
    }
  }

  /** What the optimizer gets: whole gradients in stage 0, else this rank's pieces; only of what some rank's batch reached. */
  private gradients(pictures: boolean): Map<string, Tensor> {
    const { model, stage } = this.options;
    const reached = model.trained.filter(({ visual }) => pictures || !visual);
    return new Map(
      reached.flatMap((unit): (readonly [string, Tensor])[] => {
        const { buffer } = unit;
        const { whole, slice } = this.sums.get(unit)!;
        if (stage > 0) return [...buffer.piecesIn(slice!)];
        return [...buffer.layout.stretches.values()].map(({ name, shape }) => [
          name,
          buffer.stretchOf(whole!, name).view(shape),
        ]);
      }),
    );
  }

  override state(): readonly TensorPart[] {
    const { model, optimizer } = this.options;
    return model.partsOf(optimizer.state());
  }

  parameters(): readonly TensorPart[] {
    return this.options.model.parts();
  }

  clear(): void {
    for (const { whole, slice } of this.sums.values()) {
      whole?.dispose();
      slice?.dispose();
    }
    this.sums.clear();
    // Visits that never ended: what they had gathered would count as there when it has been updated since.
    for (const [buffer, users] of this.users) if (users > 0) buffer.free();
    this.users.clear();
    this.start = undefined;
    this.earlier = null;
    this.latest = null;
  }

  override dispose(): void {
    super.dispose();
    this.options.model.dispose();
  }
}
