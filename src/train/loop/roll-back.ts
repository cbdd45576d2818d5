/**
 * To where a run goes back from updates that are bad whatever their records: a snapshot in host memory, taken every so many updates, else
 * the newest checkpoint.
 */

import { formatBytes } from '../../base/format.js';
import type { Recipe } from '../../config/index.js';
import type { SegmentedModel } from '../../models/index.js';
import { partChanges } from '../checkpoint/frozen-parts.js';
import type { TrainedWeights } from '../checkpoint/trained-weights.js';
import { readTrainerState, stateParts } from '../checkpoint/trainer-state.js';
import type { Trainable } from '../prepare/trainable.js';
import type { Ranks } from '../run/ranks.js';
import type { UpdateSetup } from '../step/update.js';
import type { Saving } from './saving.js';
import { Snapshot } from './snapshots.js';

export interface RollBackParts {
  readonly recipe: Pick<Recipe, 'guard'>;
  readonly model: SegmentedModel;
  readonly trainable: Trainable;
  readonly weights: TrainedWeights;
  readonly ranks: Ranks;
}

export class RollBack {
  private readonly snapshot: Snapshot | null;
  /** Host memory has no room for snapshots: checkpoints stand in for them. */
  private noRoom = false;

  constructor(
    private readonly parts: RollBackParts,
    private readonly saving: Pick<Saving, 'saved' | 'peers'>,
  ) {
    const { parameters } = parts.trainable;
    this.snapshot = this.every === undefined ? null : new Snapshot((name) => parameters.has(name));
  }

  private get every(): number | undefined {
    const { onBadUpdate, snapshotEvery } = this.parts.recipe.guard;
    return onBadUpdate === 'roll-back' ? snapshotEvery : undefined;
  }

  /** What is told of it before the first update. */
  statements(setup: UpdateSetup): string[] {
    const { snapshot, every } = this;
    if (snapshot === null || every === undefined) return [];
    const bytes = formatBytes(snapshot.bytes(setup));
    const each = this.parts.ranks.size > 1 ? ' on each rank' : '';
    return [
      `a snapshot to roll back to, every ${every} updates, takes ${bytes} of host memory${each}; ` +
        'where they are not free, the newest checkpoint is the snapshot',
    ];
  }

  /** Whether there is something to go back to. */
  get isPossible(): boolean {
    return this.snapshot?.isTaken === true || this.saving.saved !== null;
  }

  /** Takes a snapshot where one is due after so many updates; all ranks call it. */
  async prepare(setup: UpdateSetup, update: number): Promise<void> {
    const { snapshot, every, noRoom } = this;
    if (snapshot === null || every === undefined || noRoom || update % every !== 0) return;
    if (snapshot.update === update) return;
    await setup.store.settle();
    if (!snapshot.isTaken) {
      const { ranks } = this.parts;
      const fits = snapshot.bytes(setup) * ranks.here < process.availableMemory();
      // One rank without it could not go back with the others.
      this.noRoom = (await ranks.gather('room for snapshots', fits)).includes(false);
      if (this.noRoom) return;
    }
    snapshot.take(setup, update);
  }

  /** Weights and optimizer as they were; counts of updates, the schedule and the data go on behind the bad update. */
  async goBack(setup: UpdateSetup): Promise<void> {
    await setup.store.settle();
    if (this.snapshot?.isTaken === true) {
      this.snapshot.putBack(setup);
      return;
    }
    const { model, trainable, weights } = this.parts;
    const { peers, saved } = this.saving;
    const changed = await partChanges(model, saved!.path, trainable.parameters.keys());
    await weights.read(saved!.path, setup.store.weights(), changed);
    setup.store.weightsRead();
    await readTrainerState(saved!.path, stateParts(setup, peers), peers);
  }

  dispose(): void {
    this.snapshot?.dispose();
  }
}
