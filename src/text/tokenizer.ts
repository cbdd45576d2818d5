/**
 * A tokenizer: ids from text and text from ids, by the rules of Hugging Face's `tokenizer.json`.
 *
 * Text that spells a special token is text unless `specialTokens: 'parse'` is asked for: what a user or a
 * data set wrote cannot end a turn or forge one. Templates mark their own words as markup, where special
 * tokens are always found.
 */
import { IMAGE_PLACEHOLDER } from '../models/sample.js';
import { AddedTokens, readAddedTokens } from './added-tokens.js';
import { createDecoder, type TokenDecoder } from './decoder.js';
import { isObject, type JsonObject } from './json.js';
import { createPipeline } from './pipeline.js';
import { readSpecialFrame, type SpecialFrame } from './post-processor.js';
import { SpanEncoder, type Encoded, type EncodeTextOptions, type Span } from './span-encoder.js';
import { broken } from './tokenizer-json.js';

export interface TokenizerFiles {
  /** Parsed `tokenizer.json`. */
  tokenizer: unknown;
  /** Parsed `tokenizer_config.json`. @default {} */
  config?: unknown;
  /** Parsed `special_tokens_map.json`; the configuration wins. @default {} */
  specialTokensMap?: unknown;
  /** Source of the chat template. @default `chat_template` of the configuration */
  chatTemplate?: string | undefined;
  /** What stands for an image in text. @default `image_token` of the configuration, or `<image>` */
  imageToken?: string | undefined;
}

/** Names of special tokens in Hugging Face's files, as templates see them. */
export type NamedToken = 'bos_token' | 'eos_token' | 'unk_token' | 'pad_token';
const NAMED_TOKENS: readonly NamedToken[] = ['bos_token', 'eos_token', 'unk_token', 'pad_token'];

const utf8 = new TextEncoder();

export class Tokenizer {
  readonly imageToken: string;
  readonly chatTemplate: string | undefined;
  readonly namedTokens: Readonly<Partial<Record<NamedToken, string>>>;
  /** One more than the largest id. */
  readonly vocabularySize: number;
  readonly #encoder: SpanEncoder;
  readonly #added: AddedTokens;
  readonly #decoder: TokenDecoder;
  readonly #ids: ReadonlyMap<string, number>;
  readonly #tokens: readonly (string | undefined)[];
  readonly #addedIds: ReadonlySet<number>;
  readonly #specialIds: ReadonlySet<number>;
  readonly #postProcessor: unknown;

  /**
   * Throws E_TOKENIZER_BROKEN on malformed files and E_TOKENIZER_UNSUPPORTED on a tokenizer whose ids Patina
   * does not know to reproduce.
   */
  constructor(files: TokenizerFiles) {
    const json = files.tokenizer;
    if (!isObject(json)) throw broken('the file', json, 'an object');
    this.#postProcessor = json['post_processor'];
    const settings = { ...asObject(files.specialTokensMap), ...asObject(files.config) };
    const added = readAddedTokens(json, settings);
    const special = added.filter((token) => token.special);
    this.#added = new AddedTokens(added);
    this.#addedIds = new Set(added.map((token) => token.id));
    this.#specialIds = new Set(special.map((token) => token.id));
    const pipeline = createPipeline(
      json,
      special.map((token) => token.content),
    );
    this.#decoder = createDecoder(json);

    const ids = new Map(pipeline.vocabulary);
    for (const token of added) ids.set(token.content, token.id);
    const tokens: (string | undefined)[] = [];
    for (const [token, id] of ids) tokens[id] = token;
    this.#ids = ids;
    this.#tokens = tokens;
    this.vocabularySize = tokens.length;

    this.namedTokens = Object.fromEntries(
      NAMED_TOKENS.flatMap((name) => {
        const text = contentOf(settings[name]);
        return text === undefined ? [] : [[name, text]];
      }),
    );
    this.imageToken = files.imageToken ?? contentOf(settings['image_token']) ?? IMAGE_PLACEHOLDER;
    this.#encoder = new SpanEncoder({
      pipeline,
      added: this.#added,
      tokens,
      imageToken: this.imageToken,
    });
    this.chatTemplate = files.chatTemplate ?? defaultTemplate(settings['chat_template']);
  }

  get bosId(): number | undefined {
    return this.idOf(this.namedTokens.bos_token);
  }

  get eosId(): number | undefined {
    return this.idOf(this.namedTokens.eos_token);
  }

  get padId(): number | undefined {
    return this.idOf(this.namedTokens.pad_token);
  }

  /** Id of the token that stands for an image's features, where the vocabulary has one. */
  get imageTokenId(): number | undefined {
    return this.idOf(this.imageToken);
  }

  idOf(token: string | undefined): number | undefined {
    return token === undefined ? undefined : this.#ids.get(token);
  }

  /** A token as the vocabulary spells it. */
  tokenOf(id: number): string | undefined {
    return this.#tokens[id];
  }

  isSpecial(id: number): boolean {
    return this.#specialIds.has(id);
  }

  /** Special tokens around a text that has none of its own. Throws E_TOKENIZER_BROKEN, E_TOKENIZER_UNSUPPORTED. */
  get specialFrame(): SpecialFrame {
    return readSpecialFrame(this.#postProcessor);
  }

  /** Whether the text spells an added token. */
  spellsToken(text: string): boolean {
    return this.#added.spelled(text);
  }

  /** A text cut into added tokens and single characters. */
  atoms(text: string): string[] {
    const atoms: string[] = [];
    let done = 0;
    for (const { start, end } of this.#added.find(text, 0, text.length)) {
      atoms.push(...Array.from(text.slice(done, start)), text.slice(start, end));
      done = end;
    }
    return [...atoms, ...Array.from(text.slice(done))];
  }

  /** Ids of a text; nothing is added before or after. */
  encode(text: string, options: EncodeTextOptions = {}): number[] {
    return this.encodeSpans([{ kind: 'content', text }], options).ids;
  }

  /** Ids and labels of spans as of one text; see `SpanEncoder`. */
  encodeSpans(spans: readonly Span[], options: EncodeTextOptions = {}): Encoded {
    return this.#encoder.encode(spans, options);
  }

  /** UTF-8 bytes of a token; none for an id without a token (a model may have more rows than tokens). */
  bytesOf(id: number): Uint8Array {
    const token = this.#tokens[id];
    if (token === undefined) return new Uint8Array();
    return this.#addedIds.has(id) ? utf8.encode(token) : this.#decoder.bytesOf(token);
  }

  /** Whether decoding drops one blank at the very start, the mark of a first word (SentencePiece). */
  get stripsFirstBlank(): boolean {
    return this.#decoder.stripsFirstBlank;
  }
}

function asObject(value: unknown): JsonObject {
  return isObject(value)
    ? Object.fromEntries(Object.entries(value).filter(([, entry]) => entry !== null))
    : {};
}

/** A special token is written as its text or as `{"content": text, ...}`. */
function contentOf(token: unknown): string | undefined {
  const text = isObject(token) ? token['content'] : token;
  return typeof text === 'string' && text !== '' ? text : undefined;
}

/** `chat_template` is one template, or named ones: a list of `{name, template}`, or an object. */
function defaultTemplate(template: unknown): string | undefined {
  if (typeof template === 'string') return template;
  if (isObject(template)) return defaultTemplate(template['default']);
  if (!Array.isArray(template)) return undefined;
  const named = (template as unknown[]).find(
    (entry) => isObject(entry) && entry['name'] === 'default',
  );
  const source = isObject(named) ? named['template'] : undefined;
  return typeof source === 'string' ? source : undefined;
}
