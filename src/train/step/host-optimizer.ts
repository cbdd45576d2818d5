/**
 * An optimizer in host memory: fp32 masters and moments of this rank's slices, updated on the CPU in one pass over that memory, on a
 * thread beside JavaScript's.
 *
 * Gradients are copied out while the backward goes on. Once the factor and the flag have come to the host, buffers are updated one after
 * another and copied back, while the next forward begins: each of its segments waits for its own buffers alone.
 */

import { AdamW, type AdamWOptions, type ParameterGroup } from '../../optim/index.js';
import {
  asHostMemory,
  DeviceEvent,
  emptyOnHost,
  inBackground,
  noGrad,
  Stream,
  tensor,
  type DType,
  type Tensor,
} from '../../torch/index.js';
import { after, streamsOf } from './host-copy.js';
import { LateNumbers } from './late-numbers.js';
import type { GatedUpdate } from './optimizing-store.js';
import type { ShardedModel, ShardUnit } from './sharded-model.js';

/** What lies in host memory for one buffer beside the optimizer's states: each (S). */
interface Share {
  /** What AdamW updates, in the type of the parameters: the slice where that lies here, else what is copied to it. */
  readonly weights: Tensor;
  readonly gradient: Tensor;
  /** The parts of `weights` and `gradient`, by parameter. */
  readonly parameters: ReadonlyMap<string, Tensor>;
  readonly gradients: ReadonlyMap<string, Tensor>;
  /** The gradient has come. */
  readonly came: DeviceEvent;
}

export interface HostOptimizerOptions extends Omit<AdamWOptions, 'master' | 'states'> {
  /** Type in which gradients lie here: that of the slices that come. @default 'float32' */
  readonly gradients?: DType;
}

interface Factor {
  readonly divisor: number;
  readonly foundInf: boolean;
}

export class HostOptimizer {
  readonly adamw: AdamW;
  private readonly shares = new Map<ShardUnit, Share>();
  private readonly updates = new Map<ShardUnit, Promise<void>>();
  /** The latest of them. */
  private last: Promise<void> = Promise.resolve();

  constructor(
    model: ShardedModel,
    groups: readonly ParameterGroup[],
    { gradients = 'float32', ...settings }: HostOptimizerOptions,
  ) {
    for (const unit of model.trained) this.shares.set(unit, shareOf(unit, gradients));
    const own = new Map([...this.shares.values()].flatMap((share) => [...share.parameters]));
    const fp32 = { master: 'float32', states: 'float32' } as const;
    const owned = model.groupsOf(groups, own);
    this.adamw = asHostMemory(() => new AdamW(owned, { ...settings, ...fp32 }));
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
    const { gradients, weights, came } = this.shares.get(unit)!;
    const { slice, whole } = unit.buffer;
    await came.passed();
    using divisor = tensor(factor.divisor, { device: weights.device }).keep();
    await inBackground(() =>
      this.adamw.update({ gradients, scheduleFactor, divisor, foundInf: null }),
    );
    if (slice === weights) return;
    const { back } = streamsOf(whole.device);
    after(back, () => noGrad(() => slice.copy_(weights, true)));
    using returned = new DeviceEvent(whole.device).record(back);
    Stream.current(whole.device).wait(returned);
  }

  /** Masters are those of the slices again. */
  weightsRead(): void {
    for (const [{ buffer }, { weights }] of this.shares) {
      if (weights !== buffer.slice) noGrad(() => weights.copy_(buffer.slice));
    }
    this.adamw.parametersRead();
  }

  /** Bytes in host memory of what is copied to slices on the device; in fp32 these are the masters. */
  get copyBytes(): number {
    return this.sum(({ buffer }, { weights }) => (weights === buffer.slice ? 0 : weights.bytes));
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
      const { weights, gradient, parameters, gradients, came } = share;
      for (const piece of [...parameters.values(), ...gradients.values()]) piece.dispose();
      if (weights !== buffer.slice) weights.dispose();
      gradient.dispose();
      came.dispose();
    }
    this.shares.clear();
  }
}

function shareOf({ buffer }: ShardUnit, gradientType: DType): Share {
  const { slice, whole, host } = buffer;
  return noGrad(() => {
    const onHost = (dtype: DType): Tensor => emptyOnHost(slice.shape, dtype, whole.device).keep();
    const weights = host ? slice : onHost(whole.dtype).copy_(slice);
    const gradient = onHost(gradientType);
    const [parameters, gradients] = [weights, gradient].map((each) => buffer.piecesIn(each));
    for (const piece of [...parameters!.values(), ...gradients!.values()]) piece.keep();
    const came = new DeviceEvent(whole.device);
    return { weights, gradient, parameters: parameters!, gradients: gradients!, came };
  });
}
