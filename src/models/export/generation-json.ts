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
 * @param ends tokens on which answers end, whatever the files say
 */
export function generationConfig(
  found: Readonly<Json> | undefined,
  text: Readonly<Json>,
  ends: readonly number[] = [],
): Json {
  const ids = Object.fromEntries(
    ['bos_token_id', 'eos_token_id', 'pad_token_id']
      .filter((field) => (text[field] ?? null) !== null)
      .map((field) => [field, text[field]]),
  );
  if (found === undefined) {
    const made = { _from_model_config: true, ...ids, transformers_version: TRANSFORMERS_VERSION };
    return withEnds(made, ends);
  }
  const kept = Object.entries(found).filter(
    ([field, value]) =>
      value !== null && (found['do_sample'] === true || !SAMPLING.includes(field)),
  );
  const json = { ...ids, ...Object.fromEntries(kept), transformers_version: TRANSFORMERS_VERSION };
  return withEnds(json, ends);
}

/** `generate` stops at any of several: at those that are named, and at those on which answers were taught to end. */
function withEnds(json: Json, ends: readonly number[]): Json {
  const named = [json['eos_token_id'] ?? []].flat() as unknown[];
  const all = [...new Set([...named, ...ends])];
  if (all.length === named.length) return json;
  return { ...json, eos_token_id: all.length === 1 ? all[0] : all };
}
