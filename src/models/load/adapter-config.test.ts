import { describe, expect, test } from 'vitest';

import { fixtureJson } from '../testing.js';
import { alphaOf, checkRank, readAdapterConfig } from './adapter-config.js';

const FILE = 'adapter_config.json';
/** As PEFT 0.21 writes it: all its fields. */
const PLAIN = fixtureJson('llama31-tied-small', 'adapter-lora-start', FILE);

const read = (fields: object) => readAdapterConfig({ file: FILE, json: { ...PLAIN, ...fields } });

describe('an adapter of PEFT', () => {
  test.each([
    {},
    { init_lora_weights: false },
    { init_lora_weights: 'gaussian' },
    { init_lora_weights: 'eva', eva_config: { rho: 2 } },
    { init_lora_weights: 'orthogonal' },
    { bias: 'all', layers_to_transform: [0], ensure_weight_tying: true, task_type: 'CAUSAL_LM' },
    { lora_dtype: 'bfloat16', lorap_emb_lr: 1e-6, lorap_lr_ratio: 16 },
    { a_field_of_tomorrow: null, another: false, more: {}, most: [] },
  ])('is plain with %j', (fields) => {
    expect(read(fields)).toMatchObject({ alpha: 16, rank: 8, rsLora: false, dora: false });
  });

  test('has an alpha of 8 where none is said, and none where it is null', () => {
    expect(read({ lora_alpha: undefined })).toMatchObject({ alpha: 8 });
    expect(() => read({ lora_alpha: null })).toThrow('lora_alpha');
  });

  test.each<[string, unknown]>([
    ['init_lora_weights', 'pissa'],
    ['init_lora_weights', 'pissa_niter_4'],
    ['init_lora_weights', 'olora'],
    ['init_lora_weights', 'corda'],
    ['init_lora_weights', 'loftq'],
    ['init_lora_weights', 'lora_ga'],
    ['init_lora_weights', 'mica'],
    ['init_lora_weights', 'a start of tomorrow'],
    ['alora_invocation_tokens', [1, 2]],
    ['corda_config', { cache_file: 'x' }],
    ['loftq_config', { loftq_bits: 4 }],
    ['lora_ga_config', { direction: 'ArBr' }],
    ['kasa_config', { beta: 1 }],
    ['arrow_config', { top_k: 3 }],
    ['lora_bias', true],
    ['fan_in_fan_out', true],
    ['trainable_token_indices', [3]],
    ['layer_replication', [[0, 1]]],
    ['a_field_of_tomorrow', 1],
    ['a_field_of_tomorrow', 'on'],
  ])('is refused with %s: %j, which is named', (field, value) => {
    expect(() => read({ [field]: value })).toThrow(
      expect.objectContaining({
        code: 'E_CONFIG',
        message: expect.stringContaining(`${FILE}: ${field}: ${JSON.stringify(value)}`) as string,
      }) as Error,
    );
  });
});

test('ranks and alphas go by patterns, and a rank has to be that of the tensors', () => {
  const config = read({ rank_pattern: { 'mlp.up_proj': 4 }, alpha_pattern: { up_proj: 2 } });
  const up = 'model.layers.0.mlp.up_proj';
  const query = 'model.layers.0.self_attn.q_proj';
  expect([alphaOf(config, up, FILE), alphaOf(config, query, FILE)]).toEqual([2, 16]);
  expect(() => checkRank(config, up, 4, FILE)).not.toThrow();
  expect(() => checkRank(config, query, 8, FILE)).not.toThrow();
  expect(() => checkRank(config, up, 8, FILE)).toThrow(/rank_pattern: 4 is not the rank of the/);
  expect(() => checkRank(config, query, 4, FILE)).toThrow(/: r: 8 is not the rank .*q_proj, 4/);
  expect(() => checkRank(read({ r: null }), query, 4, FILE)).not.toThrow();
  expect(() => checkRank(read({ rank_pattern: { '(': 4 } }), query, 4, FILE)).toThrow(
    expect.objectContaining({ code: 'E_CONFIG' }) as Error,
  );
});
