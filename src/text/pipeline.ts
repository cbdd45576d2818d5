/**
 * From text to ids by the rules of a `tokenizer.json`, without any added token: normalise, split into
 * words, merge each word by BPE (Sennrich et al. 2016). The rules run in @huggingface/tokenizers; here it
 * is decided which of the work is done once per word, so that words can be kept, and what the library does
 * differently from Hugging Face's Rust code is mended:
 *
 * - Metaspace is done here (`prepend_scheme`, `split` and their older spellings);
 * - ByteLevel's built-in pattern and `Digits` become Split patterns, with Unicode's white space;
 * - `(?i:...)` is spelled out beyond ASCII (`regex.ts`);
 * - added tokens are kept out of it, since with `ignore_merges` it finds them inside text.
 */
import { DataError } from '../base/errors.js';
import { spellBytes } from './byte-tokens.js';
import type { JsonObject } from './json.js';
import { createLibraryTokenizer, type LibraryTokenizer } from './library.js';
import {
  readModel,
  readNormalizer,
  readStages,
  SPACE_MARK,
  type Metaspace,
} from './tokenizer-json.js';

export interface Pipeline {
  /** Normalised text; `atStart` where the text begins the whole input. */
  prepare(text: string, atStart: boolean): string;
  /** Words whose concatenation is the prepared text. */
  split(prepared: string): readonly string[];
  /** Ids of one word. */
  encodeWord(word: string): number[];
  readonly byteLevel: boolean;
  readonly vocabulary: ReadonlyMap<string, number>;
}

/**
 * Builds the pipeline of a parsed `tokenizer.json`.
 *
 * @param hidden Special tokens, which text must not become.
 *
 * Throws E_TOKENIZER_BROKEN on a malformed file, E_TOKENIZER_UNSUPPORTED on a component that is not known
 * to give the ids of Hugging Face's tokenizers.
 */
export function createPipeline(json: JsonObject, hidden: readonly string[]): Pipeline {
  const model = readModel(json['model'], hidden);
  const { splits, metaspace, byteLevel } = readStages(json['pre_tokenizer']);
  const normalizer = readNormalizer(json['normalizer']);
  const library = createLibrary({
    model,
    normalizer,
    pre_tokenizer: splits.length > 0 ? { type: 'Sequence', pretokenizers: splits } : null,
    post_processor: null,
    decoder: null,
    added_tokens: [],
  });
  const merge = library.model;
  const vocabulary = merge.tokens_to_ids;
  const splitter = library.pre_tokenizer;

  return {
    prepare(text, atStart) {
      const normal = library.normalizer ? library.normalizer(text) : text;
      if (metaspace) return applyMetaspace(normal, metaspace, atStart);
      return byteLevel?.prefixSpace && !normal.startsWith(' ') ? ` ${normal}` : normal;
    },
    split: splitter
      ? splitBy(splitter)
      : byteLevel
        ? (prepared) => [prepared]
        : splitAtMarks(vocabulary, metaspace),
    encodeWord: (word) =>
      // The model answers with tokens of its vocabulary only (its unknown token is one of them).
      merge([byteLevel ? spellBytes(word) : word]).map((token) => vocabulary.get(token)!),
    byteLevel: byteLevel !== undefined,
    vocabulary,
  };
}

function createLibrary(json: object): LibraryTokenizer {
  try {
    return createLibraryTokenizer(json);
  } catch (error) {
    throw new DataError(`tokenizer.json cannot be used: ${(error as Error).message}`, {
      code: 'E_TOKENIZER_BROKEN',
      hint: 'Fetch tokenizer.json again from where the model came from.',
      cause: error,
    });
  }
}

function applyMetaspace(text: string, { prepend }: Metaspace, atStart: boolean): string {
  const marked = text.replaceAll(' ', SPACE_MARK);
  const wanted = prepend === 'always' || (prepend === 'first' && atStart);
  return wanted && !marked.startsWith(SPACE_MARK) ? SPACE_MARK + marked : marked;
}

/** One pattern that matches all of a text is most of the work, and quicker applied directly. */
function splitBy(splitter: NonNullable<LibraryTokenizer['pre_tokenizer']>): Pipeline['split'] {
  const [stage, ...more] = splitter.tokenizers ?? [];
  const pattern = more.length === 0 ? stage?.pattern : undefined;
  if (!pattern) return (prepared) => splitter(prepared);
  return (prepared) => {
    const words = prepared.match(pattern) ?? [];
    let length = 0;
    for (const word of words) length += word.length;
    return length === prepared.length ? words : splitter(prepared);
  };
}

/**
 * Words of a text whose blanks are "▁". Where no token of the vocabulary crosses from another character to a
 * "▁", no merge does, so that cutting there changes the speed and nothing else.
 */
function splitAtMarks(
  vocabulary: ReadonlyMap<string, number>,
  metaspace: Metaspace | undefined,
): Pipeline['split'] {
  if (metaspace?.split) return (text) => text.match(/▁[^▁]*|[^▁]+/g) ?? [];
  for (const token of vocabulary.keys()) {
    if (/[^▁]▁/.test(token)) return (text) => [text];
  }
  return (text) => text.match(/▁*[^▁]+|▁+/g) ?? [];
}
