/**
 * Reads the parts of a `tokenizer.json` (Hugging Face tokenizers) that decide how text becomes ids. What
 * is not known to give the ids of Hugging Face's Rust code is refused, never guessed.
 */
import { DataError } from '../base/errors.js';
import { isObject, shown, type JsonObject } from './json.js';
import { safePattern } from './regex.js';

export interface BpeModel extends JsonObject {
  readonly vocab: Readonly<Record<string, number>>;
  readonly unk_token: string | null;
}

export interface Metaspace {
  readonly prepend: 'always' | 'first' | 'never';
  readonly split: boolean;
}

/** How text is cut before BPE: `splits` in turn, after Metaspace, before ByteLevel. */
export interface Stages {
  splits: JsonObject[];
  metaspace?: Metaspace;
  byteLevel?: { readonly prefixSpace: boolean };
}

export const SPACE_MARK = '▁';

/** The pattern that ByteLevel applies where `use_regex` is true. */
const GPT2_PATTERN =
  "'s|'t|'re|'ve|'m|'ll|'d| ?\\p{L}+| ?\\p{N}+| ?[^\\s\\p{L}\\p{N}]+|\\s+(?!\\S)|\\s+";

export function unsupported(field: string, value: unknown): DataError {
  const message = `tokenizer.json: ${field} is ${shown(value)}, which Patina cannot reproduce.`;
  return new DataError(message, {
    code: 'E_TOKENIZER_UNSUPPORTED',
    hint: 'Use a model with a byte-level or SentencePiece-like BPE tokenizer (Llama, Vicuna, Mistral, Qwen2, Qwen3).',
  });
}

export function broken(field: string, value: unknown, wanted: string): DataError {
  const message = `tokenizer.json: ${field} is ${shown(value)}, wanted ${wanted}.`;
  return new DataError(message, {
    code: 'E_TOKENIZER_BROKEN',
    hint: 'Fetch tokenizer.json again from where the model came from.',
  });
}

/**
 * The BPE model, checked.
 *
 * @param hidden Special tokens. With `ignore_merges` a whole word is looked up before any merge, so they
 * leave the vocabulary: text must not become them.
 */
export function readModel(model: unknown, hidden: readonly string[]): BpeModel {
  if (!isObject(model)) throw broken('model', model, 'an object');
  const type = model['type'] ?? 'BPE';
  if (type !== 'BPE') throw unsupported('model.type', type);
  for (const field of ['dropout', 'continuing_subword_prefix', 'end_of_word_suffix']) {
    if (model[field]) throw unsupported(`model.${field}`, model[field]);
  }
  const vocab = readVocabulary(model['vocab']);
  const unknown = model['unk_token'] ?? null;
  if (unknown !== null && (typeof unknown !== 'string' || !Object.hasOwn(vocab, unknown))) {
    throw broken('model.unk_token', unknown, 'a token of the vocabulary');
  }
  if (model['ignore_merges'] === true) {
    for (const token of hidden) Reflect.deleteProperty(vocab, token);
  }
  return { ...model, type, vocab, merges: readMerges(model['merges']), unk_token: unknown };
}

function readVocabulary(vocab: unknown): Record<string, number> {
  if (!isObject(vocab)) throw broken('model.vocab', vocab, 'an object of ids');
  for (const token in vocab) {
    const id = vocab[token];
    if (!Number.isSafeInteger(id) || (id as number) < 0 || (id as number) > 0x7fffffff) {
      throw broken(`model.vocab[${shown(token)}]`, id, 'an id from 0');
    }
  }
  return { ...(vocab as Record<string, number>) };
}

function readMerges(merges: unknown): string[][] {
  if (!Array.isArray(merges)) throw broken('model.merges', merges, 'a list');
  return (merges as unknown[]).map((merge, i) => {
    const pair: unknown = typeof merge === 'string' ? merge.split(' ') : merge;
    if (Array.isArray(pair) && pair.length === 2 && pair.every((x) => typeof x === 'string')) {
      return pair;
    }
    throw broken(`model.merges[${i}]`, merge, 'two tokens');
  });
}

const NORMALIZERS = new Set(['NFC', 'NFD', 'NFKC', 'NFKD', 'Prepend', 'Replace', 'Sequence']);

/** Returns the normalizer if each of its steps is known. */
export function readNormalizer(normalizer: unknown, field = 'normalizer'): JsonObject | null {
  if (normalizer === null || normalizer === undefined) return null;
  if (!isObject(normalizer)) throw broken(field, normalizer, 'an object');
  if (!NORMALIZERS.has(String(normalizer['type']))) throw unsupported(field, normalizer['type']);
  if (normalizer['type'] === 'Sequence') {
    const list = normalizer['normalizers'];
    if (!Array.isArray(list)) throw broken(`${field}.normalizers`, list, 'a list');
    list.forEach((entry, i) => readNormalizer(entry, `${field}.normalizers[${i}]`));
  }
  if (normalizer['type'] === 'Replace') {
    const { pattern, content } = normalizer;
    const plain = isObject(pattern) && typeof pattern['String'] === 'string';
    // The library hands `content` to replaceAll, where `$` has a meaning.
    if (!plain || typeof content !== 'string' || content.includes('$')) {
      throw unsupported(field, normalizer);
    }
  }
  if (normalizer['type'] === 'Prepend' && typeof normalizer['prepend'] !== 'string') {
    throw broken(`${field}.prepend`, normalizer['prepend'], 'a string');
  }
  return normalizer;
}

/** Takes a pre-tokenizer apart: Metaspace may only come first, ByteLevel only last. */
export function readStages(preTokenizer: unknown): Stages {
  const stages: Stages = { splits: [] };
  if (preTokenizer !== null && preTokenizer !== undefined) {
    readStage(preTokenizer, 'pre_tokenizer', stages);
  }
  return stages;
}

function readStage(stage: unknown, field: string, stages: Stages): void {
  if (!isObject(stage)) throw broken(field, stage, 'an object');
  if (stages.byteLevel) throw unsupported(field, 'a stage after ByteLevel');
  const first = stages.splits.length === 0 && !stages.metaspace;
  switch (stage['type']) {
    case 'Sequence': {
      const list = stage['pretokenizers'];
      if (!Array.isArray(list)) throw broken(`${field}.pretokenizers`, list, 'a list');
      list.forEach((entry, i) => readStage(entry, `${field}.pretokenizers[${i}]`, stages));
      return;
    }
    case 'Split':
      stages.splits.push(readSplit(stage, field));
      break;
    case 'Digits':
      stages.splits.push(splitOn(stage['individual_digits'] === true ? '\\p{N}' : '\\p{N}+'));
      break;
    case 'ByteLevel': {
      const prefixSpace = stage['add_prefix_space'] === true;
      if (prefixSpace && !first) throw unsupported(`${field}.add_prefix_space`, true);
      if (stage['use_regex'] !== false) stages.splits.push(splitOn(GPT2_PATTERN));
      stages.byteLevel = { prefixSpace };
      break;
    }
    case 'Metaspace':
      if (!first) throw unsupported(field, 'Metaspace after another stage');
      stages.metaspace = readMetaspace(stage, field);
      break;
    default:
      throw unsupported(field, stage['type']);
  }
  if (stages.metaspace && stages.splits.length > 0) {
    throw unsupported(field, 'a stage after Metaspace');
  }
}

const splitOn = (pattern: string): JsonObject => ({
  type: 'Split',
  pattern: { Regex: pattern },
  behavior: 'Isolated',
  invert: false,
});

function readSplit(stage: JsonObject, field: string): JsonObject {
  const { pattern, behavior, invert } = stage;
  if (behavior !== 'Isolated' || invert === true) throw unsupported(`${field}.behavior`, behavior);
  if (isObject(pattern) && typeof pattern['Regex'] === 'string') {
    return splitOn(safePattern(pattern['Regex']));
  }
  if (isObject(pattern) && typeof pattern['String'] === 'string') {
    return { ...stage, invert: false };
  }
  throw broken(`${field}.pattern`, pattern, '{"Regex": ...} or {"String": ...}');
}

function readMetaspace(stage: JsonObject, field: string): Metaspace {
  const replacement = stage['replacement'] ?? SPACE_MARK;
  if (replacement !== SPACE_MARK) throw unsupported(`${field}.replacement`, replacement);
  // Files older than `prepend_scheme` say `add_prefix_space` instead.
  const older = stage['add_prefix_space'] === false ? 'never' : 'always';
  const prepend = stage['prepend_scheme'] ?? older;
  if (prepend !== 'always' && prepend !== 'first' && prepend !== 'never') {
    throw broken(`${field}.prepend_scheme`, prepend, '"always", "first" or "never"');
  }
  return { prepend, split: stage['split'] !== false };
}
