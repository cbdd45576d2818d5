/** `generation_config.json`: what a model's own folder says, else what follows from its special tokens. */
import { type Json, TRANSFORMERS_VERSION } from './model-json.js';

/** What has a meaning only where `do_sample` is true; transformers warns of them elsewhere. */
const SAMPLING = [
  'temperature',
  'top_p',
  'top_k',
  'top_h',
  'min_p',
  'typical_p',
  'epsilon_cutoff',
  'eta_cutoff',
];

/**
 * @param text the decoder's configuration, for the special tokens
 * @param endOfTurn what ends an answer in the chat template, on which generation has to stop too
 */
export function generationConfig(
  found: Readonly<Json> | undefined,
  text: Readonly<Json>,
  endOfTurn?: number,
): Json {
  const ids = Object.fromEntries(
    ['bos_token_id', 'eos_token_id', 'pad_token_id']
      .filter((field) => (text[field] ?? null) !== null)
      .map((field) => [field, text[field]]),
  );
  if (found === undefined) {
    return {
      _from_model_config: true,
      ...withEnd(ids, endOfTurn),
      transformers_version: TRANSFORMERS_VERSION,
    };
  }
  const kept = Object.entries(found).filter(
    ([field, value]) =>
      value !== null && (found['do_sample'] === true || !SAMPLING.includes(field)),
  );
  return {
    ...withEnd({ ...ids, ...Object.fromEntries(kept) }, endOfTurn),
    transformers_version: TRANSFORMERS_VERSION,
  };
}

/** A generation configuration that stops on a token, beside those that it stops on. */
function withEnd(config: Readonly<Json>, end: number | undefined): Json {
  const ends = [config['eos_token_id'] ?? []].flat();
  if (end === undefined || ends.includes(end)) return { ...config };
  return { ...config, eos_token_id: ends.length === 0 ? end : [...ends, end] };
}
