/**
 * A vocabulary as llama.cpp reads it from a GGUF file (`tokenizer.ggml.*`; llama-vocab.cpp): byte-level BPE as `gpt2`, with the name of a
 * pattern that cuts words, and SentencePiece-like BPE as `llama`, with scores in the place of merges. What would give other ids
 * there is refused.
 */
import { join } from 'node:path';

import { gguf, type GgufMetadata, type GgufValue } from '../formats/gguf/types.js';
import { readJsonObject } from '../formats/small-file.js';
import { type AddedToken, readAddedTokens } from './added-tokens.js';
import { fallbackByte } from './byte-tokens.js';
import { isObject, type JsonObject } from './json.js';
import { loadTokenizer } from './load-tokenizer.js';
import type { Tokenizer } from './tokenizer.js';
import {
  type BpeModel,
  readModel,
  readNormalizer,
  readStages,
  SPACE_MARK,
  type Stages,
  unsupported,
} from './tokenizer-json.js';

export interface GgufVocabulary {
  readonly tokenizer: Tokenizer;
  readonly metadata: GgufMetadata;
  /** What is otherwise in llama.cpp, a sentence each. */
  readonly notes: readonly string[];
}

/** Numbers of `llama_token_type`. */
const KIND = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

/** Patterns by llama.cpp's names; whole words without merges, or not. */
const PATTERNS: readonly { pattern: string; ignoreMerges: boolean; name: string }[] = (() => {
  const words = (digits: string): string =>
    `(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\\r\\n\\p{L}\\p{N}]?\\p{L}+|${digits}| ?[^\\s\\p{L}\\p{N}]+[\\r\\n]*|\\s*[\\r\\n]+|\\s+(?!\\S)|\\s+`;
  return [
    { pattern: words('\\p{N}{1,3}'), ignoreMerges: true, name: 'llama-bpe' },
    { pattern: words('\\p{N}{1,3}'), ignoreMerges: false, name: 'smaug-bpe' },
    { pattern: words('\\p{N}'), ignoreMerges: false, name: 'qwen2' },
  ];
})();

/**
 * Reads the tokenizer of a folder.
 *
 * @param rows of the embeddings: the vocabulary has as many tokens
 * @throws DataError `E_TOKENIZER_UNSUPPORTED`, `E_TOKENIZER_BROKEN`, `E_TOKENIZER_MISSING`
 */
export async function ggufVocabulary(folder: string, rows: number): Promise<GgufVocabulary> {
  const tokenizer = await loadTokenizer(folder);
  const json = (await readJsonObject(join(folder, 'tokenizer.json')))!;
  const config = (await readJsonObject(join(folder, 'tokenizer_config.json'))) ?? {};
  const model = readModel(json['model'], []);
  const stages = readStages(json['pre_tokenizer']);
  const added = new Map(readAddedTokens(json, config).map((token) => [token.id, token]));
  const tokens = Array.from({ length: rows }, (_, id) => tokenizer.tokenOf(id) ?? `[PAD${id}]`);
  const own =
    stages.byteLevel === undefined
      ? pieces(json, model, stages, tokens)
      : words(json, model, stages.byteLevel);
  const kinds = tokens.map((token, id) => kindOf(token, added.get(id), tokenizer.tokenOf(id), own));
  const beyond = tokenizer.vocabularySize - rows;
  const entries: (readonly [string, GgufValue])[] = [
    ['model', gguf.string(own.model)],
    ['pre', gguf.string(own.pre)],
    ['tokens', gguf.strings(tokens)],
    ['token_type', gguf.int32s(kinds)],
    ...own.more,
    ...namedIds(tokenizer, rows),
  ];
  return {
    tokenizer,
    metadata: new Map(entries.map(([key, value]) => [`tokenizer.ggml.${key}`, value])),
    notes: [
      ...own.notes,
      ...(beyond > 0
        ? [`${beyond} of the tokenizer's tokens have no row in the embeddings and were left out.`]
        : []),
    ],
  };
}

/** What the kinds of tokenizers decide each in their own way. */
interface Kind {
  readonly model: 'gpt2' | 'llama';
  readonly pre: string;
  readonly unknown: string | null;
  readonly more: readonly (readonly [string, GgufValue])[];
  readonly notes: readonly string[];
}

/** Byte-level BPE. */
function words(
  json: JsonObject,
  model: BpeModel,
  byteLevel: NonNullable<Stages['byteLevel']>,
): Kind {
  if (byteLevel.prefixSpace) throw unsupported('pre_tokenizer.add_prefix_space', true);
  const normalizer = readNormalizer(json['normalizer']);
  if (normalizer !== null && normalizer['type'] !== 'NFC') {
    throw unsupported('normalizer', normalizer['type']);
  }
  const merges = model['merges'] as readonly string[][];
  return {
    model: 'gpt2',
    pre: patternName(json['pre_tokenizer'], model['ignore_merges'] === true),
    unknown: model.unk_token,
    more: [['merges', gguf.strings(merges.map((pair) => pair.join(' ')))]],
    notes:
      normalizer === null
        ? []
        : ['llama.cpp does not compose characters (NFC), which this tokenizer does.'],
  };
}

/** What llama.cpp calls the way in which words are cut. */
function patternName(preTokenizer: unknown, ignoreMerges: boolean): string {
  const list = isObject(preTokenizer) ? (preTokenizer['pretokenizers'] ?? [preTokenizer]) : [];
  const stages = (list as unknown[]).filter(isObject);
  const byteLevel = stages.at(-1);
  const patterns = stages.slice(0, -1).map(({ pattern }) => isObject(pattern) && pattern['Regex']);
  if (patterns.length === 0 && byteLevel?.['use_regex'] !== false && !ignoreMerges) return 'gpt-2';
  const known = PATTERNS.find(
    (each) =>
      patterns.length === 1 &&
      each.pattern === patterns[0] &&
      each.ignoreMerges === ignoreMerges &&
      byteLevel?.['use_regex'] === false,
  );
  if (known !== undefined) return known.name;
  throw unsupported(
    'pre_tokenizer',
    `${JSON.stringify(patterns)} with ignore_merges ${ignoreMerges}, for llama.cpp`,
  );
}

/**
 * BPE over characters with "▁" for blanks and bytes for what is unknown, as SentencePiece has it: llama.cpp merges whichever neighbours
 * make the token of the highest score, so that all merges of a token have to count as one.
 */
function pieces(
  json: JsonObject,
  model: BpeModel,
  { metaspace }: Stages,
  tokens: readonly string[],
): Kind {
  const bytes = Object.keys(model.vocab).filter((token) => fallbackByte(token) !== undefined);
  if (model['byte_fallback'] !== true || bytes.length < 256) {
    throw unsupported('model.byte_fallback', 'without bytes for every unknown character');
  }
  const steps = stepsOf(readNormalizer(json['normalizer']));
  const prepends = steps.some(({ type, prepend }) => type === 'Prepend' && prepend === SPACE_MARK);
  const marks = steps.some(({ type, content }) => type === 'Replace' && content === SPACE_MARK);
  // Blanks become marks by one of the two.
  const isKnown = marks
    ? metaspace === undefined && steps.length === Number(prepends) + 1
    : metaspace !== undefined && steps.length === 0;
  if (!isKnown) throw unsupported('normalizer', json['normalizer']);
  const scores = scoresOf(model);
  const isPrefixed = metaspace !== undefined && metaspace.prepend !== 'never';
  if (
    metaspace?.split === true &&
    Object.keys(model.vocab).some((t) => t.indexOf(SPACE_MARK, 1) > 0)
  ) {
    throw unsupported('pre_tokenizer.split', 'true beside tokens of several words');
  }
  return {
    model: 'llama',
    pre: 'default',
    unknown: model.unk_token,
    more: [
      ['scores', gguf.float32s(tokens.map((token) => scores.get(token) ?? 0))],
      ['add_space_prefix', gguf.bool(prepends || isPrefixed)],
      ['remove_extra_whitespaces', gguf.bool(false)],
    ],
    notes: isPrefixed
      ? [
          'llama.cpp puts a blank before each text that follows a special token, and before one that begins with a blank, which this tokenizer does not.',
        ]
      : [],
  };
}

/** A normalizer's steps, one after the other. */
function stepsOf(normalizer: JsonObject | null): readonly JsonObject[] {
  if (normalizer === null) return [];
  if (normalizer['type'] !== 'Sequence') return [normalizer];
  return (normalizer['normalizers'] as readonly JsonObject[]).flatMap(stepsOf);
}

/** The order of merges as scores of what they make, the higher the earlier: SentencePiece's own where the tokenizer came from there. */
function scoresOf({ vocab, ...model }: BpeModel): ReadonlyMap<string, number> {
  const merges = model['merges'] as readonly (readonly [string, string])[];
  const order = new Map<string, number>();
  let last: string | undefined;
  const made = new Map<string, number>();
  for (const [left, right] of merges) {
    const token = left + right;
    if (token !== last && order.has(token)) {
      throw unsupported(
        'model.merges',
        `merges of ${JSON.stringify(token)} of several ranks, for llama.cpp`,
      );
    }
    if (!order.has(token)) order.set(token, order.size);
    made.set(token, (made.get(token) ?? 0) + 1);
    last = token;
  }
  for (const [token, count] of made) {
    const characters = Array.from(token);
    let pairs = 0;
    for (let at = 1, left = ''; at < characters.length; at++) {
      left += characters[at - 1]!;
      if (Object.hasOwn(vocab, left) && Object.hasOwn(vocab, token.slice(left.length))) pairs++;
    }
    if (pairs !== count) {
      throw unsupported(
        'model.merges',
        `without some that make ${JSON.stringify(token)}, for llama.cpp`,
      );
    }
  }
  return new Map([...order].map(([token, rank]) => [token, -rank]));
}

function kindOf(
  token: string,
  added: AddedToken | undefined,
  known: string | undefined,
  { model, unknown }: Kind,
): number {
  if (known === undefined) return KIND.unused;
  if (model === 'llama' && token === unknown) return KIND.unknown;
  if (added !== undefined) return added.special ? KIND.control : KIND.userDefined;
  return model === 'llama' && fallbackByte(token) !== undefined ? KIND.byte : KIND.normal;
}

/** Ids of special tokens, and which of them stand around every text. */
function namedIds(tokenizer: Tokenizer, rows: number): [string, GgufValue][] {
  const { bosId, eosId, padId, namedTokens } = tokenizer;
  const ids = {
    bos_token_id: bosId,
    eos_token_id: eosId,
    unknown_token_id: tokenizer.idOf(namedTokens.unk_token),
    padding_token_id: padId,
  };
  const { before, after } = tokenizer.specialFrame;
  return [
    ...Object.entries(ids).flatMap(([key, id]): [string, GgufValue][] =>
      id === undefined || id >= rows ? [] : [[key, gguf.uint32(id)]],
    ),
    ['add_bos_token', gguf.bool(bosId !== undefined && before.includes(bosId))],
    ['add_eos_token', gguf.bool(eosId !== undefined && after.includes(eosId))],
  ];
}
