/**
 * A store that applies each segment's gradients at once and holds none (LOMO; Lv et al. 2023, here with AdamW).
 *
 * The factor must be known before the backward ends: the number of tokens is, the global norm is not. So this excludes accumulation,
 * global clipping and fp16 scaling; a finiteness gate per segment stands in: of an update whose gradient is not finite some segments
 * may be applied and others left out. A parameter that several segments share is updated once, after its last gradient was added.
 */

import { RESIDENT, type SegmentBase, type SegmentedModel, type Steps } from '../../models/index.js';
import { tensorNorms } from '../../optim/index.js';
import {
  cat,
  empty,
  hold,
  noGrad,
  scope,
  zeros,
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
import { OPTIMIZER_STREAM } from './randomness.js';
import { trainableOf } from './step.js';

/** It clips nothing. */
export interface UpdateInBackwardOptions extends Omit<OptimizingStoreOptions, 'clipNorm'> {
  readonly model: SegmentedModel;
}

/** What one update gathers on its way. */
interface Progress extends UpdateStart {
  /** tokens · lossFactor, what the sums are divided by. */
  readonly divisor: Tensor;
  /** For each gate (G), fp32. */
  readonly foundInf: Tensor;
  /** Norms of what was applied so far, segment by segment, and the names that belong to them. */
  readonly norms: Tensor[];
  readonly names: string[];
  /** Segments whose gradient each parameter still waits for. */
  readonly missing: Map<string, number>;
}

export class UpdateInBackward extends OptimizingStore implements ParameterStore {
  readonly gates: readonly string[];
  readonly acquire = RESIDENT.acquire;
  readonly prefetch = RESIDENT.prefetch;
  readonly release = RESIDENT.release;
  /** Sums of parameters that wait for a further segment. */
  private readonly waiting = new Map<string, Tensor>();
  private readonly segmentsOf = new Map<string, number>();
  private progress: Progress | undefined;
  private applied = 0;

  constructor(private readonly options: UpdateInBackwardOptions) {
    super(options);
    const { segments, head } = options.model;
    const trained = [...segments, head].filter((segment) => trainableOf(segment).size > 0);
    this.gates = trained.map(({ name }) => name);
    for (const segment of trained) {
      for (const name of trainableOf(segment).keys()) {
        this.segmentsOf.set(name, (this.segmentsOf.get(name) ?? 0) + 1);
      }
    }
  }

  begin(start: UpdateStart): void {
    const { tokens, lossFactor } = start;
    this.applied = 0;
    this.progress = {
      ...start,
      divisor: noGrad(() => scope(() => tokens.clamp(1).mul(lossFactor))).keep(),
      foundInf: zeros([this.gates.length], { dtype: 'float32', device: tokens.device }).keep(),
      norms: [],
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
    if (ready.size > 0) this.apply(this.gates.indexOf(segment.name), ready);
    for (const gradient of ready.values()) gradient.dispose();
  }

  private apply(gateIndex: number, gradients: ReadonlyMap<string, Tensor>): void {
    const { optimizer, gate, randomness } = this.options;
    const { scheduleFactor, divisor, foundInf, update, norms, names } = this.progress!;
    noGrad(() =>
      scope(() => {
        const own = tensorNorms([...gradients.values()], divisor);
        const isBad = own.square().sum(null).isfinite().logicalNot().to('float32');
        const flag = gate.flag(isBad);
        const stream = OPTIMIZER_STREAM + this.applied++;
        optimizer.update({
          ...{ gradients, scheduleFactor, divisor },
          foundInf: flag,
          generator: randomness.of(stream, { update, microBatch: 0 }),
        });
        foundInf.narrow(0, gateIndex, 1).copy_(flag);
        norms.push(own.keep());
        names.push(...gradients.keys());
      }),
    );
  }

  *finish(lossSum: Tensor): Steps<Holding<UpdateOutcome>> {
    const { divisor, foundInf, norms, names } = this.progress!;
    this.options.gate.take(foundInf);
    return hold(() =>
      noGrad(() => {
        const none = empty([0], { dtype: 'float32', device: divisor.device });
        const tensorNorms = cat([none, ...norms]).div(divisor);
        return {
          norm: tensorNorms.square().sum(null).sqrt(),
          foundInf: foundInf.clone(),
          ...{ tensorNorms, tensorNames: names },
          lossSum: lossSum.clone(),
        };
      }),
    );
  }

  clear(): void {
    const { divisor, foundInf, norms = [] } = this.progress ?? {};
    for (const tensor of [...this.waiting.values(), ...norms]) tensor.dispose();
    divisor?.dispose();
    foundInf?.dispose();
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
