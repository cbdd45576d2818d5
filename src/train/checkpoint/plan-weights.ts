/**
 * What the checkpoints of a run will be, decided before its first update: which weights they hold, which files make them a model or say
 * how to speak to them, and what they stand on. What cannot be written is refused here.
 */

import { isAbsolute, relative } from 'node:path';
import { DataError } from '../../base/errors.js';
import { packageVersion } from '../../base/native-path.js';
import type { Recipe } from '../../config/index.js';
import { chooseTemplate, type Dataset, type TemplateChoice } from '../../data/index.js';
import {
  type FileOptions,
  hfFiles,
  type ModelFiles,
  partFiles,
  textFiles,
} from '../../models/export/model-files.js';
import {
  type BaseForm,
  type BasePart,
  type Beneath,
  identify,
  type Identity,
  isOnTop,
  type ModelPlace,
  PROVENANCE,
  type Provenance,
  provenanceText,
} from '../../models/index.js';
import { templateSource } from '../../text/index.js';
import type { DType } from '../../torch/index.js';
import { basesOf } from '../prepare/bases.js';
import { MODEL_FIELDS, type OpenedModel } from '../prepare/open-model.js';
import type { Trainable } from '../prepare/trainable.js';
import { type CheckpointContents, contentsOf } from './contents.js';
import { TrainedWeights } from './trained-weights.js';

export interface PlanParts {
  readonly recipe: Recipe;
  readonly opened: OpenedModel;
  readonly trainable: Trainable;
  readonly data: Pick<Dataset, 'sources' | 'fileDigests'>;
  /** Type of the weights. */
  readonly dtype: DType;
  readonly signal?: AbortSignal | undefined;
}

export interface WeightsPlan {
  readonly weights: TrainedWeights;
  /** What the checkpoints stand on, as it is written into the folder of their run. */
  provenance(run: string): Provenance;
}

/**
 * @throws UsageError `E_ADAPTER_FORM`; DataError `E_LAYOUT_LIMIT`, and what the readers of the files throw
 */
export async function planWeights(parts: PlanParts): Promise<WeightsPlan> {
  const { opened, trainable, dtype } = parts;
  const { model, assembly, pictures, format, text } = opened;
  const template = await chooseTemplate(format, text.template);
  const fileOptions: FileOptions = {
    dtype,
    chatTemplate: template && writtenTemplate(opened, template),
    tokenizer: opened.tokenizer,
    image: pictures?.processor,
    endOfTurn: () => Promise.resolve(format.endOfTurn),
  };
  const contents = contentsOf({ model, trainable, isBeneath: opened.isBeneath });
  const whole = contents.kind === 'model' ? await wholeFiles(opened, fileOptions) : undefined;
  // What no folder of a model can hold stands on the places that describe it.
  const ground = whole === undefined ? assembly.places.filter((place) => !isOnTop(place)) : [];
  const held: CheckpointContents =
    contents.kind === 'model' && whole === undefined ? { ...contents, kind: 'parts' } : contents;
  const isAlone = ground.length === 0;
  const files = whole?.files ?? (await partFiles(assembly, { ...fileOptions, isAlone }));
  const record = await recordOf(parts, ground, template);
  const provenance = (run: string): Provenance => withNear(record, run);
  const weights = new TrainedWeights({
    ...{ model, trainable, files, contents: held },
    base: baseOf(record.beneath),
    newRows: whole?.newRows,
    provenance: (run) => ({ name: PROVENANCE, content: provenanceText(provenance(run)) }),
  });
  return { weights, provenance };
}

/** The template for other tools, with the system text within if it has a place for one. */
function writtenTemplate(
  { format, text }: OpenedModel,
  { name, source }: TemplateChoice,
): string | undefined {
  const of = { name, tokenizer: format.tokenizer };
  return templateSource(of, source, { system: text.system }) ?? templateSource(of, source);
}

/** The files of a whole model; undefined where Hugging Face's layout cannot say what it is. */
async function wholeFiles(
  { assembly }: OpenedModel,
  options: FileOptions,
): Promise<ModelFiles | undefined> {
  try {
    return assembly.kind === 'text'
      ? await textFiles(assembly, options)
      : await hfFiles(assembly, options);
  } catch (error) {
    if (error instanceof DataError && UNSAID.has(error.code)) return undefined;
    throw error;
  }
}

const UNSAID = new Set(['E_LAYOUT_LIMIT', 'E_IMAGE_TOKEN', 'E_TOKENIZER_MISSING']);

/** What PEFT takes for the model beneath: one that decides the names of modules. */
function baseOf(beneath: readonly Beneath[]): string | null {
  const [base] = ['base', 'llm'].flatMap((role) => beneath.filter((each) => each.role === role));
  return base?.name ?? null;
}

/** What the checkpoints stand on, before it is known where the run lies: its `near` are empty. */
async function recordOf(
  { recipe, opened, data, signal }: PlanParts,
  ground: readonly ModelPlace[],
  template: TemplateChoice | undefined,
): Promise<Provenance> {
  const known = new Map<string, Identity>();
  const identityOf = async (path: string): Promise<Identity> => {
    const found = known.get(path) ?? (await identify(path, { signal }));
    known.set(path, found);
    return found;
  };
  const { assembly, found, pictures, text } = opened;
  const nameOf = ({ name, path }: Pick<ModelPlace, 'name' | 'path'>): string => {
    const field = MODEL_FIELDS.find((each) => found[each] === path);
    return (field && recipe.model[field]) ?? name;
  };
  const bases = heldBases(recipe, opened);
  const beneath: Beneath[] = [];
  for (const { role, path, name } of ground) {
    beneath.push({
      role: roleOf(role, recipe),
      ...{ name: absoluteName(nameOf({ name, path }), path), path, near: '' },
      ...(await identityOf(path)),
    });
  }
  const began: Provenance['began'] = {};
  for (const field of MODEL_FIELDS) {
    const path = found[field];
    if (path === undefined) continue;
    const name = recipe.model[field] ?? path;
    began[field] = { name, path, near: '', ...(await identityOf(path)) };
  }
  return {
    format: 1,
    patina: packageVersion(),
    beneath,
    ...(Object.keys(bases).length > 0 && { bases }),
    began,
    features:
      assembly.kind === 'text'
        ? null
        : {
            layer: assembly.config.featureLayer - assembly.config.vision.numHiddenLayers - 1,
            select: assembly.config.projector.select,
          },
    text: { template: template ?? { name: 'none', source: '' }, system: text.system ?? null },
    image: pictures && { mode: pictures.mode, reading: recipe.image.reading },
    data: data.sources.map(({ path, files, records, train }) => ({
      ...{ path, records, train },
      files: files.map((file) => ({ path: file, digest: data.fileDigests.get(file)! })),
    })),
    recipe,
  };
}

/** The forms in which the run holds frozen weights, without the predicates: checkpoints bring what those are about. */
function heldBases({ train }: Recipe, { assembly }: OpenedModel): NonNullable<Provenance['bases']> {
  const forms = { ...assembly.provenance?.bases, ...basesOf(train) };
  return Object.fromEntries(
    Object.entries(forms).flatMap(([part, form]) => {
      if (form === undefined || train[part as BasePart] === 'full') return [];
      const held: BaseForm =
        form.form === 'fp8'
          ? { form: form.form }
          : { form: form.form, doubleQuantised: form.doubleQuantised };
      return [[part, held]];
    }),
  );
}

/** A model that is named by itself is the base, or the decoder of one that is put together. */
function roleOf(role: ModelPlace['role'], { model }: Recipe): Beneath['role'] {
  if (role === 'llm' || role === 'vision') return role;
  return model.from === undefined && model.vision !== undefined ? 'llm' : 'base';
}

/** A name on the hub as it is; a path so that it leads there from any folder. */
function absoluteName(name: string, path: string): string {
  const isHub = /[\\/]snapshots[\\/][0-9a-f]{40}$/.test(path) && !isAbsolute(name);
  return isHub ? name : path;
}

function withNear({ beneath, began, ...rest }: Provenance, run: string): Provenance {
  const near = <T extends { path: string }>(each: T): T & { near: string } => ({
    ...each,
    near: relative(run, each.path),
  });
  return {
    ...rest,
    beneath: beneath.map(near),
    began: Object.fromEntries(Object.entries(began).map(([field, each]) => [field, near(each)])),
  };
}
