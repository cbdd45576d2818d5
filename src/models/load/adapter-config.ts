/** PEFT's `adapter_config.json`: how strongly, and in which form, low-rank matrices count. */
import { z } from 'zod';

import {
  type ConfigSource,
  configError,
  expectOneOf,
  or,
  readFields,
} from '../configs/read-config.js';

/** Settings of a LoRA adapter that its tensors do not show. */
export interface AdapterConfig {
  readonly alpha: number;
  /** Other alphas by pattern of module name. */
  readonly alphaPattern: ReadonlyMap<string, number>;
  readonly dropout: number;
  readonly rsLora: boolean;
  readonly dora: boolean;
}

const SCHEMA = z.object({
  peft_type: or(z.literal('LORA', 'is no adapter that Patina knows'), 'LORA'),
  lora_alpha: or(z.number(), 8),
  alpha_pattern: or(z.record(z.string(), z.number()), {}),
  lora_dropout: or(z.number().min(0).lt(1), 0),
  use_rslora: or(z.boolean(), false),
  use_dora: or(z.boolean(), false),
});

/** Variants of LoRA that compute something else. */
const VARIANTS = [
  'lora_bias',
  'fan_in_fan_out',
  'use_qalora',
  'use_bdlora',
  'layer_replication',
  'target_parameters',
  'trainable_token_indices',
  'megatron_config',
];

/** @throws ConfigError `E_CONFIG` for other methods than LoRA, rsLoRA and DoRA */
export function readAdapterConfig(source: ConfigSource): AdapterConfig {
  const fields = readFields(source, SCHEMA);
  for (const field of VARIANTS) {
    expectOneOf(source, field, [false], 'is a variant of LoRA that Patina does not compute');
  }
  return {
    alpha: fields.lora_alpha,
    alphaPattern: new Map(Object.entries(fields.alpha_pattern)),
    dropout: fields.lora_dropout,
    rsLora: fields.use_rslora,
    dora: fields.use_dora,
  };
}

/**
 * The alpha of a module: PEFT matches a pattern with the end of its name.
 *
 * @param module its name in the model that was adapted
 * @throws ConfigError `E_CONFIG`
 */
export function alphaOf(config: AdapterConfig, module: string, file: string): number {
  for (const [pattern, alpha] of config.alphaPattern) {
    let matches: boolean;
    try {
      matches = new RegExp(`^(.*\\.)?(${pattern})$`).test(module);
    } catch {
      throw configError({ file, json: {} }, 'alpha_pattern', `"${pattern}" is no expression`);
    }
    if (matches) return alpha;
  }
  return config.alpha;
}
