/**
 * A store that applies each segment's gradients at once and holds none (LOMO; Lv et al. 2023, here with AdamW).
 *
 * The factor must be known before the backward ends: the number of tokens is, the global norm is not. So this excludes accumulation,
 * global clipping and fp16 scaling; a finiteness gate per segment stands in: of an update whose gradient is not finite some segments
 * may be applied and others left out. A parameter that several segments share is updated once, after its last gradient was added.
 */

import { RESIDENT, type SegmentBase, type SegmentedModel, type Steps } from '../../models/index.js';
import { squaredNorms } from '../../optim/index.js';
import { ALONE, wholeParts, type TensorPart } from '../../parallel/index.js';
import { cat, empty, hold, noGrad, scope, type Holding, type Tensor } from '../../torch/index.js';
import { OptimizingStore, type OptimizingStoreOptions } from './optimizing-store.js';
import type {
  ParameterStore,
  SegmentGradients,
  UpdateOutcome,
  UpdateStart,
} from './parameter-store.js';
import { trainableOf } from './step.js';

/** It clips nothing. */
export interface UpdateInBackwardOptions extends Omit<OptimizingStoreOptions, 'clipNorm'> {
  readonly model: SegmentedModel;
}

/** What one update gathers on its way. */
interface Progress extends UpdateStart {
  /** tokens · lossFactor, what the sums are divided by. */
  readonly divisor: Tensor;
  /** What was applied or left out so far, and whether its gradient was not finite; scalars, fp32. */
  readonly gates: string[];
  readonly flags: Tensor[];
  /** Squared norms of what was applied so far, segment by segment, and the names that belong to them. */
  readonly squares: Tensor[];
  readonly names: string[];
  /** Segments whose gradient each parameter still waits for. */
  readonly missing: Map<string, number>;
}

export class UpdateInBackward extends OptimizingStore implements ParameterStore {
  readonly acquire = RESIDENT.acquire;
  readonly prefetch = RESIDENT.prefetch;
  readonly release = RESIDENT.release;
  /** Sums of parameters that wait for a further segment. */
  private readonly waiting = new Map<string, Tensor>();
  private readonly segmentsOf = new Map<string, number>();
  private progress: Progress | undefined;

  constructor(private readonly options: UpdateInBackwardOptions) {
    super(options);
    const { segments, head } = options.model;
    for (const segment of [...segments, head]) {
      for (const name of trainableOf(segment).keys()) {
        this.segmentsOf.set(name, (this.segmentsOf.get(name) ?? 0) + 1);
      }
    }
  }

  begin(start: UpdateStart): void {
    const { tokens, lossFactor } = start;
    this.progress = {
      ...start,
      divisor: noGrad(() => scope(() => tokens.clamp(1).mul(lossFactor))).keep(),
      gates: [],
      flags: [],
      squares: [],
      names: [],
      missing: new Map(this.segmentsOf),
    };
  }

  accept(segment: SegmentBase, gradients: SegmentGradients): void {
    const { missing } = this.progress!;
    const ready = new Map<string, Tensor>();
    for (const [name, gradient] of gradients) {
      const left = missing.get(name)! - 1;
      missing.set(name, left);
      const sum = added(this.waiting.get(name), gradient);
      if (sum === null) continue;
      if (left > 0) {
        this.waiting.set(name, sum.keep());
      } else {
        this.waiting.delete(name);
        ready.set(name, sum);
      }
    }
    if (ready.size > 0) this.apply(segment.name, ready);
    for (const gradient of ready.values()) gradient.dispose();
  }

  private apply(segment: string, gradients: ReadonlyMap<string, Tensor>): void {
    const { optimizer, gate, randomness } = this.options;
    const { scheduleFactor, divisor, gates, flags, update, squares, names } = this.progress!;
    noGrad(() =>
      scope(() => {
        const own = squaredNorms([...gradients.keys()], gradients, divisor);
        const isBad = own.sum(null).isfinite().logicalNot().to('float32');
        const flag = gate.flag(isBad);
        optimizer.update({
          ...{ gradients, scheduleFactor, divisor },
          foundInf: flag,
          rounding: (name) => randomness.ofRounding(update, name),
        });
        gates.push(segment);
        flags.push(flag.keep());
        squares.push(own.keep());
        names.push(...gradients.keys());
      }),
    );
  }

  *finish(lossSum: Tensor): Steps<Holding<UpdateOutcome>> {
    const { divisor, gates, flags, squares, names } = this.progress!;
    return hold(() =>
      noGrad(() => {
        const none = empty([0], { dtype: 'float32', device: divisor.device });
        const tensorNorms = cat([none, ...squares])
          .sqrt()
          .div(divisor);
        const foundInf = cat([none, ...flags.map((flag) => flag.reshape([1]))]);
        this.options.gate.take(foundInf);
        return {
          norm: tensorNorms.square().sum(null).sqrt(),
          ...{ foundInf, gates },
          ...{ tensorNorms, tensorNames: names },
          lossSum: lossSum.clone(),
        };
      }),
    );
  }

  weights(): readonly TensorPart[] {
    return wholeParts(this.options.model.namedParameters(), ALONE);
  }

  clear(): void {
    const { divisor, flags = [], squares = [] } = this.progress ?? {};
    for (const tensor of [...this.waiting.values(), ...flags, ...squares]) tensor.dispose();
    divisor?.dispose();
    this.waiting.clear();
    this.progress = undefined;
  }
}

function added(sum: Tensor | undefined, gradient: Tensor | null): Tensor | null {
  if (sum === undefined || gradient === null) return sum ?? gradient;
  const total = noGrad(() => scope(() => sum.to('float32').add(gradient)));
  sum.dispose();
  gradient.dispose();
  return total;
}
