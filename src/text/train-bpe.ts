/**
 * Trains a byte-level BPE tokenizer (Sennrich et al. 2016; the 256 bytes as in GPT-2) laid out like Llama 3's: its
 * split pattern, BOS, header and end-of-turn tokens after the vocabulary. Merges are those of Hugging Face's trainer
 * on the same texts: the most frequent pair first, of equally frequent ones that with the smaller ids.
 *
 * Made for small vocabularies: every merge looks at every pair.
 */
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

import { UsageError } from '../base/errors.js';
import { writeError } from '../base/system-error.js';
import { BYTE_CHARACTERS, spellBytes } from './byte-tokens.js';
import { LLAMA3_TEMPLATE } from './llama3-template.js';
import { createPipeline } from './pipeline.js';
import { Tokenizer } from './tokenizer.js';

export interface TrainBpeOptions {
  /** Tokens in all, the 256 bytes and the special tokens included. */
  vocabularySize: number;
  /** How often a pair has to stand in the texts to be merged. @default 2 */
  minFrequency?: number;
  /** Chat template of the folder. @default Llama 3's with images */
  chatTemplate?: string;
}

/** The files of a tokenizer's folder that transformers and Patina read. */
export interface TokenizerFolder {
  readonly 'tokenizer.json': object;
  readonly 'tokenizer_config.json': object;
  readonly 'chat_template.jinja': string;
}

const SPECIAL_TOKENS = [
  '<|begin_of_text|>',
  '<|end_of_text|>',
  '<|start_header_id|>',
  '<|end_header_id|>',
  '<|eot_id|>',
  '<image>',
  '<pad>',
];

/** Llama 3's split pattern: contractions, words, digits in threes, punctuation, line ends, blanks. */
const LLAMA3_PATTERN =
  "(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|\\p{N}{1,3}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*" +
  '|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+';

/**
 * Trains a tokenizer on texts; there are fewer tokens than asked for where the texts have no more to merge.
 *
 * Throws UsageError (E_VOCABULARY_SIZE) where the size leaves no room for bytes and special tokens.
 */
export function trainBpe(
  texts: Iterable<string>,
  { vocabularySize, minFrequency = 2, chatTemplate = LLAMA3_TEMPLATE }: TrainBpeOptions,
): TokenizerFolder {
  const least = 256 + SPECIAL_TOKENS.length;
  if (!Number.isSafeInteger(vocabularySize) || vocabularySize < least) {
    throw new UsageError(`A vocabulary of ${vocabularySize} tokens cannot be trained.`, {
      code: 'E_VOCABULARY_SIZE',
      hint: `Ask for ${least} or more: 256 bytes and ${SPECIAL_TOKENS.length} special tokens.`,
    });
  }
  const tokens = [...BYTE_CHARACTERS].sort();
  const merges = learnMerges(countWords(texts, tokens), tokens, {
    size: vocabularySize - SPECIAL_TOKENS.length,
    minFrequency,
  });
  return {
    'tokenizer.json': tokenizerJson(tokens, merges),
    'tokenizer_config.json': {
      bos_token: '<|begin_of_text|>',
      clean_up_tokenization_spaces: false,
      eos_token: '<|eot_id|>',
      extra_special_tokens: { image_token: '<image>' },
      image_token: '<image>',
      model_max_length: 1e30,
      pad_token: '<pad>',
      tokenizer_class: 'PreTrainedTokenizerFast',
    },
    'chat_template.jinja': chatTemplate,
  };
}

/** The tokenizer of a trained folder. */
export function openTrained(folder: TokenizerFolder): Tokenizer {
  return new Tokenizer({
    tokenizer: folder['tokenizer.json'],
    config: folder['tokenizer_config.json'],
    chatTemplate: folder['chat_template.jinja'],
  });
}

/** Writes the files of a trained tokenizer; throws E_DISK_FULL and E_UNWRITABLE. */
export async function writeTokenizer(path: string, folder: TokenizerFolder): Promise<void> {
  try {
    await mkdir(path, { recursive: true });
    for (const [name, content] of Object.entries(folder)) {
      const text = typeof content === 'string' ? content : `${JSON.stringify(content, null, 2)}\n`;
      await writeFile(join(path, name), text);
    }
  } catch (error) {
    throw writeError(error, path, 'write the tokenizer');
  }
}

function tokenizerJson(tokens: readonly string[], merges: readonly (readonly string[])[]): object {
  const bos = SPECIAL_TOKENS[0]!;
  const special = { SpecialToken: { id: bos, type_id: 0 } };
  const sequence = (id: string): object => ({ Sequence: { id, type_id: 0 } });
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: SPECIAL_TOKENS.map((content, i) => ({
      id: tokens.length + i,
      content,
      single_word: false,
      lstrip: false,
      rstrip: false,
      normalized: false,
      special: true,
    })),
    normalizer: null,
    pre_tokenizer: {
      type: 'Sequence',
      pretokenizers: [
        {
          type: 'Split',
          pattern: { Regex: LLAMA3_PATTERN },
          behavior: 'Isolated',
          invert: false,
        },
        { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: false },
      ],
    },
    post_processor: {
      type: 'TemplateProcessing',
      single: [special, sequence('A')],
      pair: [special, sequence('A'), special, sequence('B')],
      special_tokens: { [bos]: { id: bos, ids: [tokens.length], tokens: [bos] } },
    },
    decoder: { type: 'ByteLevel', add_prefix_space: true, trim_offsets: true, use_regex: true },
    model: {
      type: 'BPE',
      dropout: null,
      unk_token: null,
      continuing_subword_prefix: null,
      end_of_word_suffix: null,
      fuse_unk: false,
      byte_fallback: false,
      ignore_merges: true,
      vocab: Object.fromEntries(tokens.map((token, id) => [token, id])),
      merges,
    },
  };
}

/** A word as ids of its tokens so far, and how often it stands in the texts. */
interface Word {
  ids: number[];
  count: number;
}

function countWords(texts: Iterable<string>, alphabet: readonly string[]): Word[] {
  const { split } = createPipeline(tokenizerJson(alphabet, []) as Record<string, unknown>, []);
  const counts = new Map<string, number>();
  for (const text of texts) {
    for (const word of split(text)) counts.set(word, (counts.get(word) ?? 0) + 1);
  }
  const ids = new Map(alphabet.map((character, id) => [character, id]));
  return Array.from(counts, ([word, count]) => ({
    ids: Array.from(spellBytes(word), (character) => ids.get(character)!),
    count,
  }));
}

/** Learns merges and appends their tokens to `tokens` until there are `size` of them. */
function learnMerges(
  words: readonly Word[],
  tokens: string[],
  { size, minFrequency }: { size: number; minFrequency: number },
): [string, string][] {
  const known = new Map(tokens.map((token, id) => [token, id]));
  const merges: [string, string][] = [];
  const pairs = new PairCounts(words);
  while (tokens.length < size) {
    const best = pairs.best();
    if (!best || best.count < Math.max(1, minFrequency)) break;
    const [left, right] = [tokens[best.left]!, tokens[best.right]!];
    const merged = left + right;
    // Two pairs can make the same token.
    let id = known.get(merged);
    if (id === undefined) {
      id = tokens.push(merged) - 1;
      known.set(merged, id);
    }
    merges.push([left, right]);
    pairs.merge(best, id);
  }
  return merges;
}

interface Pair {
  readonly left: number;
  readonly right: number;
  count: number;
  /** Words that have the pair, or had it. */
  readonly words: Set<Word>;
}

/** How often each pair of neighbouring tokens stands in the words. */
class PairCounts {
  readonly #pairs = new Map<string, Pair>();

  constructor(words: readonly Word[]) {
    for (const word of words) this.#count(word, word.count);
  }

  best(): Pair | undefined {
    let best: Pair | undefined;
    for (const pair of this.#pairs.values()) {
      const first =
        !best ||
        pair.count > best.count ||
        (pair.count === best.count && (pair.left - best.left || pair.right - best.right) < 0);
      if (first) best = pair;
    }
    return best;
  }

  merge({ left, right, words }: Pair, id: number): void {
    for (const word of words) {
      this.#count(word, -word.count);
      const merged: number[] = [];
      for (let i = 0; i < word.ids.length; i++) {
        const here = word.ids[i] === left && word.ids[i + 1] === right;
        merged.push(here ? id : word.ids[i]!);
        if (here) i++;
      }
      word.ids = merged;
      this.#count(word, word.count);
    }
  }

  #count(word: Word, change: number): void {
    for (let i = 0; i + 1 < word.ids.length; i++) {
      const [left, right] = [word.ids[i]!, word.ids[i + 1]!];
      const key = `${left} ${right}`;
      const pair = this.#pairs.get(key) ?? { left, right, count: 0, words: new Set<Word>() };
      this.#pairs.set(key, pair);
      pair.count += change;
      if (change > 0) pair.words.add(word);
      if (pair.count === 0) this.#pairs.delete(key);
    }
  }
}
