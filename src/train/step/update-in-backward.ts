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
import { hold, noGrad, scope, type Holding, type Tensor } from '../../torch/index.js';
import { OptimizingStore, type OptimizingStoreOptions } from './optimizing-store.js';
import type {
  ParameterStore,
  SegmentGradients,
  UpdateOutcome,
  UpdateStart,
} from './parameter-store.js';
import { SegmentUpdates } from './segment-updates.js';
import { trainableOf } from './step.js';

/** It clips nothing. */
export interface UpdateInBackwardOptions extends Omit<OptimizingStoreOptions, 'clipNorm'> {
  readonly model: SegmentedModel;
}

export class UpdateInBackward extends OptimizingStore implements ParameterStore {
  readonly acquire = RESIDENT.acquire;
  readonly prefetch = RESIDENT.prefetch;
  readonly release = RESIDENT.release;
  /** Sums of parameters that wait for a further segment. */
  private readonly waiting = new Map<string, Tensor>();
  private readonly segmentsOf = new Map<string, number>();
  /** Segments whose gradient each parameter still waits for. */
  private missing = new Map<string, number>();
  private updates: SegmentUpdates | undefined;

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
    this.updates = new SegmentUpdates(this.options, start);
    this.missing = new Map(this.segmentsOf);
  }

  accept(segment: SegmentBase, gradients: SegmentGradients): void {
    const { missing } = this;
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
    const updates = this.updates!;
    const names = [...gradients.keys()];
    noGrad(() =>
      scope(() => {
        const squares = squaredNorms(names, gradients, gradients.values().next().value!);
        updates.apply(segment, {
          ...{ gradients, squares, names },
          update: (update) => this.update(update),
        });
      }),
    );
  }

  *finish(lossSum: Tensor): Steps<Holding<UpdateOutcome>> {
    return hold(() => noGrad(() => this.updates!.outcome(lossSum.clone())));
  }

  weights(): readonly TensorPart[] {
    return wholeParts(this.options.model.namedParameters(), ALONE);
  }

  clear(): void {
    for (const tensor of this.waiting.values()) tensor.dispose();
    this.waiting.clear();
    this.updates?.dispose();
    this.updates = undefined;
  }
}

function added(sum: Tensor | undefined, gradient: Tensor | null): Tensor | null {
  if (sum === undefined || gradient === null) return sum ?? gradient;
  const total = noGrad(() => scope(() => sum.to('float32').add(gradient)));
  sum.dispose();
  gradient.dispose();
  return total;
}
