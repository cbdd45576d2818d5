/**
 * The store of several ranks that updates each buffer as soon as its gradients are reduced, and holds none (see
 * `update-in-backward.ts`). All ranks apply a buffer's gradients or leave them out together: those who share its slices tell each other
 * its norms.
 */

import type { Steps } from '../../models/index.js';
import { empty, hold, noGrad, scope, type Holding, type Tensor } from '../../torch/index.js';
import type { Reduction } from './gradient-reducer.js';
import type { ParameterStore, UpdateOutcome, UpdateStart } from './parameter-store.js';
import { gatherRows } from './rank-groups.js';
import { SegmentUpdates } from './segment-updates.js';
import type { ShardUnit } from './sharded-model.js';
import { readNumbers, ShardedStore } from './sharded-store.js';

export class ShardedUpdateInBackward extends ShardedStore implements ParameterStore {
  protected override readonly keepsGradients = false;
  private updates: SegmentUpdates | undefined;

  override begin(start: UpdateStart): void {
    super.begin(start);
    this.updates = new SegmentUpdates(this.options, start);
  }

  protected override *afterReduction(unit: ShardUnit): Reduction {
    const { buffer, name } = unit;
    const { shards } = this.options.groups;
    const updates = this.updates!;
    if (!this.isReached(unit)) return;
    const names = [...buffer.leaves.keys()];
    using own = hold(() => this.squaresOf(unit));
    this.takeOut(unit);
    using all = gatherRows(shards, own.value, name);
    yield all.work;
    noGrad(() =>
      scope(() =>
        updates.apply(name, {
          gradients: this.gradientsOf([unit]),
          squares: all.rows.sum([0]),
          names,
          update: (update) => this.updateUnits([unit], update),
        }),
      ),
    );
    this.parameters.refresh([unit]);
    this.reducer.freeSlice(unit);
  }

  override *finish(lossSum: Tensor): Steps<Holding<UpdateOutcome>> {
    yield* this.reducer.drain();
    using none = hold(() => empty([0], { dtype: 'float32', device: lossSum.device }));
    using all = yield* this.gatherNumbers(lossSum, none.value);
    return hold(() =>
      noGrad(() => {
        const { byRank, lossSum: lossOfAll } = readNumbers(all.rows);
        return { ...this.updates!.outcome(lossOfAll), byRank };
      }),
    );
  }

  override clear(): void {
    super.clear();
    this.updates?.dispose();
    this.updates = undefined;
  }
}
