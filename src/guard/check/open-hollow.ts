/** What a recipe's model says about records, and where its weights lie, from configurations and headers: no weight is read. */
import { PatinaError } from '../../base/errors.js';
import { TensorsError } from '../../formats/layouts/check-tensors.js';
import { listNames } from '../../formats/layouts/list-names.js';
import type { StoredTensor } from '../../formats/stored.js';
import type { Recipe } from '../../config/index.js';
import type { LanguageModel } from '../../models/index.js';
import type { ChatFormat } from '../../text/index.js';
import {
  openModel,
  pictureWarnings,
  type OpenedModel,
  type OpenModelOptions,
} from '../../train/index.js';
import { causeOfError } from '../diagnose/errors.js';
import { finding, type Finding } from './finding.js';
import type { ModelSpec } from './record-checker.js';

/** A tensor that the model is made of. */
export interface ModelTensor {
  /** In the model; of an adapter as its file has it. */
  readonly name: string;
  readonly stored: StoredTensor;
  readonly isAdapter: boolean;
}

/** Whether it belongs to the vision tower or the projector. */
export function isVisual({ name }: Pick<ModelTensor, 'name'>): boolean {
  return /vision_tower|projector/.test(name);
}

export interface HollowModel {
  /** What records are written for. */
  readonly spec: ModelSpec;
  readonly format: ChatFormat;
  /** Ids that end an answer. */
  readonly stopTokens: readonly number[];
  /** Empty for a new model. */
  readonly tensors: readonly ModelTensor[];
  readonly traits: ModelTraits;
  readonly findings: readonly Finding[];
}

/** What rules of thumb go by. */
export interface ModelTraits {
  /** Of the decoder. */
  readonly hiddenSize: number;
  readonly vocabSize: number;
  readonly parameters: number;
  /** Whether it has random weights. */
  readonly isNew: boolean;
}

type HollowOptions = Pick<OpenModelOptions, 'signal' | 'onDownload' | 'changedBase'>;

/**
 * Tensors that are missing or do not fit are a finding.
 *
 * @throws those of `openModel`
 */
export async function openHollow(recipe: Recipe, options: HollowOptions): Promise<HollowModel> {
  const hollow = { ...options, device: 'cpu', dtype: 'float32', hollow: true } as const;
  try {
    return await look(recipe, hollow, []);
  } catch (error) {
    if (!(error instanceof TensorsError)) throw error;
    return look(recipe, { ...hollow, allow: ['*'] }, [lacking(error)]);
  }
}

/** What it says that a model cannot be opened, where its files are at fault. @throws `error`, where they are not */
export function refusedModel(error: unknown): Finding {
  if (!(error instanceof PatinaError)) throw error;
  const { code, message, hint } = error;
  const cause = code.startsWith('E_TOKENIZER_') ? 'unknown' : causeOfError(code);
  if (cause === undefined) throw error;
  return finding(cause, { code, message: message.replace(/\.$/, ''), fix: hint });
}

async function look(
  recipe: Recipe,
  options: OpenModelOptions,
  findings: readonly Finding[],
): Promise<HollowModel> {
  const opened = await openModel(recipe, options);
  const { model, format, stopTokens, pictures } = opened;
  const odd = pictureWarnings(model, pictures).map((warning) =>
    finding('unknown', { ...warning, severity: 'warning' }),
  );
  try {
    return { ...factsOf(recipe, opened), format, stopTokens, findings: [...findings, ...odd] };
  } finally {
    model.dispose();
  }
}

/** What checks need to know of a model that is open. */
export function factsOf(
  recipe: Recipe,
  { model, tokenizer, text, assembly }: OpenedModel,
): Pick<HollowModel, 'spec' | 'tensors' | 'traits'> {
  const { batchTokens, batchImages } = recipe;
  return {
    spec: {
      ...{ tokenizer, text },
      input: model.input,
      context: model.decoder.config.maxPositionEmbeddings,
      budget: batchTokens === undefined ? undefined : { tokens: batchTokens, images: batchImages },
    },
    tensors: [
      ...[...assembly.tensors].map(([name, stored]) => ({ name, stored, isAdapter: false })),
      ...assembly.adapters.flatMap(({ tensors }) =>
        [...tensors].map(([name, stored]) => ({ name, stored, isAdapter: true })),
      ),
    ],
    traits: traitsOf(model, recipe),
  };
}

function traitsOf(model: LanguageModel, recipe: Recipe): ModelTraits {
  const { hiddenSize, vocabSize } = model.decoder.config;
  const parameters = [...model.namedParameters().values()].reduce((n, { numel }) => n + numel, 0);
  return { hiddenSize, vocabSize, parameters, isNew: recipe.model.config !== undefined };
}

function lacking({ message, faults, hint }: TensorsError): Finding {
  const missing = faults.filter(({ kind }) => kind === 'missing');
  const names = missing.length > 0 ? missing : faults;
  return finding('weights-not-loaded', {
    code: 'E_TENSORS',
    message:
      missing.length > 0
        ? `${missing.length} tensors of the model are in no file: ${listNames(missing.map(({ name }) => name))}`
        : message,
    fix: hint,
    count: names.length,
  });
}
