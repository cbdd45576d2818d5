/**
 * Where the parameters of sharded buffers are. Those of which each rank keeps a slice alone are gathered for a segment while the one
 * before it runs, and freed after its visit, or only after its backward. Those that stay are gathered after an update, while the next
 * forward begins.
 */

import type { Pause, Phase, Residency, SegmentBase } from '../../models/index.js';
import type { FlatBuffer, ProcessGroup, Work } from '../../parallel/index.js';
import { DeviceEvent, Stream } from '../../torch/index.js';
import { after, streamsOf } from './host-copy.js';
import type { ShardedModel, ShardUnit } from './sharded-model.js';
import type { Need } from './shortage.js';

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
  /** The end of an update of a buffer that is under way elsewhere. @default none */
  readonly updating?: ((unit: ShardUnit) => Promise<void> | undefined) | undefined;
  /** Makes room for what is gathered. */
  readonly need: Need;
}

/** A buffer on its way. */
interface Gathering {
  /** This rank's part is in place. */
  readonly brought: DeviceEvent;
  readonly work: Work;
}

export class GatheredParameters implements Residency {
  /** See `ParameterStore.overlaps`. */
  overlaps = true;
  private readonly gathering = new Map<FlatBuffer, Gathering>();
  /** Visits under way, and segments that stay, that need a gathered buffer. */
  private readonly users = new Map<FlatBuffer, number>();
  /** How many backwards of this update each segment that stays has before it. */
  private readonly backwards = new Map<SegmentBase, number>();
  private readonly staying = new Set<SegmentBase>();
  /** Buffers that stay and of which ranks have updated their slices since. */
  private readonly stale = new Set<ShardUnit>();

  constructor(private readonly options: GatheringOptions) {}

  begin(microBatches: number): void {
    const { model, reshardAfterForward = true } = this.options;
    if (reshardAfterForward) return;
    for (const segment of model.revisited) this.backwards.set(segment, microBatches);
  }

  acquire(segment: SegmentBase): Pause {
    if (this.staying.delete(segment)) return undefined;
    const units = this.options.model.unitsOf(segment);
    const updating = units.flatMap((unit) => this.options.updating?.(unit) ?? []);
    if (updating.length === 0) return this.bring(units);
    return Promise.all(updating).then(() => this.bring(units));
  }

  private bring(units: readonly ShardUnit[]): Pause {
    const waits: Promise<void>[] = [];
    for (const unit of units) {
      const { buffer } = unit;
      const users = this.users.get(buffer) ?? 0;
      this.users.set(buffer, users + 1);
      if (users === 0) this.gather(unit);
      if (this.gathering.has(buffer)) waits.push(this.arrive(buffer));
    }
    return waits.length === 0 ? undefined : Promise.all(waits).then(() => undefined);
  }

  /** What is still being updated comes when it is acquired: either way in the same order of calls. */
  prefetch(segment: SegmentBase): void {
    if (!this.overlaps) return;
    for (const unit of this.options.model.unitsOf(segment)) {
      if ((this.users.get(unit.buffer) ?? 0) > 0) continue;
      if (this.options.updating?.(unit) === undefined) this.gather(unit);
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
      const users = this.users.get(buffer)! - 1;
      this.users.set(buffer, users);
      if (users === 0) buffer.free();
    }
  }

  /** Begins to gather a buffer that is not there, behind what the device was given so far and beside what comes. */
  private gather(unit: ShardUnit): void {
    const { group, need } = this.options;
    const { buffer, name: label } = unit;
    if (this.gathering.has(buffer) || (buffer.resident && !this.stale.delete(unit))) return;
    need(() => buffer.allocate());
    const { back } = streamsOf(buffer.whole.device);
    const work = after(back, () => group.allGather(buffer.whole, buffer.bring(), { label }));
    const brought = new DeviceEvent(buffer.whole.device).record(back);
    this.gathering.set(buffer, { brought, work });
  }

  /** Until it may be given to operators. */
  private arrive(buffer: FlatBuffer): Promise<void> {
    const { brought, work } = this.gathering.get(buffer)!;
    this.gathering.delete(buffer);
    Stream.current(buffer.whole.device).wait(brought);
    brought.dispose();
    return this.overlaps ? work.waitOnStream() : work.wait();
  }

  /** After this rank has updated its slices of these: what of them stays is to be gathered. */
  refresh(units: readonly ShardUnit[]): void {
    if (this.options.group.size === 1) return;
    for (const unit of units) {
      if (!unit.buffer.resident) continue;
      this.stale.add(unit);
      if (this.options.updating?.(unit) === undefined) this.gather(unit);
    }
  }

  /** Until what stays is in place. */
  async settle(): Promise<void> {
    for (const unit of this.options.model.trained) {
      await this.options.updating?.(unit);
      const { buffer } = unit;
      if (!buffer.resident) continue;
      this.gather(unit);
      if (this.gathering.has(buffer)) await this.arrive(buffer);
    }
  }

  /** Ends visits that were abandoned: what they had gathered would count as there when it has been updated since. */
  clear(): void {
    for (const [buffer, users] of this.users) if (users > 0) buffer.free();
    this.users.clear();
    this.staying.clear();
    this.backwards.clear();
  }

  dispose(): void {
    for (const { brought } of this.gathering.values()) brought.dispose();
    this.gathering.clear();
  }
}
