/**
 * The checkpoints of a run while it trains: each is begun from how the run stands, and written in the background from copies or at
 * once; what comes of it is told when it is there on all ranks.
 */

import type { Recipe } from '../../config/index.js';
import type { Peers, TensorPart } from '../../parallel/index.js';
import { hold, type Holding } from '../../torch/index.js';
import { Background } from '../checkpoint/background.js';
import { pruneCheckpoints, writeCheckpoint } from '../checkpoint/checkpoints.js';
import { copyParts } from '../checkpoint/copy-parts.js';
import type { TrainedWeights } from '../checkpoint/trained-weights.js';
import {
  stateParts,
  writeTrainerState,
  type TrainerCounters,
} from '../checkpoint/trainer-state.js';
import type { CheckpointEvent } from '../events.js';
import type { Ranks } from '../run/ranks.js';
import type { RunFolder } from '../run/run-folder.js';
import type { UpdateSetup } from '../step/update.js';

/** Where checkpoints go, and who is told how the run stands. */
export type RunPlace = Pick<RunFolder, 'path' | 'checkpoints' | 'setState'>;

export interface SavingParts {
  readonly recipe: Recipe;
  readonly weights: TrainedWeights;
  readonly ranks: Ranks;
}

/** What of the run a checkpoint is made of. */
export interface Standing {
  readonly setup: Pick<UpdateSetup, 'store' | 'lossScale' | 'clip'>;
  /** They may change while it is written. */
  readonly counters: TrainerCounters;
  readonly validationLoss: number | undefined;
  /** Of tasks, by name. */
  readonly scores: Readonly<Record<string, number>>;
}

export class Saving {
  /** The newest checkpoint that is there. */
  saved: { readonly update: number; readonly path: string } | null = null;
  /** Ranks as they meet for checkpoints, beside training. */
  readonly peers: Peers;
  private readonly work = new Background<CheckpointEvent>();

  constructor(private readonly parts: SavingParts) {
    this.peers = parts.ranks.beside('checkpoints');
  }

  /** How many were begun. */
  get begun(): number {
    return this.work.begun;
  }

  /** How many of these have come to an end on this rank. */
  get ended(): number {
    return this.work.ended;
  }

  /** Bytes of one, of all ranks; every rank asks. */
  async bytes(setup: Standing['setup']): Promise<number> {
    const own = this.tensorsOf(setup)
      .flat()
      .reduce((sum, { tensor, writes }) => sum + (writes ? tensor.bytes : 0), 0);
    const all = await this.peers.gather('bytes of a checkpoint', own);
    return all.reduce((sum, each) => sum + each, 0);
  }

  /** This rank's parts of the weights, and of the optimizer's state. */
  private tensorsOf(setup: Standing['setup']): readonly [TensorPart[], TensorPart[]] {
    return [this.parts.weights.partsOf(setup.store.weights()), stateParts(setup, this.peers)];
  }

  /** Begins to write one; the one before has been taken. Copied, training may go on. */
  begin(run: RunPlace, standing: Standing, { copied }: { readonly copied: boolean }): void {
    const begun = performance.now();
    const own = structuredClone(standing.counters);
    const [model, optimizer] = this.tensorsOf(standing.setup).map((parts) =>
      copied ? copyParts(parts) : hold(() => parts),
    ) as [Holding<TensorPart[]>, Holding<TensorPart[]>];
    const { validationLoss, scores } = standing;
    this.work.begin(async () => {
      try {
        const made = await this.write(run, own, { model, optimizer, validationLoss, scores });
        const seconds = (performance.now() - begun) / 1000;
        return { type: 'checkpoint', update: own.update, ...made, seconds };
      } finally {
        model.dispose();
        optimizer.dispose();
      }
    });
  }

  private async write(
    run: RunPlace,
    counters: TrainerCounters,
    {
      model,
      optimizer,
      ...measured
    }: Record<'model' | 'optimizer', Holding<TensorPart[]>> &
      Pick<Standing, 'validationLoss' | 'scores'>,
  ): Promise<Pick<CheckpointEvent, 'path' | 'bytes'>> {
    const { peers } = this;
    const { weights, ranks, recipe } = this.parts;
    const { update, plan } = counters;
    const { path, bytes } = await writeCheckpoint(run.checkpoints, {
      ...{ update, ...measured, bestBy: recipe.validation?.best, peers },
      write: async (folder) => {
        await weights.write(folder, model.value, peers);
        await writeTrainerState(folder, optimizer.value, counters, peers);
      },
    });
    if (ranks.speaks) {
      await pruneCheckpoints(run.checkpoints, { ...recipe.checkpoints, update });
      await run.setState('running', { updates: update, plannedUpdates: plan.planned });
    }
    return { path, bytes };
  }

  /** Waits for the one that is being written, if one is, and tells of it, or throws what went wrong. */
  async take(): Promise<CheckpointEvent | undefined> {
    const event = await this.work.take();
    if (event !== undefined) this.saved = event;
    return event;
  }

  /** Waits for the one that is being written, whatever comes of it. */
  settle(): Promise<void> {
    return this.work.settle();
  }
}
