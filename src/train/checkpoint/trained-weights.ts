/**
 * The weights of a checkpoint, in the layouts of the field: a PEFT adapter (`adapter_model.safetensors`, with modules that are held as a
 * whole inside), or `model.safetensors` in Hugging Face's names, of the whole model or of parts; and the files that belong beside them.
 */

import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { writing } from '../../base/system-error.js';
import { adapterJson } from '../../models/export/adapter-json.js';
import { type Companion, configText } from '../../models/export/small-files.js';
import { writeCompanions } from '../../models/export/write-export.js';
import type { SegmentedModel } from '../../models/index.js';
import type { LoraAdapter } from '../../nn/index.js';
import { onFirst, type Peers, type TensorPart } from '../../parallel/index.js';
import { type CheckpointContents, contentsOf } from './contents.js';
import { checkpointTensors, type PartChanges, trainsWith } from './frozen-parts.js';
import { isVocabulary, restoreTensors, withoutRows } from './restore-tensors.js';
import type { Trainable } from '../prepare/trainable.js';
import { writeParts } from './write-parts.js';

export interface TrainedWeightsOptions {
  readonly model: SegmentedModel;
  readonly trainable: Trainable;
  /** @default what trains, over what is beneath */
  readonly contents?: CheckpointContents | undefined;
  /** What the adapter stands on, for its configuration. @default none */
  readonly base?: string | null | undefined;
  /** Written beside the weights. @default none */
  readonly files?: readonly Companion[] | undefined;
  /** Rows of the vocabulary that a whole model is written with beside its own. @default 0 */
  readonly newRows?: number | undefined;
  /** What the checkpoint stands on, for the folder of its run. @default not written */
  readonly provenance?: ((run: string) => Companion) | undefined;
}

const NO_CHANGES: Pick<PartChanges, 'thawed'> = { thawed: new Set() };

/** Writes and reads back the weights of a run. */
export class TrainedWeights {
  readonly contents: CheckpointContents;
  private readonly options: TrainedWeightsOptions;

  /** @throws those of `contentsOf` */
  constructor(options: TrainedWeightsOptions) {
    this.options = options;
    this.contents = options.contents ?? contentsOf({ ...options, isBeneath: () => true });
  }

  /** Which of a rank's parts of the model's parameters they are, under their names in the files. */
  partsOf(parameters: readonly TensorPart[]): TensorPart[] {
    const byName = new Map(parameters.map((part) => [part.name, part]));
    return this.contents.tensors.flatMap(({ name, parameter }) => {
      const part = byName.get(parameter);
      return part === undefined ? [] : [{ ...part, name }];
    });
  }

  /** Writes `partsOf` every rank into an empty folder, two levels below that of the run; every rank calls it. */
  async write(folder: string, parts: readonly TensorPart[], peers: Peers): Promise<void> {
    const isAdapter = this.contents.kind === 'adapter';
    const stem = isAdapter ? 'adapter_model' : 'model';
    const newRows = (name: string): number => this.newRows(name);
    const shardBytes = isAdapter ? Infinity : undefined; // PEFT knows one file
    await writeParts(folder, { stem, parts, shardBytes, newRows }, peers);
    await onFirst(peers, 'files of the model', () =>
      writing(folder, 'write the checkpoint', () => this.describe(folder)),
    );
  }

  private async describe(folder: string): Promise<void> {
    const { files = [], provenance } = this.options;
    if (this.contents.kind === 'adapter') {
      await writeFile(join(folder, 'adapter_config.json'), configText(this.adapterConfig()));
    }
    const stands = provenance === undefined ? [] : [provenance(join(folder, '..', '..'))];
    await writeCompanions(folder, [...files, ...stands]);
  }

  /**
   * Reads what trains back into this rank's parts of the model's parameters; the rest has been read by `takeFrozen`.
   *
   * @throws DataError `E_CHECKPOINT_TENSORS` where a tensor is missing, of another shape, or not read
   */
  async read(
    folder: string,
    parameters: readonly TensorPart[],
    { thawed }: Pick<PartChanges, 'thawed'> = NO_CHANGES,
  ): Promise<void> {
    const { model, trainable } = this.options;
    const trains = new Set([...trainable.parameters.keys()].map((name) => trainsWith(model, name)));
    const ofTrained = (name: string): boolean => trains.has(trainsWith(model, name));
    const stored = await checkpointTensors(model, folder, (each) =>
      withoutRows(each, this.newRows(each.name)),
    );
    const held = new Set(this.contents.tensors.map(({ parameter }) => parameter));
    const isRead = (name: string): boolean =>
      held.has(name) &&
      ofTrained(name) &&
      (stored.has(name) || !thawed.has(trainsWith(model, name)!));
    const names = [...model.namedParameters().keys()].filter(isRead);
    const read = new Map([...stored].filter(([name]) => ofTrained(name)));
    const parts = parameters.filter(({ name }) => isRead(name));
    await restoreTensors(folder, read, { names, parts });
  }

  private newRows(name: string): number {
    return isVocabulary(name) ? (this.options.newRows ?? 0) : 0;
  }

  private adapterConfig(): Record<string, unknown> {
    const { base = null, trainable } = this.options;
    const { adapters, saved, tied } = this.contents;
    const facts = adapters.map(([path, linear]) => ({ path, ...formOf(linear.adapter!) }));
    // PEFT says it once for all layers: where some differ, their alphas make up for it.
    const rsLora = facts.every((fact) => fact.rsLora);
    const alphaOf = ({ rank, scaling }: { rank: number; scaling: number }): number =>
      Number((scaling * (rsLora ? Math.sqrt(rank) : rank)).toPrecision(12));
    const trained = facts.find(({ path }) => trainable.parameters.has(`${path}.lora_A.weight`));
    return adapterJson({
      ...{ base, rsLora, saved, tied },
      layers: facts.map((fact) => ({ ...fact, alpha: alphaOf(fact) })),
      dropout: trained?.dropout ?? 0,
      dora: facts[0]!.dora,
    });
  }
}

function formOf({ rank, scaling, dropout, dora, rsLora }: LoraAdapter) {
  return { rank, scaling, dropout, dora, rsLora };
}
