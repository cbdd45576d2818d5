/** PEFT's `adapter_config.json`: how strongly, and in which form, low-rank matrices count. */
import { z } from 'zod';

import { type ConfigSource, configError, count, or, readFields } from '../configs/read-config.js';

/** Settings of a LoRA adapter that its tensors do not show. */
export interface AdapterConfig {
  /** Of modules without a pattern; `undefined` where the tensors alone say it. */
  readonly rank?: number | undefined;
  /** Other ranks by pattern of module name. @default none */
  readonly rankPattern?: ReadonlyMap<string, number> | undefined;
  readonly alpha: number;
  /** Other alphas by pattern of module name. */
  readonly alphaPattern: ReadonlyMap<string, number>;
  readonly dropout: number;
  readonly rsLora: boolean;
  readonly dora: boolean;
}

const SCHEMA = z.object({
  peft_type: or(z.literal('LORA', 'is no adapter that Patina knows'), 'LORA'),
  r: count.nullish(),
  rank_pattern: or(z.record(z.string(), count), {}),
  // PEFT fails on one that is null: what was trained cannot be told.
  lora_alpha: z.number().default(8),
  alpha_pattern: or(z.record(z.string(), z.number()), {}),
  lora_dropout: or(z.number().min(0).lt(1), 0),
  use_rslora: or(z.boolean(), false),
  use_dora: or(z.boolean(), false),
});

/** Fields of PEFT's `LoraConfig` that change nothing that is computed here, or that the tensors and the readers of others answer for. */
const HARMLESS: ReadonlySet<string> = new Set([
  ...Object.keys(SCHEMA.shape),
  // where the adapter comes from
  ...['auto_mapping', 'base_model_name_or_path', 'inference_mode', 'peft_version', 'revision'],
  ...['runtime_config', 'task_type'],
  // which modules have tensors: the tensors say it
  ...['bias', 'exclude_modules', 'layers_pattern', 'layers_to_transform', 'modules_to_save'],
  ...['target_modules', 'ensure_weight_tying'],
  // settings of what is off, and of a start that leaves the base alone
  ...['eva_config', 'megatron_core', 'qalora_group_size'],
  // of ms-swift: its types and learning rates
  ...['lora_dtype', 'lorap_emb_lr', 'lorap_lr_ratio'],
]);

/** Starts that leave the weights beneath as they are: what is stored is all there is. */
const STARTS: readonly unknown[] = [true, false, 'gaussian', 'eva', 'orthogonal'];

/** What a field that says nothing holds. */
function isOff(value: unknown): boolean {
  if (value === null || value === undefined || value === false) return true;
  return typeof value === 'object' && Object.keys(value).length === 0;
}

/**
 * Refuses what is not known to be plain LoRA: variants have other names with every version of PEFT.
 *
 * @throws ConfigError `E_CONFIG`
 */
function refuseVariants(source: ConfigSource): void {
  for (const [field, value] of Object.entries(source.json as Record<string, unknown>)) {
    if (HARMLESS.has(field) || isOff(value)) continue;
    const given = (JSON.stringify(value) ?? '').slice(0, 80);
    if (field !== 'init_lora_weights') {
      const hint = 'Fold it into its model with PEFT (merge_and_unload), and use the model.';
      throw configError(
        source,
        field,
        `${given} is a variant of LoRA that Patina does not compute`,
        hint,
      );
    }
    if (STARTS.includes(value)) continue;
    throw configError(
      source,
      field,
      `${given} starts from a part of the weights beneath, which were changed by as much`,
      'Make it plain LoRA with PEFT: save_pretrained(..., path_initial_model_for_weight_conversion=...), or merge_and_unload.',
    );
  }
}

/** @throws ConfigError `E_CONFIG` for other methods than LoRA, rsLoRA and DoRA */
export function readAdapterConfig(source: ConfigSource): AdapterConfig {
  const fields = readFields(source, SCHEMA);
  refuseVariants(source);
  return {
    rank: fields.r ?? undefined,
    rankPattern: new Map(Object.entries(fields.rank_pattern)),
    alpha: fields.lora_alpha,
    alphaPattern: new Map(Object.entries(fields.alpha_pattern)),
    dropout: fields.lora_dropout,
    rsLora: fields.use_rslora,
    dora: fields.use_dora,
  };
}

/**
 * The alpha of a module.
 *
 * @param module its name in the model that was adapted
 * @throws ConfigError `E_CONFIG`
 */
export function alphaOf(config: AdapterConfig, module: string, file: string): number {
  return byPattern('alpha_pattern', config.alphaPattern, module, file) ?? config.alpha;
}

/**
 * Refuses a rank that the tensors have not: PEFT would make a module of the configured one, and not load them.
 *
 * @param rank of the module's tensors
 * @throws ConfigError `E_CONFIG`
 */
export function checkRank(config: AdapterConfig, module: string, rank: number, file: string): void {
  const other = byPattern('rank_pattern', config.rankPattern ?? new Map(), module, file);
  const configured = other ?? config.rank;
  if (configured === undefined || configured === rank) return;
  throw configError(
    { file, json: {} },
    other === undefined ? 'r' : 'rank_pattern',
    `${configured} is not the rank of the tensors of ${module}, ${rank}`,
    'Correct the field, or take the configuration that belongs to these tensors.',
  );
}

/** What a pattern says of a module: PEFT matches it with the end of its name. */
function byPattern(
  field: string,
  patterns: ReadonlyMap<string, number>,
  module: string,
  file: string,
): number | undefined {
  for (const [pattern, value] of patterns) {
    let matches: boolean;
    try {
      matches = new RegExp(`^(.*\\.)?(${pattern})$`).test(module);
    } catch {
      throw configError({ file, json: {} }, field, `"${pattern}" is no expression`);
    }
    if (matches) return value;
  }
  return undefined;
}
