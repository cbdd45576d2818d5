/**
 * An optimizer in host memory: fp32 masters and moments of this rank's slices, updated by libtorch's fused AdamW on the CPU, on a thread
 * beside JavaScript's.
 *
 * Gradients are copied out while the backward goes on. Once the factor and the flag have come to the host, buffers are updated one after
 * another and copied back, while the next forward begins: each of its segments waits for its own buffers alone.
 */

import { AdamW, type AdamWOptions, type ParameterGroup } from '../../optim/index.js';
import {
  DeviceEvent,
  emptyOnHost,
  inBackground,
  noGrad,
  Stream,
  tensor,
  type Tensor,
} from '../../torch/index.js';
import { after, streamsOf } from './host-copy.js';
import { LateNumbers } from './late-numbers.js';
import type { GatedUpdate } from './optimizing-store.js';
import type { ShardedModel, ShardUnit } from './sharded-model.js';

/** What lies in host memory for one buffer: each (S). */
interface Share {
  /** fp32 */
  readonly master: Tensor;
  /** fp32 */
  readonly gradient: Tensor;
  /** In the type of the parameters: the slice where that lies here, the master where the type is the same. */
  readonly rounded: Tensor;
  /** The parts of `master` and `gradient`, by parameter. */
  readonly masters: ReadonlyMap<string, Tensor>;
  readonly gradients: ReadonlyMap<string, Tensor>;
  /** The gradient has come. */
  readonly came: DeviceEvent;
}

interface Factor {
  readonly divisor: number;
  readonly foundInf: boolean;
}

export class HostOptimizer {
  /** Over the masters. */
  readonly adamw: AdamW;
  private readonly shares = new Map<ShardUnit, Share>();
  private readonly updates = new Map<ShardUnit, Promise<void>>();
  /** The latest of them. */
  private last: Promise<void> = Promise.resolve();

  /** @param settings masters and moments are fp32 whatever they say */
  constructor(model: ShardedModel, groups: readonly ParameterGroup[], settings: AdamWOptions) {
    for (const unit of model.trained) this.shares.set(unit, shareOf(unit));
    const masters = new Map([...this.shares.values()].flatMap((share) => [...share.masters]));
    const fp32 = { master: 'float32', states: 'float32' } as const;
    this.adamw = new AdamW(model.groupsOf(groups, masters), { ...settings, ...fp32 });
  }

  /** Begins to copy a buffer's gradient (S) out; it may be freed right after. */
  take(unit: ShardUnit, slice: Tensor): void {
    const { gradient, came } = this.shares.get(unit)!;
    const { out } = streamsOf(slice.device);
    after(out, () => noGrad(() => gradient.copy_(slice, true)));
    out.protect(slice);
    came.record(out);
  }

  /** Updates these in this order, unless the flag is set, once all of it has come to the host. */
  update(units: readonly ShardUnit[], { scheduleFactor, divisor, foundInf }: GatedUpdate): void {
    const late = new LateNumbers({ divisor, foundInf });
    const factor = late.arrived().then((): Factor => {
      const numbers = late.read();
      return { divisor: numbers.divisor[0]!, foundInf: numbers.foundInf[0] !== 0 };
    });
    for (const unit of units) {
      const before = this.last;
      const done = before.then(async () => this.updateOne(unit, scheduleFactor, await factor));
      // Who waits for it is told.
      done.catch(() => undefined);
      this.last = done;
      const settled = done.then(() => {
        if (this.updates.get(unit) === settled) this.updates.delete(unit);
      });
      settled.catch(() => undefined);
      this.updates.set(unit, settled);
    }
  }

  /** The end of a buffer's update that is under way: from then on the device may be given what reads it. */
  updating(unit: ShardUnit): Promise<void> | undefined {
    return this.updates.get(unit);
  }

  private async updateOne(unit: ShardUnit, scheduleFactor: number, factor: Factor): Promise<void> {
    if (factor.foundInf) return;
    const { master, gradients, rounded, came } = this.shares.get(unit)!;
    const { slice, whole } = unit.buffer;
    await came.passed();
    const divisor = tensor(factor.divisor).keep();
    await inBackground(() => {
      this.adamw.update({ gradients, scheduleFactor, divisor, foundInf: null });
      if (rounded !== master) noGrad(() => rounded.copy_(master));
    });
    divisor.dispose();
    if (slice === rounded) return;
    const { back } = streamsOf(whole.device);
    after(back, () => noGrad(() => slice.copy_(rounded, true)));
    using returned = new DeviceEvent(whole.device).record(back);
    Stream.current(whole.device).wait(returned);
  }

  /** Masters are those of the slices again. */
  weightsRead(): void {
    for (const [{ buffer }, { master }] of this.shares) {
      if (master !== buffer.slice) noGrad(() => master.copy_(buffer.slice));
    }
  }

  /** What a checkpoint must hold of the masters where they are not the parameters themselves, by name of the parameter. */
  masters(): Map<string, Tensor> {
    const rounded = [...this.shares.values()].filter((share) => share.rounded !== share.master);
    return new Map(rounded.flatMap(({ masters }) => [...masters]));
  }

  /** Bytes in host memory of masters, and of copies on their way to the device. */
  get masterBytes(): number {
    return this.sum(({ buffer: { slice } }, { master, rounded }) => {
      return [...new Set([master, rounded])].reduce(
        (sum, each) => sum + (each === slice ? 0 : each.bytes),
        0,
      );
    });
  }

  /** Bytes in host memory of gradients. */
  get gradientBytes(): number {
    return this.sum((_, { gradient }) => gradient.bytes);
  }

  private sum(of: (unit: ShardUnit, share: Share) => number): number {
    return [...this.shares].reduce((total, [unit, share]) => total + of(unit, share), 0);
  }

  /** Frees all but the optimizer's states. */
  dispose(): void {
    for (const [{ buffer }, share] of this.shares) {
      const { master, gradient, rounded, masters, gradients, came } = share;
      for (const piece of [...masters.values(), ...gradients.values()]) piece.dispose();
      const own = new Set([master, gradient, rounded]);
      own.delete(buffer.slice);
      for (const each of own) each.dispose();
      came.dispose();
    }
    this.shares.clear();
  }
}

function shareOf({ buffer }: ShardUnit): Share {
  const { slice, whole, host } = buffer;
  return noGrad(() => {
    const onHost = (dtype: 'float32' | typeof whole.dtype): Tensor =>
      emptyOnHost(slice.shape, dtype, whole.device).keep();
    const single = whole.dtype === 'float32';
    const master = host && single ? slice : onHost('float32').copy_(slice);
    const rounded = host ? slice : single ? master : onHost(whole.dtype);
    const gradient = onHost('float32');
    const [masters, gradients] = [master, gradient].map((each) => buffer.piecesIn(each));
    for (const piece of [...masters!.values(), ...gradients!.values()]) piece.keep();
    const came = new DeviceEvent(whole.device);
    return { master, gradient, rounded, masters: masters!, gradients: gradients!, came };
  });
}
