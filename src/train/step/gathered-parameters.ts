/**
 * Where the parameters of sharded buffers are. Those of which each rank keeps a slice alone are gathered for a segment while the one
 * before it runs, and freed after its visit, or only after its backward. Those that stay are gathered after an update, while the next
 * forward begins.
 */

import type { Pause, Phase, Residency, SegmentBase } from '../../models/index.js';
import type { FlatBuffer, ProcessGroup, Work } from '../../parallel/index.js';
import type { ShardedModel, ShardUnit } from './sharded-model.js';

export interface GatheringOptions {
  readonly model: ShardedModel;
  /** Those who share the slices. */
  readonly group: ProcessGroup;
  /**
   * Whether a segment's parameters go after its forward, to be gathered again for its backward; else they stay until its last backward
   * of the update.
   * @default true
   */
  readonly reshardAfterForward?: boolean | undefined;
}

export class GatheredParameters implements Residency {
  private readonly gathering = new Map<FlatBuffer, Work>();
  /** Visits under way, and segments that stay, that need a gathered buffer. */
  private readonly users = new Map<FlatBuffer, number>();
  /** How many backwards of this update each segment that stays has before it. */
  private readonly backwards = new Map<SegmentBase, number>();
  private readonly staying = new Set<SegmentBase>();

  constructor(private readonly options: GatheringOptions) {}

  begin(microBatches: number): void {
    const { model, reshardAfterForward = true } = this.options;
    if (reshardAfterForward) return;
    for (const segment of model.revisited) this.backwards.set(segment, microBatches);
  }

  acquire(segment: SegmentBase): Pause {
    if (this.staying.delete(segment)) return undefined;
    const waits: Promise<void>[] = [];
    for (const unit of this.options.model.unitsOf(segment)) {
      const { buffer } = unit;
      if (!buffer.resident) {
        const users = this.users.get(buffer) ?? 0;
        this.users.set(buffer, users + 1);
        if (users > 0) continue;
        this.gather(unit);
      }
      const work = this.gathering.get(buffer);
      if (work !== undefined) waits.push(work.waitOnStream());
      this.gathering.delete(buffer);
    }
    return waits.length === 0 ? undefined : Promise.all(waits).then(() => undefined);
  }

  prefetch(segment: SegmentBase): void {
    for (const unit of this.options.model.unitsOf(segment)) {
      if (!unit.buffer.resident && (this.users.get(unit.buffer) ?? 0) === 0) this.gather(unit);
    }
  }

  release(segment: SegmentBase, phase: Phase): void {
    const left = (this.backwards.get(segment) ?? 0) - (phase === 'backward' ? 1 : 0);
    if (left > 0) {
      this.backwards.set(segment, left);
      this.staying.add(segment);
      return;
    }
    for (const { buffer } of this.options.model.unitsOf(segment)) {
      if (buffer.resident) continue;
      const users = this.users.get(buffer)! - 1;
      this.users.set(buffer, users);
      if (users === 0) buffer.free();
    }
  }

  private gather({ buffer, name: label }: ShardUnit): void {
    if (this.gathering.has(buffer)) return;
    const own = buffer.allocate();
    this.gathering.set(buffer, this.options.group.allGather(buffer.whole, own, { label }));
  }

  /** Begins to gather what of these stays, after this rank has updated its slices. */
  refresh(units: readonly ShardUnit[]): void {
    if (this.options.group.size === 1) return;
    for (const unit of units) if (unit.buffer.resident) this.gather(unit);
  }

  /** Until what stays is in place. */
  async settle(): Promise<void> {
    for (const [buffer, work] of this.gathering) {
      if (!buffer.resident) continue;
      await work.waitOnStream();
      this.gathering.delete(buffer);
    }
  }

  /** Ends visits that were abandoned: what they had gathered would count as there when it has been updated since. */
  clear(): void {
    for (const [buffer, users] of this.users) if (users > 0) buffer.free();
    this.users.clear();
    this.staying.clear();
    this.backwards.clear();
  }
}
