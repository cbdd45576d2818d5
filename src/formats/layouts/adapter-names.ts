/**
 * Names in PEFT adapters: `base_model.model.`, then the module as the adapted model names it, then the adapter's tensor.
 * In Patina that is the module by its own name, then `lora_A.weight`, `lora_B.weight` or `lora_magnitude_vector`.
 */

const PREFIX = 'base_model.model.';
/** The tensors of an adapter; state dicts put the adapter's own name (`default`) between. */
const LEAF =
  /\.(lora_A|lora_B|lora_magnitude_vector)(\.(?!weight$|bias$)[^.]+)?(\.weight|\.bias)?$/;

/** Whether a name, stored or Patina's own, is that of an adapter's tensor. */
export function isAdapterTensor(name: string): boolean {
  return LEAF.test(name);
}

/**
 * A stored name without PEFT's wrapping: `base_model.model.`, the adapter's name, and what surrounds modules that are
 * trained as a whole. It may stand behind a prefix, as in XTuner's `llm.base_model.model.`.
 */
export function unwrapAdapterName(stored: string): string {
  return stored
    .replace(PREFIX, '')
    .replace(/\.modules_to_save\.[^.]+\./, '.')
    .replace(/\.base_layer\.(?=weight$|bias$)/, '.')
    .replace(LEAF, (_, leaf: string, _adapter: unknown, suffix = '.weight') =>
      leaf === 'lora_magnitude_vector' ? `.${leaf}` : `.${leaf}${String(suffix)}`,
    );
}

/**
 * The name in PEFT's file for one in the adapted model: the weight and the bias beneath an adapter belong to its `base_layer`.
 *
 * @param layers that have an adapter and hold such weights. @default none
 */
export function peftName(name: string, layers: ReadonlySet<string> = new Set()): string {
  const leaf = name.lastIndexOf('.');
  const module = name.slice(0, leaf);
  const isBeneath = layers.has(module) && !isAdapterTensor(name);
  return PREFIX + (isBeneath ? `${module}.base_layer${name.slice(leaf)}` : name);
}
