/** PEFT's `adapter_config.json` for adapters from any layout. */
import { DataError } from '../../base/errors.js';
import { isAdapterTensor } from '../../formats/layouts/adapter-names.js';
import { partOf } from '../../formats/layouts/rename.js';
import { LLAVA_PREFIXES, type Prefixes } from '../../formats/layouts/tables.js';
import { naturalOrder } from '../../formats/natural-order.js';
import type { StoredTensor } from '../../formats/stored.js';
import { alphaOf } from '../load/adapter-config.js';
import type { AssembledAdapter } from '../load/assemble.js';
import type { Json } from './model-json.js';

const LORA_A = /^(.+)\.lora_A\.weight$/;

/**
 * PEFT's settings for these tensors: every module by its full name, with patterns where ranks or alphas differ.
 *
 * @throws DataError `E_ADAPTER_FORM` where one adapter cannot say it
 */
export function peftConfig(
  adapters: readonly AssembledAdapter[],
  tensors: ReadonlyMap<string, StoredTensor>,
  { own = LLAVA_PREFIXES, base = null }: { own?: Prefixes; base?: string | null } = {},
): Json {
  const forms = new Set(adapters.map(({ config: { dora, rsLora } }) => `${dora} ${rsLora}`));
  if (forms.size > 1) {
    throw form('the adapters are of different forms (DoRA, rsLoRA)', 'Merge one of them first.');
  }
  const modules = adapters.flatMap(({ config, file, tensors: each }) =>
    [...each].flatMap(([name, { shape }]) => {
      const path = LORA_A.exec(name)?.[1];
      return path === undefined
        ? []
        : [{ path, rank: shape[0] ?? 0, alpha: alphaOf(config, path, file) }];
    }),
  );
  modules.sort((a, b) => naturalOrder(a.path, b.path));
  const rank = mostFrequent(modules.map((module) => module.rank));
  const alpha = mostFrequent(modules.map((module) => module.alpha));
  const pattern = (field: 'rank' | 'alpha', usual: number): Json =>
    Object.fromEntries(
      modules
        .filter((module) => module[field] !== usual)
        .map((module) => [module.path.replaceAll('.', '\\.'), module[field]]),
    );
  const saved = [...tensors.keys()].filter((name) => !isAdapterTensor(name));
  const { config } = adapters[0]!;
  return {
    alpha_pattern: pattern('alpha', alpha),
    auto_mapping: null,
    base_model_name_or_path: base,
    bias: 'none',
    fan_in_fan_out: false,
    inference_mode: true,
    init_lora_weights: true,
    lora_alpha: alpha,
    lora_dropout: config.dropout,
    modules_to_save:
      saved.length === 0 ? null : [...new Set(saved.map((name) => moduleOf(name, own)))],
    peft_type: 'LORA',
    r: rank,
    rank_pattern: pattern('rank', rank),
    target_modules: modules.map(({ path }) => path),
    task_type: null,
    use_dora: config.dora,
    use_rslora: config.rsLora,
  };
}

/** The module that is saved as a whole when this tensor of it trained. */
function moduleOf(name: string, own: Prefixes): string {
  const part = partOf(name, own);
  if (part === 'projector' || part === 'head')
    return own[part]!.replace(/\.$/, '').replace(/^model\./, '');
  const leaf = name.lastIndexOf('.');
  return name.slice(0, leaf);
}

function mostFrequent(values: readonly number[]): number {
  const counts = new Map<number, number>();
  for (const value of values) counts.set(value, (counts.get(value) ?? 0) + 1);
  return [...counts].reduce((best, each) => (each[1] > best[1] ? each : best), [0, 0])[0];
}

function form(what: string, hint: string): DataError {
  return new DataError(`One PEFT adapter cannot hold this: ${what}.`, {
    code: 'E_ADAPTER_FORM',
    hint,
  });
}
