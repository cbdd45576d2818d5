/** The small files of a model's folder, written in one form. */
import { jsonText } from '../../base/json-text.js';
import { isJsonObject } from '../../formats/strict-json.js';
import type { Json } from './model-json.js';

/** A file beside the weights: copied from a path, or text. */
export interface Companion {
  readonly name: string;
  readonly content: string | { readonly path: string };
}

/** What Python prints for "no limit", 10^30 as a float, which JSON here would write as `1e+30`. */
const NO_LIMIT = /(?<=: )1e\+30(?=,?$)/gm;

/** Fields that Python's strict readers want as floats even where they are whole. */
const FLOATS =
  /"(attention_dropout|initializer_(?:factor|range)|(?:rms_norm|layer_norm)_eps|rope_theta|(?:low_freq_|high_freq_)?factor|temperature|(?:top|min|typical)_p|\w+_penalty|\w+_cutoff|guidance_scale|lora_dropout)": (-?\d[\d.e+-]*)/g;

/** A configuration as transformers writes it: keys in order, floats spelt as Python does. */
export function configText(value: Json): string {
  return pythonJson(sorted(value) as Json).replace(
    FLOATS,
    (_, field: string, number: string) => `"${field}": ${pythonFloat(Number(number))}`,
  );
}

/** JSON as Python writes it, keys in their order. */
export function pythonJson(value: Json): string {
  return jsonText(value).replace(NO_LIMIT, String(BigInt(1e30)));
}

/** Python's `repr`: a point in whole numbers, an exponent of two digits below 1e-4. */
function pythonFloat(value: number): string {
  const size = Math.abs(value);
  if (Number.isInteger(value) && size < 1e16) return `${value}.0`;
  if (size >= 1e-4 && size < 1e16) return String(value);
  return value.toExponential().replace(/e([+-])(\d)$/, 'e$10$2');
}

function sorted(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(sorted);
  if (!isJsonObject(value)) return value;
  return Object.fromEntries(
    Object.keys(value)
      .sort()
      .map((key) => [key, sorted(value[key])]),
  );
}
