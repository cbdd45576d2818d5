/** The model that a recipe starts from, with its tokenizer, chat format and picture settings: loaded from files, or new. */

import { UsageError } from '../../base/errors.js';
import { nf4Parts } from '../../formats/stored.js';
import { resolveModel, type HubEvent } from '../../base/hub/resolve.js';
import type { Recipe } from '../../config/index.js';
import { loadFormat } from '../../data/index.js';
import {
  expectUsed,
  loadChatModel,
  usePictures,
  type ChatModel,
  type LoadedChatModel,
} from '../../generate/index.js';
import {
  type Assembly,
  configKind,
  imageProcessorIn,
  Llava,
  ParameterSources,
  readDecoderConfig,
  readLlavaConfig,
  tensorsBeneath,
  type TextAssembly,
  TextModel,
  type LanguageModel,
} from '../../models/index.js';
import { kernelsFor, linearsOf, weightName } from '../../nn/index.js';
import { RandomGenerator, type Device, type DType } from '../../torch/index.js';
import { weightsIn } from '../run/run-weights.js';
import { basesOf } from './bases.js';
import { trainingMode } from './picture-mode.js';

/** The fields of a recipe's `model` that name something on this machine or on the hub. */
export const MODEL_FIELDS = ['from', 'llm', 'vision', 'projector', 'adapter', 'tokenizer'] as const;
export type ModelField = (typeof MODEL_FIELDS)[number];

/** Where each of them was found. */
export type FoundFields = Readonly<Partial<Record<ModelField, string>>>;

export interface OpenedModel extends ChatModel {
  /** Folder of the tokenizer. */
  readonly tokenizer: string;
  /** Where it comes from. */
  readonly assembly: Assembly | TextAssembly;
  readonly found: FoundFields;
  /** How texts become tokens: as the recipe says, else as what it starts from was trained. */
  readonly text: Recipe['text'];
  /** Of a model that ranks share out, whose parameters are on meta until each fills its parts; else `null`. */
  readonly sources: ParameterSources | null;
  /** Whether the models that it stands on give a parameter by themselves; what they do not give, a checkpoint has to hold. */
  isBeneath(name: string): boolean;
}

export interface OpenModelOptions {
  readonly device: Device;
  readonly dtype: DType;
  /** Leave the parameters on meta: `sources` tells where their values come from. @default false */
  readonly hollow?: boolean | undefined;
  /** Tensors that may be missing, unexpected or unfit: patterns of names. @default those of a new projector */
  readonly allow?: readonly string[] | undefined;
  readonly signal?: AbortSignal | undefined;
  /** Is told how far downloads from the hub are. */
  readonly onDownload?: ((event: HubEvent) => void) | undefined;
  /** Where a run that is resumed has found again what its recipe names. @default where the names lead */
  readonly found?: FoundFields | undefined;
  /** Take what a checkpoint stands on also where it has changed. @default false */
  readonly changedBase?: boolean | undefined;
}

/**
 * @throws those of `loadChatModel`; ConfigError `E_CONFIG` for `model.config`; UsageError `E_PART_UNUSED`
 */
export async function openModel(recipe: Recipe, options: OpenModelOptions): Promise<OpenedModel> {
  return recipe.model.config === undefined
    ? loadModel(recipe, options)
    : newModel(recipe, recipe.model.config, options);
}

async function newModel(
  { model, text, image, seed }: Recipe,
  json: Record<string, unknown>,
  { device, dtype, hollow = false, signal, onDownload, found = {} }: OpenModelOptions,
): Promise<OpenedModel> {
  const tokenizer = await resolveModel(found.tokenizer ?? model.tokenizer!, {
    signal,
    onDownload,
  });
  const source = { file: 'model.config', json };
  const hasTower = configKind(source) !== 'decoder';
  const format = await loadFormat(tokenizer, text.template, hasTower);
  const build = { dtype, kernels: kernelsFor({ device, dtype }) };
  const made: LanguageModel = hasTower
    ? new Llava(readLlavaConfig(source), build)
    : new TextModel(readDecoderConfig(source), build);
  try {
    expectUsed(made instanceof Llava ? made.config : undefined, {
      featureLayer: model.featureLayer,
      featureSelect: model.featureSelect,
      projectorDepth: model.projectorDepth,
    });
    const std = made.decoder.config.initializerRange;
    const sources = hollow ? new ParameterSources(source.file) : null;
    if (sources === null) {
      using generator = RandomGenerator.create(seed, device);
      made.initialize(device, { generator, std });
    } else {
      sources.drawRest(made, { seed, std });
      made.placeBuffers(device);
    }
    const nothing = {
      tensors: new Map(),
      ...{ adapters: [], places: [], sources: [], configs: [source], provenance: undefined },
    };
    return {
      model: made,
      format,
      pictures: await usePictures(made, tokenizer, { mode: image.mode ?? trainingMode }),
      stopTokens: endsOf(format),
      tokenizer,
      assembly: hasTower
        ? { kind: 'llava', config: readLlavaConfig(source), ...nothing }
        : { kind: 'text', config: readDecoderConfig(source), ...nothing },
      found: { tokenizer },
      ...{ text, sources },
      isBeneath: () => false,
    };
  } catch (error) {
    made.dispose();
    throw error;
  }
}

async function loadModel(
  { model, text, image, seed, train }: Recipe,
  options: OpenModelOptions,
): Promise<OpenedModel> {
  const { device, dtype, hollow = false, signal, onDownload } = options;
  const { changedBase, found: known = {}, allow = [] } = options;
  const resolve = (name: string): Promise<string> => resolveModel(name, { signal, onDownload });
  const found: Partial<Record<ModelField, string>> = {};
  for (const field of MODEL_FIELDS) {
    const name = known[field] ?? (await weightsIn(model[field], { thorough: true, signal }));
    if (name !== undefined) found[field] = await resolve(name);
  }
  const { from, llm, vision, projector, adapter } = found;
  // A template that is not named is that of the tokenizer, or of the checkpoint that brings it.
  const inherits = text.template === 'auto' && model.tokenizer === undefined;
  const chat = await loadChatModel((from ?? llm)!, {
    device,
    dtype,
    adapterDtype: dtype,
    tokenizer: found.tokenizer,
    template: inherits ? undefined : text.template,
    imageMode: image.mode ?? trainingMode,
    llm: from === undefined ? undefined : llm,
    // A whole model, or a run, may be named for its decoder.
    decoderOnly: from === undefined && vision !== undefined,
    vision,
    projector,
    adapters: adapter === undefined ? [] : [adapter],
    featureLayer: model.featureLayer,
    select: model.featureSelect,
    projectorDepth: model.projectorDepth,
    // Parts that are put together have no projector yet.
    allow: [
      ...(vision !== undefined && projector === undefined ? ['model.multi_modal_projector.*'] : []),
      ...allow,
    ],
    bases: basesOf(train),
    ...{ seed, hollow, changedBase, signal, resolve },
    nameOther: (role) =>
      role === 'base'
        ? 'another in `model.from`, with this one as `model.adapter`'
        : `another (--set model.${role}=...)`,
    onNotice: (message) => onDownload?.({ type: 'notice', message }),
  });
  const { assembly, stored, sources } = chat.loaded;
  try {
    await refuseUnused(chat, from);
    const pictures =
      vision === undefined
        ? chat.pictures
        : await usePictures(chat.model, vision, { mode: image.mode ?? trainingMode });
    const folded = foldAdapters(chat.model, train, sources);
    const beneath = tensorsBeneath(assembly.places);
    return {
      ...chat,
      pictures,
      system: inherits ? chat.system : undefined,
      ...{ assembly, found, sources },
      text: inherits ? inherited(text, assembly) : text,
      isBeneath: (parameter) => {
        const name = weightName(parameter);
        // What is quantised when it is read comes from there.
        const tensor = stored.get(name);
        if (tensor === undefined || folded.has(name)) return false;
        return beneath.has(tensor) || (tensor.form !== undefined && nf4Parts(tensor) === undefined);
      },
    };
  } catch (error) {
    chat.model.dispose();
    throw error;
  }
}

/** The format by name and the system text of a checkpoint that a run starts from; a Jinja template lies with its tokenizer, both within. */
function inherited(
  text: Recipe['text'],
  { provenance }: Pick<Assembly, 'provenance'>,
): Recipe['text'] {
  const { template, system } = provenance?.text ?? {};
  if (template?.source !== null) return text;
  return { ...text, template: template.name, system: text.system ?? system ?? undefined };
}

/**
 * A tower or a decoder that is named beside a whole model fills in what that lacks, and would otherwise be passed over in silence.
 *
 * @throws UsageError `E_PART_UNUSED`
 */
async function refuseUnused(
  { tokenizer, loaded: { assembly, stored } }: LoadedChatModel,
  from: string | undefined,
): Promise<void> {
  const whole = assembly.places.find(({ role }) => role === 'model');
  if (from === undefined || !whole?.configs.some((each) => configKind(each) === 'llava')) return;
  const used = new Set(stored.values());
  for (const { role, name, path, sources } of assembly.places) {
    if (role !== 'llm' && role !== 'vision') continue;
    if (sources.some(({ tensors }) => [...tensors.values()].some((each) => used.has(each))))
      continue;
    const gives =
      role === 'llm' ? tokenizer === path : (await imageProcessorIn(whole.path)) === undefined;
    if (gives) continue;
    const what = { llm: 'language model', vision: 'vision tower' }[role];
    throw new UsageError(`model.${role}: ${name} would not be used: ${from} has a ${what}.`, {
      code: 'E_PART_UNUSED',
      hint: `Leave it out; or put the model together from \`llm\`, \`vision\` and \`projector\`, without \`from\`.`,
    });
  }
}

function endsOf({ endOfTurn, tokenizer }: ChatModel['format']): number[] {
  return [...new Set([endOfTurn, tokenizer.eosId].filter((id) => id !== undefined))];
}

/**
 * Adapters that came with the model become part of the weights where their part trains fully. Elsewhere they stay as they are.
 *
 * @returns names of the weights
 */
function foldAdapters(
  model: LanguageModel,
  train: Recipe['train'],
  sources: ParameterSources | null,
): ReadonlySet<string> {
  const full = new Set<string>();
  for (const segment of [...model.segments, model.head]) {
    if (train[segment.part] !== 'full') continue;
    for (const name of segment.parameters().keys()) full.add(name);
  }
  const folded = new Set<string>();
  for (const [name, linear] of linearsOf(model)) {
    const weight = `${name}.weight`;
    if (linear.adapter === undefined || !full.has(weight)) continue;
    if (sources === null) linear.mergeAdapter();
    else sources.fold(name, linear);
    folded.add(weight);
  }
  return folded;
}
