/** A model for llama.cpp and what stands on it: a GGUF file of the decoder, one of tower and projector, and Ollama's `Modelfile`. */
import { existsSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';

import { requireFree } from '../../../base/disk-space.js';
import { DataError } from '../../../base/errors.js';
import { writeWholeFolder } from '../../../base/whole-folder.js';
import { plural } from '../../../base/format.js';
import { GGML_TYPES, gguf, ggufBytes, type GgufMetadata } from '../../../formats/gguf/types.js';
import { type GgufSource, writeGguf } from '../../../formats/gguf/write.js';
import { ownPrefixes } from '../../../formats/layouts/tables.js';
import { elementCount } from '../../../formats/stored.js';
import { TextModel } from '../../language-model.js';
import { Llava } from '../../llava.js';
import { type Assembly, assembleAny, type TextAssembly } from '../../load/assemble.js';
import { findImageProcessor } from '../../load/find-image-processor.js';
import { textFolders } from '../../load/places.js';
import { checkSources } from '../check-target.js';
import type {
  ExportOptions,
  ExportReport,
  GgufCheck,
  GgufFileType,
  GgufSpeech,
} from '../export-options.js';
import { unusedNotes } from '../export-notes.js';
import { foldNotes, planWeights, type WeightPlan } from '../plan-weights.js';
import { checkGgufFile } from './check-file.js';
import { type EncodeOptions, ggufSource } from './encode-tensor.js';
import { checkMmproj, mmprojMetadata, mmprojTensors, TOWER_NOTES } from './mmproj-file.js';
import type { GgufPlan } from './tensor-plan.js';
import { textMetadata, textNotes, textTensors } from './text-file.js';

/** A file to be written. */
interface GgufContent {
  readonly name: string;
  readonly metadata: GgufMetadata;
  readonly plans: readonly GgufPlan[];
}

/** Numbers of `llama_ftype` in llama.h. */
const FILE_TYPES: Readonly<Record<GgufFileType, number>> = { f16: 1, q4_0: 2, q8_0: 7, bf16: 32 };
/** Of ggml's blocks as they are. */
const QUANTIZATION_VERSION = 2;

/**
 * Writes the files into a new folder; adapters are folded in.
 *
 * @throws those of `exportModel`; DataError `E_GGUF_CHECK`, `E_TOKENIZER_MISSING`, `E_TOKENIZER_UNSUPPORTED`
 */
export async function exportGguf(
  source: string,
  folder: string,
  options: ExportOptions,
): Promise<ExportReport> {
  const { ggufType: type = 'f16', check = false, allow = [], signal } = options;
  const assembly = await assembleAny(source, options);
  refuseTiles(source, assembly);
  const model =
    assembly.kind === 'text' ? new TextModel(assembly.config) : new Llava(assembly.config);
  const plan = await planWeights(source, model, assembly, options);
  const speech = await speechOf(assembly, options);
  const contents = [textContent(source, assembly, plan, { type, speech })];
  const notes = [
    ...foldNotes(plan),
    ...keptNotes(contents, type),
    ...speech.notes,
    ...textNotes(textConfigOf(assembly)),
  ];
  if (assembly.kind === 'llava') {
    contents.push(await mmprojContent(source, assembly, plan, type));
    const { family } = assembly.config.vision;
    notes.push(...unusedNotes(assembly.config, options), TOWER_NOTES[family]);
  }
  await checkSources(
    folder,
    plan.sources.flatMap(({ files }) => files),
  );
  const encode = { where: source, adapters: plan.adapters, allow, signal };
  const { checked, said } = await write(folder, contents, speech, { ...options, encode });
  const all = contents.flatMap(({ plans }) => plans);
  return {
    folder,
    layout: 'gguf',
    files: ['Modelfile', ...contents.map(({ name }) => name)].sort(),
    parameters: all.reduce((sum, { shape }) => sum + elementCount(shape), 0),
    bytes: bytesOf(contents),
    dtype: type,
    notes: [...notes, ...said],
    ...(check && { checked }),
  };
}

/** llama.cpp takes LLaVA-NeXT's tiles in a file of another form, whose arithmetic no simulation here has checked. */
function refuseTiles(source: string, assembly: Assembly | TextAssembly): void {
  if (assembly.kind === 'text' || assembly.config.tiles === null) return;
  throw new DataError(`${source} takes pictures in tiles, which Patina does not write as GGUF.`, {
    code: 'E_LAYOUT_LIMIT',
    hint: 'Export to transformers (--to hf), and use its converter.',
  });
}

function textConfigOf(assembly: Assembly | TextAssembly) {
  return assembly.kind === 'text' ? assembly.config : assembly.config.text;
}

function textContent(
  source: string,
  assembly: Assembly | TextAssembly,
  { tensors }: WeightPlan,
  { type, speech }: { type: GgufFileType; speech: GgufSpeech },
): GgufContent {
  const config = textConfigOf(assembly);
  const own = ownPrefixes(assembly.kind === 'text');
  return {
    name: `model-${type}.gguf`,
    metadata: new Map([...textMetadata(config), ...general(source, type), ...speech.metadata]),
    plans: textTensors(config, tensors, { own, type }),
  };
}

/** Tower and projector suffer from few bits and are small: they stay in 16. */
async function mmprojContent(
  source: string,
  assembly: Assembly,
  { tensors }: WeightPlan,
  wanted: GgufFileType,
): Promise<GgufContent> {
  const { config } = assembly;
  checkMmproj(config);
  const type = wanted === 'bf16' ? wanted : 'f16';
  const pictures = await findImageProcessor(assembly, config.vision);
  return {
    name: `mmproj-${type}.gguf`,
    metadata: new Map([...mmprojMetadata(config, pictures), ...general(source, type)]),
    plans: mmprojTensors(config, tensors, type),
  };
}

/** Which matrices blocks do not fit. */
function keptNotes([text]: readonly GgufContent[], type: GgufFileType): string[] {
  if (GGML_TYPES[type].block === 1) return [];
  const kept = text!.plans.filter((plan) => plan.type === 'f16').length;
  if (kept === 0) return [];
  const which = plural(kept, 'matrix', 'matrices');
  return [`${which} with rows that blocks of ${GGML_TYPES[type].block} do not fill stayed in f16.`];
}

function general(source: string, type: GgufFileType) {
  return [
    ['general.name', gguf.string(basename(resolve(source)))],
    ['general.file_type', gguf.uint32(FILE_TYPES[type])],
    ['general.quantization_version', gguf.uint32(QUANTIZATION_VERSION)],
  ] as const;
}

async function speechOf(
  assembly: Assembly | TextAssembly,
  options: ExportOptions,
): Promise<GgufSpeech> {
  const folders = textFolders(assembly.places);
  const folder = folders.find((each) => existsSync(join(each, 'tokenizer.json')));
  if (folder === undefined) {
    throw new DataError('None of the folders has a tokenizer.json.', {
      code: 'E_TOKENIZER_MISSING',
      hint: 'Name the folder of the decoder with its tokenizer (--llm).',
    });
  }
  const { speak } = options;
  if (speak === undefined) throw new Error('A GGUF file needs a reader of tokenizers.');
  return speak(folder, textConfigOf(assembly).vocabSize, options);
}

async function write(
  folder: string,
  contents: readonly GgufContent[],
  { modelfile, probe }: GgufSpeech,
  {
    encode,
    check = false,
    replace = false,
    signal,
    onProgress,
  }: ExportOptions & { encode: EncodeOptions },
): Promise<{ checked: GgufCheck[]; said: readonly string[] }> {
  const size = bytesOf(contents);
  const total = check ? 2 * size : size;
  let done = 0;
  const count = (bytes: number): void => onProgress?.((done += bytes), total);
  await requireFree(folder, size, 'the exported model');
  return writeWholeFolder(
    folder,
    async (temporary) => {
      const checked: GgufCheck[] = [];
      for (const { name, metadata, plans } of contents) {
        const path = join(temporary, name);
        const sources = plans.map((plan) => counted(ggufSource(plan, encode), count));
        await writeGguf(path, metadata, sources, { signal });
        if (!check) continue;
        const found = await checkGgufFile(path, plans, { ...encode, onCompared: count });
        checked.push({ ...found, file: name });
      }
      await writeFile(join(temporary, 'Modelfile'), modelfileText(contents, modelfile));
      const said = check ? await probe(join(temporary, contents[0]!.name)) : [];
      return { checked, said };
    },
    { what: 'exported model', replace, signal },
  );
}

/** The tensor, whose bytes are counted when they are written. */
function counted(source: GgufSource, count: (bytes: number) => void): GgufSource {
  return {
    ...source,
    async *bytes() {
      for await (const piece of source.bytes()) {
        yield piece;
        count(piece.length);
      }
    },
  };
}

function modelfileText(contents: readonly GgufContent[], lines: readonly string[]): string {
  const files = contents.map(({ name }) => `FROM ./${name}`);
  return ['# ollama create NAME -f Modelfile', ...files, ...lines, ''].join('\n');
}

/** Bytes of all tensors. */
function bytesOf(contents: readonly GgufContent[]): number {
  return contents.flatMap(({ plans }) => plans).reduce((sum, plan) => sum + ggufBytes(plan), 0);
}
