/**
 * The special tokens that a tokenizer puts around every text: `post_processor` of `tokenizer.json`, which transformers 5 takes as
 * it stands there. Chat templates write theirs themselves, if they do; a model's processor adds these where they do not.
 */
import { isObject, type JsonObject } from './json.js';
import { broken, unsupported } from './tokenizer-json.js';

/** Ids before and after a text. */
export interface SpecialFrame {
  readonly before: readonly number[];
  readonly after: readonly number[];
}

const NOTHING: SpecialFrame = { before: [], after: [] };

/** Throws E_TOKENIZER_BROKEN and E_TOKENIZER_UNSUPPORTED. */
export function readSpecialFrame(processor: unknown, field = 'post_processor'): SpecialFrame {
  if (processor === null || processor === undefined) return NOTHING;
  if (!isObject(processor)) throw broken(field, processor, 'an object');
  switch (processor['type']) {
    case 'ByteLevel':
      return NOTHING;
    case 'Sequence': {
      const list = processor['processors'];
      if (!Array.isArray(list)) throw broken(`${field}.processors`, list, 'a list');
      return (list as unknown[])
        .map((each, i) => readSpecialFrame(each, `${field}.processors[${i}]`))
        .reduce(
          (inner, outer) => ({
            before: [...outer.before, ...inner.before],
            after: [...inner.after, ...outer.after],
          }),
          NOTHING,
        );
    }
    case 'TemplateProcessing':
      return templateFrame(processor, field);
    default:
      throw unsupported(field, processor['type']);
  }
}

/** `[{"SpecialToken": ...}, {"Sequence": {"id": "A"}}, ...]` */
function templateFrame(
  { single, special_tokens: tokens }: JsonObject,
  field: string,
): SpecialFrame {
  if (!Array.isArray(single)) throw broken(`${field}.single`, single, 'a list');
  const pieces = (single as unknown[]).map((piece, i): number[] | 'text' => {
    if (isObject(piece) && isObject(piece['Sequence'])) return 'text';
    const special = isObject(piece) ? piece['SpecialToken'] : undefined;
    const name = isObject(special) ? String(special['id']) : undefined;
    const token = isObject(tokens) && name !== undefined ? tokens[name] : undefined;
    const ids = isObject(token) ? token['ids'] : undefined;
    if (Array.isArray(ids) && ids.every((id) => Number.isSafeInteger(id))) return ids as number[];
    throw broken(`${field}.single[${i}]`, piece, 'the text or a special token with ids');
  });
  const text = pieces.indexOf('text');
  if (text < 0 || pieces.lastIndexOf('text') !== text) {
    throw broken(`${field}.single`, single, 'the text once');
  }
  return {
    before: pieces.slice(0, text).flat() as number[],
    after: pieces.slice(text + 1).flat() as number[],
  };
}
