/**
 * Gradients of flat buffers on their way through the ranks: written where they are reduced, and reduced while the backward goes on.
 *
 * A buffer's gradients lie whole (P) on this rank until all that is to be summed here has come; then they are reduce-scattered among
 * those who share slices, and the slice (S) is summed with that of the replicas. What must be on the device before a reduction can
 * go on is given to it one segment later, so that neither waits for the other.
 */

import type { Pause, SegmentBase, Steps } from '../../models/index.js';
import type { GradientPlace } from '../../nn/index.js';
import type { Work } from '../../parallel/index.js';
import {
  _foreachCopy_,
  _foreachNorm,
  cat,
  dtypeBytes,
  empty,
  noGrad,
  scope,
  stack,
  zeros,
  type DType,
  type Tensor,
} from '../../torch/index.js';
import type { SegmentGradients } from './parameter-store.js';
import type { RankGroups } from './rank-groups.js';
import type { ShardedModel, ShardUnit } from './sharded-model.js';
import type { Need } from './shortage.js';

/** What is done with a buffer's gradients; pauses at each call of a group. */
export type Reduction = Generator<Work, void, void>;

export interface ReducerOptions {
  readonly model: ShardedModel;
  readonly groups: RankGroups;
  /** Type in which ranks sum. Micro-batches are summed in fp32. */
  readonly reduction: DType;
  /** Whether each micro-batch is reduced on its own; else they are summed on this rank first. */
  readonly eachMicroBatch: boolean;
  /** What comes after a buffer's last reduction of the update. */
  readonly then: (unit: ShardUnit) => Reduction | undefined;
  /** What was done by halves is done again with it: the values of an update that is short of memory do not count. */
  readonly need: Need;
}

/** The gradients of one buffer in one update. */
interface Sums {
  /** (P), while gradients come. */
  whole: Tensor | null;
  /** Parameters whose stretch has values. */
  readonly written: Set<string>;
  /** Gradients of segments that still come before the next reduction. */
  missing: number;
  /** Reductions that still come. */
  reductions: number;
  /** (S), of all ranks. */
  slice: Tensor | null;
}

/** A reduction under way, and the call that it waits for. */
interface Running {
  readonly steps: Reduction;
  work: Work;
}

/** Type of the slices that come of so many micro-batches: those of several are summed in fp32. */
export function sliceType(
  { reduction, eachMicroBatch }: Pick<ReducerOptions, 'reduction' | 'eachMicroBatch'>,
  microBatches: number,
): DType {
  return eachMicroBatch && microBatches > 1 ? 'float32' : reduction;
}

export class GradientReducer {
  private readonly sums = new Map<ShardUnit, Sums>();
  private running: Running[] = [];
  /** What was begun after the latest segment: it runs beside the next one. */
  private begun: Running[] = [];
  /** The largest absolute values of this rank's own gradients, before any is reduced. */
  private readonly largest: Tensor[] = [];
  private microBatches = 0;

  constructor(private readonly options: ReducerOptions) {}

  begin(microBatches: number): void {
    this.microBatches = microBatches;
    const reductions = this.options.eachMicroBatch ? microBatches : 1;
    for (const unit of this.options.model.trained) {
      const missing = this.segmentsOf(unit);
      this.sums.set(unit, { whole: null, written: new Set(), missing, reductions, slice: null });
    }
  }

  /** How often gradients come for a buffer before it is reduced. */
  private segmentsOf({ segments }: ShardUnit): number {
    return this.options.eachMicroBatch ? segments : segments * this.microBatches;
  }

  /** Where the gradients of these lie in a buffer, if it has all of them, one after another. */
  place(segment: SegmentBase, parameters: ReadonlyMap<string, Tensor>): GradientPlace | null {
    const names = [...parameters.keys()];
    const unit = this.options.model
      .unitsOf(segment)
      .find(({ buffer }) => buffer.leaves.has(names[0]!));
    const sums = unit && this.sums.get(unit);
    if (unit === undefined || sums === undefined) return null;
    const { layout } = unit.buffer;
    const { start } = layout.stretches.get(names[0]!)!;
    let end = start;
    for (const name of names) {
      const stretch = layout.stretches.get(name);
      if (stretch?.start !== end) return null;
      end += stretch.length;
    }
    const holds = names.filter((name) => sums.written.has(name)).length;
    if (holds > 0 && holds < names.length) return null;
    for (const name of names) sums.written.add(name);
    const columns = parameters.get(names[0]!)!.shape[1]!;
    const into = this.wholeOf(unit, sums).narrow(0, start, end - start);
    return { into: into.view([-1, columns]), holds: holds > 0 };
  }

  accept(segment: SegmentBase, gradients: SegmentGradients): void {
    for (const unit of this.options.model.unitsOf(segment)) {
      const sums = this.sums.get(unit);
      if (sums === undefined) continue;
      this.options.need(() => this.write(unit, sums, gradients));
      sums.missing--;
      if (sums.missing > 0) continue;
      sums.missing = this.segmentsOf(unit);
      sums.reductions--;
      this.start(this.reduce(unit, sums));
    }
    for (const gradient of gradients.values()) gradient?.dispose();
  }

  /** Copies what comes first and adds the rest: nothing is filled with zeros to be added to. Padding may hold anything. */
  private write(unit: ShardUnit, sums: Sums, gradients: SegmentGradients): void {
    const { buffer } = unit;
    const { written } = sums;
    const whole = this.wholeOf(unit, sums);
    noGrad(() =>
      scope(() => {
        const [targets, sources]: [Tensor[], Tensor[]] = [[], []];
        for (const name of buffer.leaves.keys()) {
          const gradient = gradients.get(name)?.reshape([-1]);
          if (gradient === undefined) continue;
          const target = buffer.stretchOf(whole, name);
          if (written.has(name)) {
            target.add_(gradient);
            continue;
          }
          written.add(name);
          targets.push(target);
          sources.push(gradient);
        }
        if (targets.length > 0) _foreachCopy_(targets, sources);
      }),
    );
  }

  /** The buffer that gradients are written to. */
  private wholeOf(unit: ShardUnit, sums: Sums): Tensor {
    const { layout, whole } = unit.buffer;
    const dtype = this.segmentsOf(unit) > 1 ? 'float32' : this.options.reduction;
    return (sums.whole ??= empty([layout.length], { dtype, device: whole.device }).keep());
  }

  /** The largest absolute value of each gradient that this rank's batches have reached. */
  private measure({ buffer }: ShardUnit, { whole, written }: Sums): void {
    if (written.size === 0) return;
    const own = [...written].map((name) => buffer.stretchOf(whole!, name));
    this.largest.push(stack(_foreachNorm(own, Infinity, 'float32')).keep());
  }

  /** Zeros for parameters that this rank's batches have not reached. */
  private fill({ buffer }: ShardUnit, { whole, written }: Sums): void {
    if (written.size === 0) whole!.zero_();
    for (const name of buffer.leaves.keys()) {
      if (written.size > 0 && !written.has(name)) buffer.stretchOf(whole!, name).zero_();
    }
    written.clear();
  }

  private *reduce(unit: ShardUnit, sums: Sums): Reduction {
    const { groups, reduction, then, need } = this.options;
    const { shards, replicas } = groups;
    const { buffer, name: label } = unit;
    const last = sums.reductions === 0;
    const whole = need(() =>
      noGrad(() =>
        scope(() => {
          this.measure(unit, sums);
          this.fill(unit, sums);
          return sums.whole!.to(reduction);
        }),
      ),
    );
    if (whole !== sums.whole) sums.whole!.dispose();
    sums.whole = null;
    let own = whole;
    try {
      if (shards.size > 1) {
        const { sliceLength } = buffer.layout;
        const { device } = whole;
        own = need(() => noGrad(() => empty([sliceLength], { dtype: reduction, device }))).keep();
        const work = shards.reduceScatter(own, whole, { label });
        whole.dispose(); // its memory lives until the call has ended
        yield work;
      }
      if (replicas.size > 1) yield replicas.allReduce(own, { label });
      need(() => noGrad(() => this.add(sums, own, last)));
    } finally {
      if (own !== sums.slice) own.dispose();
    }
    const more = last ? then(unit) : undefined;
    if (more !== undefined) yield* more;
  }

  /** A sum that is the only one stays in the type in which it was reduced. */
  private add(sums: Sums, own: Tensor, last: boolean): void {
    if (sums.slice !== null) sums.slice.add_(own);
    else sums.slice = last ? own : own.to('float32').keep();
  }

  private start(steps: Reduction): void {
    const first = steps.next();
    if (first.done !== true) this.begun.push({ steps, work: first.value });
  }

  /** Takes every reduction to its next call but those of the latest segment, which run beside the next one. */
  advance(): Pause {
    const { running, begun } = this;
    this.begun = [];
    if (running.length === 0) {
      this.running = begun;
      return undefined;
    }
    return this.advanceAll(running).then((left) => {
      this.running = [...left, ...begun];
    });
  }

  private async advanceAll(running: readonly Running[]): Promise<Running[]> {
    const left: Running[] = [];
    for (const { steps, work } of running) {
      await work.waitOnStream();
      const next = steps.next();
      if (next.done !== true) left.push({ steps, work: next.value });
    }
    return left;
  }

  /** Until all reductions have ended. */
  *drain(): Steps<void> {
    while (this.running.length + this.begun.length > 0) yield this.advance();
  }

  /**
   * The sum over ranks of a buffer's gradients (S), this rank's part; in fp32 where several were added; `null` where it is not complete
   * or was freed.
   */
  sliceOf(unit: ShardUnit): Tensor | null {
    return this.sums.get(unit)!.slice;
  }

  /** Bytes of gradients that lie on this rank at once, at most, beside those on their way. */
  bytes(microBatches: number): number {
    const { model, reduction, eachMicroBatch } = this.options;
    const summedFirst = !eachMicroBatch && microBatches > 1;
    const width = dtypeBytes(microBatches > 1 ? 'float32' : reduction);
    return model.trained.reduce((sum, { buffer: { layout } }) => {
      return sum + width * (summedFirst ? layout.length : layout.sliceLength);
    }, 0);
  }

  freeSlice(unit: ShardUnit): void {
    const sums = this.sums.get(unit)!;
    sums.slice?.dispose();
    sums.slice = null;
  }

  /** Of this rank's own gradients the largest absolute value, and how many are not finite (2), fp32. */
  ownExtremes(): Tensor {
    const { device } = this.options.model.trained[0]!.buffer.whole;
    const none = zeros([1], { dtype: 'float32', device });
    const largest = cat([none, ...this.largest]);
    return stack([largest.amax([]), largest.isfinite().logicalNot().to('float32').sum(null)]);
  }

  clear(): void {
    for (const each of this.largest.splice(0)) each.dispose();
    for (const { steps } of [...this.running, ...this.begun]) steps.return();
    this.running = [];
    this.begun = [];
    for (const { whole, slice } of this.sums.values()) {
      whole?.dispose();
      slice?.dispose();
    }
    this.sums.clear();
  }
}
