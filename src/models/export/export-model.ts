/**
 * Writing a model as others read it: a folder for transformers, for LLaVA's authors' code, for llama.cpp, or a PEFT adapter. The same
 * source gives the same bytes; the folder is whole or absent.
 */
import { UsageError } from '../../base/errors.js';
import { partOf, toStoredName } from '../../formats/layouts/rename.js';
import {
  type Layout,
  LAYOUTS,
  LLAVA_PREFIXES,
  type Prefixes,
  TEXT_PREFIXES,
} from '../../formats/layouts/tables.js';
import { elementCount, type StoredTensor } from '../../formats/stored.js';
import { TextModel } from '../language-model.js';
import { Llava } from '../llava.js';
import { assembleAny, type Assembly, type TextAssembly } from '../load/assemble.js';
import { isMatrixOfBlock } from '../load/base-form.js';
import { checkExport } from './check-export.js';
import { exportAdapter } from './export-adapter.js';
import { unusedNotes } from './export-notes.js';
import { exportGguf } from './gguf/export-gguf.js';
import type { ExportLayout, ExportOptions, ExportReport } from './export-options.js';
import {
  hfFiles,
  type ModelFiles,
  OFFICIAL_TOWER,
  officialFiles,
  textFiles,
} from './model-files.js';
import type { Json } from './model-json.js';
import { quantizationConfig } from './nf4-sources.js';
import { planNotes, planWeights, refuseUnmerged, type WeightPlan } from './plan-weights.js';
import { streamWeights } from './stream-weights.js';
import { totalBytes, writeExport } from './write-export.js';

/**
 * Writes a model, or with `peft` its adapter, into a new folder.
 *
 * @param source a folder, a file or a name on the hub, in any layout
 * @throws UsageError `E_NOT_MERGED`, `E_REPLACE`; DataError `E_TENSORS`, `E_NON_FINITE_WEIGHTS`, `E_TOKENIZER_MISSING`, `E_LAYOUT_LIMIT`, and
 *   those of the readers; EnvironmentError `E_EXISTS`, `E_DISK_FULL`
 */
export async function exportModel(
  source: string,
  layout: ExportLayout,
  folder: string,
  options: ExportOptions = {},
): Promise<ExportReport> {
  await checkExport(layout, folder, options);
  if (layout === 'peft') return exportAdapter(source, folder, options);
  if (layout === 'gguf') return exportGguf(source, folder, options);
  const assembly = await assembleAny(source, options);
  if (assembly.kind === 'text') return exportText(source, layout, folder, options, assembly);
  return exportLlava(source, layout, folder, options, assembly);
}

async function exportLlava(
  source: string,
  layout: 'hf' | 'official',
  folder: string,
  options: ExportOptions,
  assembly: Assembly,
): Promise<ExportReport> {
  const plan = await planWeights(source, new Llava(assembly.config), assembly, options);
  const { dtype } = plan;
  const unused = unusedNotes(assembly.config, options);
  const more = quantizationOf(plan, options, ['model.vision_tower', 'model.multi_modal_projector']);
  const fileOptions = { ...options, dtype, more };
  const files = await (layout === 'hf' ? hfFiles : officialFiles)(assembly, fileOptions);
  refuseUnmerged(plan, options);
  const heads = [`${LLAVA_PREFIXES.decoder}embed_tokens.weight`, `${LLAVA_PREFIXES.head}weight`];
  const main = { layout: LAYOUTS[layout], own: LLAVA_PREFIXES, folder: '' };
  const tower = { layout: LAYOUTS.clip, own: LLAVA_PREFIXES, folder: OFFICIAL_TOWER };
  return write(source, folder, options, {
    ...plan,
    more: unused,
    to: layout,
    files,
    grow: new Map(heads.map((name) => [name, files.newRows])),
    places: layout === 'hf' ? [main] : [main, tower],
  });
}

async function exportText(
  source: string,
  layout: 'hf' | 'official',
  folder: string,
  options: ExportOptions,
  assembly: TextAssembly,
): Promise<ExportReport> {
  if (layout === 'official') {
    throw new UsageError(`${source} is a decoder alone, not a LLaVA.`, {
      code: 'E_LAYOUT_LIMIT',
      hint: 'Use --to hf, or name the other parts (--vision, --projector).',
    });
  }
  const plan = await planWeights(source, new TextModel(assembly.config), assembly, options);
  const files = await textFiles(assembly, {
    ...{ ...options, dtype: plan.dtype, more: quantizationOf(plan, options, []) },
  });
  refuseUnmerged(plan, options);
  return write(source, folder, options, {
    ...plan,
    to: layout,
    files,
    grow: new Map(),
    places: [{ layout: LAYOUTS.llama, own: TEXT_PREFIXES, folder: '' }],
  });
}

/** What `config.json` says of a model that is written in NF4. */
function quantizationOf(
  { dtype }: Pick<WeightPlan, 'dtype'>,
  { quantise }: Pick<ExportOptions, 'quantise'>,
  others: readonly string[],
): Json | undefined {
  if (quantise === undefined) return undefined;
  return { quantization_config: quantizationConfig(quantise, dtype, [...others, 'lm_head']) };
}

/** Of which the decoder's blocks are made, and which can be in NF4. */
function isOfDecoderBlock(own: Prefixes) {
  return ([name, tensor]: readonly [string, StoredTensor]): boolean =>
    partOf(name, own) === 'decoder' && isMatrixOfBlock(name, tensor);
}

/** Where some of the tensors go, and under which names. */
interface Place {
  readonly layout: Layout;
  readonly own: Prefixes;
  /** Relative to the folder that is written. */
  readonly folder: string;
}

interface WritePlan extends WeightPlan {
  readonly to: ExportLayout;
  readonly files: ModelFiles;
  /** What else is to be told. @default nothing */
  readonly more?: readonly string[];
  readonly grow: ReadonlyMap<string, number>;
  readonly places: readonly Place[];
}

async function write(
  source: string,
  folder: string,
  options: ExportOptions,
  { to, files, grow, places, more = [], ...plan }: WritePlan,
): Promise<ExportReport> {
  const { tensors, sources, adapters, dtype } = plan;
  const { seed = 0, allow = [], signal } = options;
  const isMatrix = isOfDecoderBlock(places[0]!.own);
  const inNf4 = options.quantise && new Set([...tensors].filter(isMatrix).map(([name]) => name));
  const contents = places.map(({ layout, own, folder: inside }) => {
    const names = new Map(
      [...tensors.keys()].map((name) => [name, toStoredName(layout, name, own)]),
    );
    const here = new Map([...tensors].filter(([name]) => names.get(name) !== undefined));
    const quantise = options.quantise && inNf4 && { form: options.quantise, names: inNf4 };
    const stream = { where: source, dtype, adapters, grow, seed, quantise, allow, signal };
    const written = streamWeights(here, (name) => names.get(name)!, stream);
    return { inside, tensors: written, parameters: parametersOf(here, grow) };
  });
  const all = { files: files.files, contents, sources };
  return {
    folder,
    layout: to,
    files: await writeExport(folder, 'exported model', all, options),
    parameters: contents[0]!.parameters,
    bytes: totalBytes(contents),
    dtype,
    notes: [...planNotes(plan, inNf4), ...more, ...files.notes],
  };
}

/** How many numbers they are, new rows with them; what is written in NF4 counts as what its codes stand for. */
function parametersOf(
  stored: ReadonlyMap<string, StoredTensor>,
  grow: ReadonlyMap<string, number>,
): number {
  return [...stored].reduce((sum, [name, { shape }]) => {
    const [rows = 1, ...rest] = shape;
    return sum + (rows + (grow.get(name) ?? 0)) * elementCount(rest);
  }, 0);
}
