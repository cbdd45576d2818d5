/**
 * What a run for records of given shapes does between two updates: validation, probe questions, a checkpoint, snapshots to roll back to. All
 * of it by the functions of a run, but for files, which are not written.
 */

import type { Recipe } from '../config/index.js';
import { generate } from '../generate/index.js';
import { tensorPieces, type Batch, type LanguageModel } from '../models/index.js';
import { ALONE, type TensorPart } from '../parallel/index.js';
import { noGrad, openRange, scope, type ChosenDevice, type Holding } from '../torch/index.js';
import type { BetweenUpdates, ProbeShape } from '../train/index.js';
import { contentsOf } from '../train/checkpoint/contents.js';
import { copyParts } from '../train/checkpoint/copy-parts.js';
import { TrainedWeights } from '../train/checkpoint/trained-weights.js';
import { stateParts } from '../train/checkpoint/trainer-state.js';
import { Snapshot } from '../train/loop/snapshots.js';
import { ownLosses } from '../train/loop/validation.js';
import type { Trainable } from '../train/prepare/trainable.js';
import type { UpdateSetup } from '../train/step/update.js';
import { batchesOf, sampleOf } from './shape-batches.js';
import type { BETWEEN } from './timeline.js';

interface PausesParts {
  readonly recipe: Recipe;
  readonly model: LanguageModel;
  readonly device: ChosenDevice;
  readonly setup: UpdateSetup;
  readonly trainable: Trainable;
}

export class Pauses {
  private readonly taken: Snapshot | null;
  private copies: Holding<TensorPart[]>[] = [];

  constructor(
    private readonly parts: PausesParts,
    private readonly between: BetweenUpdates,
  ) {
    const { recipe, trainable } = parts;
    const { onBadUpdate, snapshotEvery } = recipe.guard;
    this.taken =
      onBadUpdate === 'roll-back' && snapshotEvery !== undefined
        ? new Snapshot((name) => trainable.parameters.has(name))
        : null;
  }

  /** Before an update; the second one has the optimizer's state. */
  async snapshot(update: number): Promise<void> {
    if (this.taken === null) return;
    using _ = openRange('save');
    await this.parts.setup.store.settle();
    this.taken.take(this.parts.setup, update);
  }

  /** One after the other; gives what has been done. */
  async *all(): AsyncGenerator<(typeof BETWEEN)[number], void> {
    const { validation = [], probes = [] } = this.between;
    if (validation.length > 0) {
      await this.validate(validation);
      yield 'validation';
    }
    if (probes.length > 0) {
      await this.ask(probes);
      yield 'probes';
    }
    await this.save();
    yield 'save';
  }

  private async validate(records: NonNullable<BetweenUpdates['validation']>): Promise<void> {
    const { model, recipe, setup } = this.parts;
    using _ = openRange('validation');
    const { device, store: residency } = setup;
    const batches = batchesOf(model, [records], device);
    const once = async function* (): AsyncGenerator<Holding<Batch[]>> {
      yield await Promise.resolve(batches);
    };
    const chunk = recipe.memory.lossChunk;
    (await ownLosses(model, once(), { device, chunk, residency }))[Symbol.dispose]();
  }

  /** The longest of them, which has all that the others have. */
  private async ask(probes: readonly ProbeShape[]): Promise<void> {
    const { model, setup } = this.parts;
    using _ = openRange('probes');
    for (const { newTokens, ...shape } of heaviest(probes)) {
      const { inputIds, images } = sampleOf({ ...shape, supervised: 0 }, model);
      const most = decisiveTokens(shape.tokens, newTokens);
      const options = { maxNewTokens: most, residency: setup.store };
      const tokens = generate(model, [{ inputIds, images }], options);
      while ((await tokens.next()).done !== true);
    }
  }

  /** As far as tensors are concerned: copies of this rank's parts, or the pieces in which they are written. */
  private async save(): Promise<void> {
    const { recipe, model, setup, trainable } = this.parts;
    const { isBeneath, copiesLast = true } = this.between;
    using _ = openRange('save');
    await setup.store.settle();
    const contents = contentsOf({ model, trainable, isBeneath });
    const weights = new TrainedWeights({ model, trainable, contents });
    const parts = [weights.partsOf(setup.store.weights()), stateParts(setup, ALONE)];
    if (recipe.checkpoints.background) {
      this.copies = parts.map(copyParts);
      if (!copiesLast) this.free();
    } else for (const part of parts.flat()) touch(part);
  }

  private free(): void {
    for (const each of this.copies.splice(0)) each.dispose();
  }

  dispose(): void {
    this.free();
    this.taken?.dispose();
  }
}

/** Places by which keys and values grow. */
const BLOCK = 256;

/**
 * How many tokens of an answer take as much memory as all of them: those until keys and values have grown for the last time, and two more.
 * One after the other they differ in nothing else.
 */
export function decisiveTokens(prompt: number, newTokens: number): number {
  // The last token is given back, and not read again.
  const places = prompt + newTokens - 1;
  const begun = Math.ceil((prompt + 1) / BLOCK) * BLOCK;
  const grown = places <= begun ? prompt : Math.floor((places - 1) / BLOCK) * BLOCK;
  return Math.min(newTokens, grown - prompt + 3);
}

/** The longest prompt, and the longest with its answer. */
function heaviest(probes: readonly ProbeShape[]): Set<ProbeShape> {
  const by = (of: (probe: ProbeShape) => number): ProbeShape =>
    probes.reduce((most, each) => (of(each) > of(most) ? each : most));
  return new Set([
    by(({ tokens }) => tokens),
    by(({ images }) => images),
    by(({ tokens, newTokens }) => tokens + newTokens),
  ]);
}

/** The first piece of a part as it is written, than which none is larger. */
function touch({ tensor, dtype = tensor.dtype, writes }: TensorPart): void {
  if (!writes) return;
  for (const take of tensorPieces(tensor, dtype)) {
    noGrad(() => scope(() => void take()));
    return;
  }
}
