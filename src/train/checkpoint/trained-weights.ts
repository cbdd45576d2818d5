/**
 * What a run has learnt, in the layouts of the field: a PEFT adapter (`adapter_model.safetensors`, with the modules that train
 * fully beside it) where a part trains by LoRA, else the parts that train as `model.safetensors` in Hugging Face's names. A whole
 * model comes with its configuration and tokenizer, so that its folder is a model. With either lies how pictures were prepared, which
 * the files of the model that was trained may say otherwise.
 */

import { copyFile, readFile, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { DataError, UsageError } from '../../base/errors.js';
import { jsonText } from '../../base/json-text.js';
import { wrapAdapterName } from '../../formats/layouts/adapter-names.js';
import { nameTensors } from '../../formats/layouts/name-tensors.js';
import { partOf, toStoredName } from '../../formats/layouts/rename.js';
import { LAYOUTS, LLAVA_PREFIXES, TEXT_PREFIXES } from '../../formats/layouts/tables.js';
import { writeShards } from '../../formats/safetensors/shards.js';
import { openWeights } from '../../formats/weights.js';
import type { PictureSettings } from '../../generate/index.js';
import { adapterJson } from '../../models/export/adapter-json.js';
import { type Companion, configText } from '../../models/export/small-files.js';
import { tensorSource, type SegmentedModel } from '../../models/index.js';
import { Linear, type LoraAdapter } from '../../nn/index.js';
import type { Tensor } from '../../torch/index.js';
import { restoreTensors } from './restore-tensors.js';
import type { Trainable } from '../prepare/trainable.js';

export interface LearntOptions {
  readonly model: SegmentedModel;
  readonly trainable: Trainable;
  /** What the adapter stands on, for its configuration. */
  readonly base?: string | undefined;
  /** Written where the whole model is. */
  readonly companions?: readonly Companion[] | undefined;
  /** How pictures were prepared; `null` for a model without a vision tower. */
  readonly pictures?: PictureSettings | null | undefined;
}

const IMAGE_PROCESSOR = 'preprocessor_config.json';

/** Writes and reads back the weights that train. */
export class TrainedWeights {
  private readonly options: LearntOptions;
  private readonly isText: boolean;
  private readonly adapters: readonly (readonly [string, Linear])[];
  private readonly tensors: ReadonlyMap<string, Tensor>;
  /** Trained tensors under the name that is tied to theirs, in an adapter: PEFT would leave that side as it was. */
  private readonly twins: ReadonlyMap<string, Tensor>;
  /** Modules that train fully. */
  private readonly modules: readonly string[];

  /** @throws UsageError `E_ADAPTER_FORM` for parts with and without DoRA, which PEFT cannot keep in one adapter. */
  constructor(options: LearntOptions) {
    const { model, trainable } = options;
    this.options = options;
    this.isText = model.input.image === null;
    this.adapters = [...model.namedModules()].filter(
      (entry): entry is [string, Linear] =>
        entry[1] instanceof Linear &&
        entry[1].adapter !== undefined &&
        trainable.parameters.has(`${entry[0]}.lora_A.weight`),
    );
    const forms = new Set(this.adapters.map(([, linear]) => linear.adapter!.dora));
    if (forms.size > 1) {
      throw new UsageError('one part trains by DoRA and another by plain LoRA', {
        code: 'E_ADAPTER_FORM',
        hint: 'Give both the same form: one PEFT adapter cannot hold two.',
      });
    }
    this.modules = fullModules(model, trainable);
    this.tensors = new Map(
      [...model.namedParameters()].filter(
        ([name]) =>
          trainable.parameters.has(name) ||
          (!name.includes('.lora_') && this.modules.some((path) => name.startsWith(`${path}.`))),
      ),
    );
    this.twins = new Map(
      [...model.tied].flatMap(([name, target]) => {
        const tensor = this.adapters.length > 0 ? this.tensors.get(target) : undefined;
        return tensor === undefined ? [] : [[name, tensor]];
      }),
    );
  }

  get bytes(): number {
    return [...this.tensors.values(), ...this.twins.values()].reduce(
      (sum, tensor) => sum + tensor.bytes,
      0,
    );
  }

  /** Writes them into an empty folder. */
  async write(folder: string, signal?: AbortSignal): Promise<void> {
    const isAdapter = this.adapters.length > 0;
    const sources = [...this.tensors, ...this.twins].map(([name, tensor]) =>
      tensorSource(isAdapter ? wrapAdapterName(name) : this.storedName(name), tensor),
    );
    await writeShards(folder, sources, {
      stem: isAdapter ? 'adapter_model' : 'model',
      ...(isAdapter && { shardBytes: Infinity }), // PEFT knows one file
      signal,
    });
    if (isAdapter) {
      await writeFile(join(folder, 'adapter_config.json'), configText(this.adapterConfig()));
    } else if (this.tensors.size === this.options.model.namedParameters().size) {
      for (const each of this.options.companions ?? []) await writeCompanion(folder, each);
    }
    const { pictures } = this.options;
    if (pictures) await writeFile(join(folder, IMAGE_PROCESSOR), jsonText(pictures.processor.json));
  }

  /**
   * Reads the parameters that train back in place.
   *
   * @throws DataError `E_CHECKPOINT_TENSORS` where one is missing or of another shape
   */
  async read(folder: string): Promise<void> {
    const { tensors } = await openWeights(folder);
    const own = this.isText ? TEXT_PREFIXES : LLAVA_PREFIXES;
    const named = nameTensors(tensors, { where: folder, own }).tensors;
    await restoreTensors(folder, named, this.options.trainable.parameters);
  }

  private storedName(name: string): string {
    if (this.isText) return name;
    const stored = toStoredName(LAYOUTS.hf, name, LLAVA_PREFIXES);
    if (stored !== undefined) return stored;
    throw new DataError(`The parameter ${name} has no name in Hugging Face's layout.`, {
      code: 'E_LAYOUT',
      hint: 'Report this.',
    });
  }

  private adapterConfig(): Record<string, unknown> {
    const { base } = this.options;
    const facts = this.adapters.map(([path, linear]) => ({ path, ...formOf(linear.adapter!) }));
    // PEFT says it once for all layers: where some differ, their alphas make up for it.
    const rsLora = facts.every((fact) => fact.rsLora);
    const alphaOf = ({ rank, scaling }: { rank: number; scaling: number }): number =>
      Number((scaling * (rsLora ? Math.sqrt(rank) : rank)).toPrecision(12));
    return adapterJson({
      ...{ base: base ?? null, rsLora, tied: this.twins.size > 0 },
      saved: [...this.modules, ...[...this.twins.keys()].map(moduleOf)],
      layers: facts.map((fact) => ({ ...fact, alpha: alphaOf(fact) })),
      dropout: facts[0]!.dropout,
      dora: facts[0]!.dora,
    });
  }
}

function formOf({ rank, scaling, dropout, dora, rsLora }: LoraAdapter) {
  return { rank, scaling, dropout, dora, rsLora };
}

async function writeCompanion(folder: string, { name, content }: Companion): Promise<void> {
  const path = join(folder, basename(name));
  if (typeof content === 'string') await writeFile(path, content);
  else if (basename(name) === 'processor_config.json') {
    const processor = JSON.parse(await readFile(content.path, 'utf8')) as object;
    // It would count before the file of its own.
    await writeFile(path, jsonText({ ...processor, image_processor: undefined }));
  } else await copyFile(content.path, path);
}

/** The modules whose parameters train without an adapter: whole parts, and those that LoRA saves beside. */
function fullModules(model: SegmentedModel, { parameters, table }: Trainable): string[] {
  const own = model.input.image === null ? TEXT_PREFIXES : LLAVA_PREFIXES;
  const whole = new Set(table.filter(({ kind }) => kind === 'full').map(({ part }) => part));
  const modules = new Set<string>();
  for (const name of parameters.keys()) {
    if (name.includes('.lora_')) continue;
    const part = partOf(name, own)!;
    const isWhole = whole.has(part === 'head' ? 'decoder' : part);
    modules.add(isWhole ? own[part]!.slice(0, -1) : moduleOf(name));
  }
  return [...modules];
}

/** The module of a parameter. */
function moduleOf(name: string): string {
  return name.slice(0, name.lastIndexOf('.'));
}
