import { describe, expect, test } from 'vitest';

import { readVisionConfig } from './vision-config.js';
import { readDecoderConfig } from './decoder-config.js';
import { imageFeatures, readLlavaConfig, readOfficialConfig } from './llava-config.js';
import { readProjectorConfig } from './projector-config.js';
import { ConfigError } from './read-config.js';

const decoder = (json: unknown) => readDecoderConfig({ file: 'config.json', json });
const clip = (json: unknown) => readVisionConfig({ file: 'config.json', json });
const llava = (json: unknown) => readLlavaConfig({ file: 'config.json', json });
const official = (json: object) =>
  readOfficialConfig(
    { file: 'config.json', json: { mm_vision_select_layer: -2, ...json } },
    clip({}),
  );

describe('decoders', () => {
  test('missing fields take the defaults of each family', () => {
    expect(decoder({})).toMatchObject({
      family: 'llama',
      vocabSize: 32000,
      hiddenSize: 4096,
      intermediateSize: 11008,
      numHiddenLayers: 32,
      numAttentionHeads: 32,
      numKeyValueHeads: 32,
      headDim: 128,
      hiddenAct: 'silu',
      rmsNormEps: 1e-6,
      rotary: { theta: 10000, scaling: { type: 'default' } },
      attentionBias: { qkv: false, out: false },
      tieWordEmbeddings: false,
      slidingWindow: null,
    });
    expect(decoder({ model_type: 'mistral' })).toMatchObject({
      intermediateSize: 14336,
      numKeyValueHeads: 8,
      slidingWindow: 4096,
    });
    expect(decoder({ model_type: 'qwen2' })).toMatchObject({
      vocabSize: 151936,
      intermediateSize: 22016,
      attentionBias: { qkv: true, out: false },
      slidingWindow: null,
    });
    expect(decoder({ model_type: 'qwen3' })).toMatchObject({
      vocabSize: 151936,
      headDim: 128,
      attentionBias: { qkv: false, out: false },
      qkNorm: true,
    });
  });

  test('null is a missing field, except where it has a meaning', () => {
    const nulls = { rope_scaling: null, head_dim: null, pad_token_id: null, rms_norm_eps: null };
    expect(decoder(nulls)).toEqual(decoder({}));
    const mistral = { model_type: 'mistral', sliding_window: null, num_key_value_heads: null };
    expect(decoder(mistral)).toMatchObject({ slidingWindow: null, numKeyValueHeads: 32 });
  });

  test('biases are those of the family', () => {
    const biased = { attention_bias: true, mlp_bias: true };
    expect(decoder(biased)).toMatchObject({
      attentionBias: { qkv: true, out: true },
      mlpBias: true,
    });
    expect(decoder({ ...biased, model_type: 'qwen2' })).toMatchObject({
      attentionBias: { qkv: true, out: false },
      mlpBias: false,
    });
    expect(decoder({ ...biased, model_type: 'qwen3' })).toMatchObject({
      attentionBias: { qkv: true, out: true },
      mlpBias: false,
    });
  });

  test('what the weights show counts where no field says', () => {
    const hints = { attentionBias: { qkv: true, out: false } };
    const read = (json: unknown) => readDecoderConfig({ file: 'config.json', json }, hints);
    expect(read({}).attentionBias).toEqual(hints.attentionBias);
    expect(read({ attention_bias: false }).attentionBias).toEqual({ qkv: false, out: false });
    expect(read({ model_type: 'mistral' }).attentionBias).toEqual({ qkv: false, out: false });
  });

  test('a window counts for Qwen2 only where some layer uses it', () => {
    const window = { model_type: 'qwen2', use_sliding_window: true, sliding_window: 100 };
    expect(decoder(window).slidingWindow).toBe(100);
    expect(decoder({ ...window, max_window_layers: 32 }).slidingWindow).toBeNull();
    const full = Array.from({ length: 32 }, () => 'full_attention');
    expect(decoder({ ...window, layer_types: full }).slidingWindow).toBeNull();
  });

  test('padding ids count from either end', () => {
    expect(decoder({ pad_token_id: 0 }).paddingIndex).toBe(0);
    expect(decoder({ pad_token_id: -1 }).paddingIndex).toBe(31999);
  });
});

describe('rotary positions', () => {
  const llama3 = {
    factor: 8,
    low_freq_factor: 1,
    high_freq_factor: 4,
    original_max_position_embeddings: 8192,
  };
  const scaling = {
    type: 'llama3',
    factor: 8,
    lowFreqFactor: 1,
    highFreqFactor: 4,
    originalMaxPositionEmbeddings: 8192,
  };

  test.each([
    ['old', { rope_theta: 5e5, rope_scaling: { type: 'llama3', ...llama3 } }],
    [
      'old with the new type',
      { rope_theta: 5e5, rope_scaling: { rope_type: 'llama3', ...llama3 } },
    ],
    ['new', { rope_parameters: { rope_type: 'llama3', rope_theta: 5e5, ...llama3 } }],
    ['mixed', { rope_theta: 5e5, rope_parameters: { rope_type: 'llama3', ...llama3 } }],
    [
      'both, the old one wins',
      {
        rope_theta: 5e5,
        rope_scaling: { type: 'llama3', ...llama3 },
        rope_parameters: { factor: 2 },
      },
    ],
  ])('%s spelling', (_name, json) => {
    expect(decoder(json).rotary).toEqual({ theta: 5e5, scaling });
  });

  test('the inner theta wins, an empty object is none', () => {
    const json = { rope_theta: 1, rope_scaling: {}, rope_parameters: { rope_theta: 2 } };
    expect(decoder(json).rotary).toEqual({ theta: 2, scaling: { type: 'default' } });
  });

  test('the original length defaults to the longest position', () => {
    const rest = { factor: 8, low_freq_factor: 1, high_freq_factor: 4 };
    const json = { max_position_embeddings: 777, rope_scaling: { type: 'llama3', ...rest } };
    expect(decoder(json).rotary.scaling).toMatchObject({ originalMaxPositionEmbeddings: 777 });
  });

  test('linear scaling', () => {
    const { rotary } = decoder({ rope_scaling: { type: 'linear', factor: 4 } });
    expect(rotary.scaling).toEqual({ type: 'linear', factor: 4 });
  });
});

describe('CLIP', () => {
  test('alone, as a part of a whole CLIP model, with the old second copy', () => {
    const fields = { hidden_size: 64, num_attention_heads: 4, image_size: 56, patch_size: 14 };
    const alone = clip({ model_type: 'clip_vision_model', ...fields });
    expect(alone).toMatchObject({ hiddenSize: 64, imageSize: 56, layerNormEps: 1e-5 });
    expect(clip({ model_type: 'clip', vision_config: fields })).toEqual(alone);
    const old = {
      model_type: 'clip',
      vision_config: { hidden_size: 1 },
      vision_config_dict: fields,
    };
    expect(clip(old)).toEqual(alone);
    expect(clip({ ...fields, image_size: [56, 56] })).toEqual(alone);
  });

  test('defaults', () => {
    expect(clip({})).toMatchObject({ hiddenSize: 768, numHiddenLayers: 12, imageSize: 224 });
  });
});

describe('SigLIP', () => {
  const fields = { hidden_size: 64, num_attention_heads: 4, image_size: 56, patch_size: 14 };

  test('alone, and as a part of a whole SigLIP model', () => {
    const alone = clip({ model_type: 'siglip_vision_model', ...fields });
    expect(alone).toMatchObject({ family: 'siglip', hiddenSize: 64, imageSize: 56 });
    const inside = { ...fields, model_type: 'siglip_vision_model' };
    expect(clip({ model_type: 'siglip', vision_config: inside, text_config: {} })).toEqual(alone);
  });

  test('defaults', () => {
    expect(clip({ model_type: 'siglip_vision_model' })).toMatchObject({
      ...{ hiddenSize: 768, numHiddenLayers: 12, imageSize: 224, patchSize: 16 },
      ...{ hiddenAct: 'gelu_pytorch_tanh', layerNormEps: 1e-6 },
    });
  });

  test.each([
    ['clip_vision_model', 'default', 16],
    ['clip_vision_model', 'full', 17],
    ['siglip_vision_model', 'default', 15],
    ['siglip_vision_model', 'full', 16],
  ])('of %s a projector that sees %s makes %i features of 16 patches', (type, select, features) => {
    const config = llava({
      model_type: 'llava',
      vision_config: { model_type: type, ...fields },
      vision_feature_select_strategy: select,
    });
    expect(imageFeatures(config)).toBe(features);
  });

  test("the patches are all that the authors' code knows of it", () => {
    const vision = clip({ model_type: 'siglip_vision_model' });
    const json = { mm_vision_select_layer: -2, mm_vision_select_feature: 'patch' };
    expect(readOfficialConfig({ file: 'config.json', json }, vision)).toMatchObject({
      projector: { select: 'full' },
    });
  });
});

describe('LLaVA', () => {
  test('the oldest files name hardly anything', () => {
    const config = llava({ model_type: 'llava', text_config: { vocab_size: 32064 } });
    expect(config).toMatchObject({
      featureLayer: 23,
      imageTokenId: 32000,
      vision: { hiddenSize: 1024, imageSize: 336, numHiddenLayers: 24 },
      projector: { visualHiddenSize: 1024, textHiddenSize: 4096, depth: 2, select: 'default' },
      text: { vocabSize: 32064, intermediateSize: 11008 },
    });
  });

  test('tied embeddings are named at the top or below, the token in two ways, the layer as a list', () => {
    const json = {
      model_type: 'llava',
      tie_word_embeddings: true,
      image_token_id: 7,
      vision_feature_layer: [3],
    };
    expect(llava(json)).toMatchObject({
      text: { tieWordEmbeddings: true },
      imageTokenId: 7,
      featureLayer: 3,
    });
  });

  test('a LLaVA-OneVision that names nothing is the one of 7B', () => {
    const config = llava({ model_type: 'llava_onevision', text_config: { vocab_size: 152128 } });
    expect(config).toMatchObject({
      featureLayer: 26,
      imageTokenId: 151646,
      vision: { family: 'siglip', hiddenSize: 1152, numHiddenLayers: 26, poolingHead: false },
      projector: { select: 'full' },
      text: { family: 'qwen2', vocabSize: 152128 },
      tiles: { max: 9, size: 384, patches: 27 },
    });
    const { pinpoints } = config.tiles!;
    expect(pinpoints.length).toBe(36);
    expect(pinpoints[1]).toEqual({ height: 384, width: 768 });
    const other = { vision_aspect_ratio: 'anyres_max_4', image_grid_pinpoints: [[384, 768]] };
    expect(llava({ model_type: 'llava_onevision', ...other }).tiles).toMatchObject({
      max: 4,
      pinpoints: [{ height: 384, width: 768 }],
    });
  });

  test("the authors' file", () => {
    const vision = clip({ hidden_size: 1024, num_attention_heads: 16, num_hidden_layers: 24 });
    const json = {
      model_type: 'llava',
      hidden_size: 4096,
      mm_vision_tower: 'openai/clip',
      mm_hidden_size: 1024,
      mm_projector_type: 'mlp3x_gelu',
      mm_vision_select_layer: -1,
      mm_vision_select_feature: 'cls_patch',
    };
    expect(readOfficialConfig({ file: 'config.json', json }, vision)).toMatchObject({
      featureLayer: 24,
      projector: { depth: 3, select: 'full', bias: true },
      text: { family: 'llama' },
      imageTokenId: -200,
    });
  });

  test('what the weights of the authors show, and a layer written as a list', () => {
    const json = { mm_vision_select_layer: [-2] };
    const hints = { projectorBias: false, attentionBias: { qkv: true, out: false } };
    expect(readOfficialConfig({ file: 'config.json', json }, clip({}), hints)).toMatchObject({
      featureLayer: 11,
      projector: { bias: false },
      text: { attentionBias: { qkv: true, out: false } },
    });
    const source = { file: 'config.json', json: { ...json, model_type: 'llava_llama' } };
    expect(readOfficialConfig(source, clip({}), { qkNorm: true })).toMatchObject({
      text: { family: 'qwen3', qkNorm: true },
    });
  });

  test("XTuner's projector", () => {
    const json = { model_type: 'projector', visual_hidden_size: 3, llm_hidden_size: 5, depth: 1 };
    expect(readProjectorConfig({ file: 'config.json', json })).toEqual({
      visualHiddenSize: 3,
      textHiddenSize: 5,
      depth: 1,
      hiddenAct: 'gelu',
      bias: true,
      select: 'default',
    });
  });
});

describe('what cannot be is refused by file and field', () => {
  test.each<[string, () => unknown, RegExp]>([
    [
      'an unknown decoder',
      () => decoder({ model_type: 'phi3' }),
      /config\.json: model_type: "phi3"/,
    ],
    ['text for a number', () => decoder({ hidden_size: 'big' }), /config\.json: hidden_size: /],
    ['absurd sizes', () => decoder({ hidden_size: 1e12 }), /config\.json: hidden_size: .*1048576/],
    [
      'more layers than can be made',
      () => decoder({ num_hidden_layers: 1e9 }),
      /config\.json: num_hidden_layers: .*1000/,
    ],
    ['more layers of the tower', () => clip({ num_hidden_layers: 1e9 }), /num_hidden_layers/],
    [
      'more layers of the projector',
      () => official({ mm_projector_type: 'mlp9999999999x_gelu' }),
      /mm_projector_type/,
    ],
    [
      'a quantised LLaVA',
      () => llava({ model_type: 'llava', quantization_config: { bits: 4 } }),
      /config\.json: quantization_config/,
    ],
    [
      'heads that do not divide',
      () => decoder({ num_attention_heads: 7 }),
      /num_attention_heads: 7/,
    ],
    ['groups that do not divide', () => decoder({ num_key_value_heads: 5 }), /num_key_value_heads/],
    ['odd heads', () => decoder({ head_dim: 3 }), /head_dim: 3/],
    ['an unknown activation', () => decoder({ hidden_act: 'relu2' }), /hidden_act/],
    ['quantised weights', () => decoder({ quantization_config: {} }), /quantization_config/],
    [
      'weights of GPTQ',
      () => decoder({ quantization_config: { quant_method: 'gptq', bits: 4 } }),
      /quantised \("gptq"\), .*NF4/,
    ],
    [
      'weights in 8 bits',
      () => decoder({ quantization_config: { quant_method: 'bitsandbytes', load_in_8bit: true } }),
      /quantised \("int8"\)/,
    ],
    [
      'weights in FP4',
      () => decoder({ quantization_config: { quant_method: 'bitsandbytes', load_in_4bit: true } }),
      /quantised \("fp4"\)/,
    ],
    ['dropped attention', () => decoder({ attention_dropout: 0.1 }), /attention_dropout: 0\.1/],
    ['a padding id outside', () => decoder({ pad_token_id: 32000 }), /pad_token_id: 32000/],
    [
      'unknown scaling',
      () => decoder({ rope_scaling: { type: 'yarn', factor: 2 } }),
      /rope_scaling\.type: .*"yarn"/,
    ],
    [
      'scaling without its factor',
      () => decoder({ rope_parameters: { rope_type: 'linear' } }),
      /rope_parameters\.factor/,
    ],
    [
      'positions by layer',
      () => decoder({ rope_parameters: { full_attention: { rope_type: 'default' } } }),
      /rope_parameters\.full_attention/,
    ],
    [
      'part of a head',
      () => decoder({ partial_rotary_factor: 0.5 }),
      /partial_rotary_factor: 0\.5/,
    ],
    ['another tower', () => clip({ model_type: 'dinov2' }), /"dinov2"/],
    ['oblong images', () => clip({ image_size: [1, 2] }), /image_size: 1 x 2/],
    ['a patch over the image', () => clip({ patch_size: 300 }), /patch_size: 300/],
    ['another model', () => llava({ model_type: 'llava_next_video' }), /model_type/],
    [
      'tiles in parts',
      () => llava({ model_type: 'llava_next', image_grid_pinpoints: [[336, 500]] }),
      /image_grid_pinpoints: 336 x 500 pixels are not of whole tiles/,
    ],
    [
      'no tiles',
      () => llava({ model_type: 'llava_next', image_grid_pinpoints: [] }),
      /image_grid_pinpoints/,
    ],
    [
      'a class token among tiles',
      () => llava({ model_type: 'llava_next', vision_feature_select_strategy: 'full' }),
      /vision_feature_select_strategy: "full"/,
    ],
    ...['anyres', 'anyres_max_0', 'anyres_max_9.5', 'pad', 'anyres_max_'].map(
      (given): [string, () => unknown, RegExp] => [
        `tiles by ${given}`,
        () => llava({ model_type: 'llava_onevision', vision_aspect_ratio: given }),
        new RegExp(`vision_aspect_ratio: "${given}" is no "anyres_max_N"`),
      ],
    ),
    [
      'tiles in parts, of a LLaVA-OneVision',
      () => llava({ model_type: 'llava_onevision', image_grid_pinpoints: [[384, 385]] }),
      /image_grid_pinpoints: 384 x 385 pixels are not of whole tiles/,
    ],
    [
      'so many tiles in a line that none of a narrow picture is left',
      () =>
        llava({
          ...{ model_type: 'llava_onevision', vision_aspect_ratio: 'anyres_max_1' },
          image_grid_pinpoints: [[384, 384 * 28]],
        }),
      /image_grid_pinpoints: 28 tiles in a line/,
    ],
    [
      'several layers of a LLaVA-OneVision',
      () => llava({ model_type: 'llava_onevision', vision_feature_layer: [-1, -2] }),
      /vision_feature_layer: \[-1, -2\]/,
    ],
    [
      'a class token that is not there',
      () => llava({ model_type: 'llava_onevision', vision_feature_select_strategy: 'default' }),
      /vision_feature_select_strategy: "default"/,
    ],
    [
      'a field within',
      () => llava({ model_type: 'llava', vision_config: { hidden_size: -1 } }),
      /config\.json: vision_config\.hidden_size/,
    ],
    [
      'a layer that is not there',
      () => llava({ model_type: 'llava', vision_feature_layer: -26 }),
      /vision_feature_layer: .* no hidden state -26/,
    ],
    [
      'several layers',
      () => llava({ model_type: 'llava', vision_feature_layer: [-2, -5] }),
      /vision_feature_layer: \[-2, -5\]/,
    ],
    ['tiles', () => official({ image_aspect_ratio: 'anyres' }), /image_aspect_ratio: "anyres"/],
    ['an unknown projector', () => official({ mm_projector_type: 'qformer' }), /mm_projector_type/],
    ['no object', () => decoder([]), /config\.json/],
  ])('%s', (_name, read, message) => {
    expect(read).toThrow(ConfigError);
    expect(read).toThrow(message);
  });
});
