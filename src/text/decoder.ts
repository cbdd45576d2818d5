/**
 * From ids to text: each token is bytes, and bytes become characters (UTF-8, what is invalid becomes
 * U+FFFD as in WHATWG's decoder and in Rust's `from_utf8_lossy`).
 *
 * One difference to Python: in a run of `<0x..>` tokens that is not valid UTF-8, Python marks every byte,
 * here what is valid in the run is kept, so that a stream never takes back what it gave.
 */
import { fallbackByte, unspellBytes } from './byte-tokens.js';
import { isObject, type JsonObject } from './json.js';
import { SPACE_MARK, unsupported } from './tokenizer-json.js';

export interface TokenDecoder {
  readonly bytesOf: (token: string) => Uint8Array;
  /** Whether one blank at the very start is the mark of a first word and not part of the text. */
  readonly stripsFirstBlank: boolean;
}

const utf8 = new TextEncoder();

/** Reads the `decoder` of a `tokenizer.json`; throws E_TOKENIZER_UNSUPPORTED on one that is not known. */
export function createDecoder(json: JsonObject): TokenDecoder {
  const decoder = json['decoder'];
  const stages =
    isObject(decoder) && decoder['type'] === 'Sequence' ? decoder['decoders'] : [decoder];
  if (!Array.isArray(stages)) throw unsupported('decoder', decoder);
  let marks = false;
  let fallback = false;
  let stripsFirstBlank = false;
  for (const stage of stages as unknown[]) {
    const { type, pattern, prepend_scheme, add_prefix_space, content, start, stop } = isObject(
      stage,
    )
      ? stage
      : {};
    if (type === 'ByteLevel' && stages.length === 1) {
      return { bytesOf: unspellBytes, stripsFirstBlank: false };
    } else if (type === 'Replace' && isObject(pattern) && pattern['String'] === SPACE_MARK) {
      if (content !== ' ') throw unsupported('decoder', stage);
      marks = true;
    } else if (type === 'ByteFallback') {
      fallback = true;
    } else if (type === 'Strip' && content === ' ' && start === 1 && stop === 0) {
      stripsFirstBlank = true;
    } else if (type === 'Metaspace') {
      marks = true;
      stripsFirstBlank = prepend_scheme !== 'never' && add_prefix_space !== false;
    } else if (type !== 'Fuse') {
      throw unsupported('decoder', stage);
    }
  }
  return {
    stripsFirstBlank,
    bytesOf(token) {
      const byte = fallback ? fallbackByte(token) : undefined;
      if (byte !== undefined) return Uint8Array.of(byte);
      return utf8.encode(marks ? token.replaceAll(SPACE_MARK, ' ') : token);
    },
  };
}
