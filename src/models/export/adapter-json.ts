/** PEFT's `adapter_config.json`: every module by its full name, with patterns where ranks or alphas differ. */
import { naturalOrder } from '../../formats/natural-order.js';
import type { AdaptedLayer } from '../load/attach-adapters.js';
import type { Json } from './model-json.js';

export interface AdapterFacts {
  readonly layers: readonly AdaptedLayer[];
  /** Modules that trained as a whole. */
  readonly saved: readonly string[];
  readonly dropout: number;
  readonly dora: boolean;
  readonly rsLora: boolean;
  /** Whether saved embeddings are the head too. @default false */
  readonly tied?: boolean;
  /** The model beneath: a path or a name on the hub. */
  readonly base: string | null;
}

export function adapterJson({
  layers,
  saved,
  dropout,
  dora,
  rsLora,
  base,
  tied = false,
}: AdapterFacts): Json {
  const sorted = layers.toSorted((a, b) => naturalOrder(a.path, b.path));
  const rank = mostFrequent(sorted.map((layer) => layer.rank));
  const alpha = mostFrequent(sorted.map((layer) => layer.alpha));
  const pattern = (field: 'rank' | 'alpha', usual: number): Json =>
    Object.fromEntries(
      sorted
        .filter((layer) => layer[field] !== usual)
        .map((layer) => [layer.path.replaceAll('.', '\\.'), layer[field]]),
    );
  return {
    alpha_pattern: pattern('alpha', alpha),
    auto_mapping: null,
    base_model_name_or_path: base,
    bias: 'none',
    ...(tied && { ensure_weight_tying: true }),
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha: alpha,
    lora_dropout: dropout,
    modules_to_save: saved.length === 0 ? null : saved,
    peft_type: 'LORA',
    r: rank,
    rank_pattern: pattern('rank', rank),
    target_modules: sorted.map(({ path }) => path),
    task_type: null,
    use_dora: dora,
    use_rslora: rsLora,
  };
}

function mostFrequent(values: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].reduce((best, each) => (each[1] > best[1] ? each : best), [0, 0])[0];
}
