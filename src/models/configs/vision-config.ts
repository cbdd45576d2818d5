/** The configuration of the vision tower of CLIP or SigLIP, alone or within the whole model, with the defaults of transformers. */
import { z } from 'zod';

import {
  activationName,
  configError,
  type ConfigSource,
  expectOneOf,
  jsonObject,
  layerCount,
  or,
  readFields,
  size,
  within,
} from './read-config.js';
import { VISION_FAMILIES, type VisionFamily, visionFamilyOf } from './vision-families.js';

export interface VisionConfig {
  readonly family: VisionFamily;
  readonly hiddenSize: number;
  readonly intermediateSize: number;
  readonly numHiddenLayers: number;
  readonly numAttentionHeads: number;
  readonly numChannels: number;
  /** Pixels along each side of an image. */
  readonly imageSize: number;
  /** Pixels along each side of a patch. */
  readonly patchSize: number;
  readonly hiddenAct: string;
  readonly layerNormEps: number;
  /** Whether there is a head that pools the patches: SigLIP's, which LLaVA does not compute. */
  readonly poolingHead: boolean;
  /** Of a CLIP that is trained from scratch: standard deviation of patches and positions. */
  readonly initializerRange: number;
  /** Of all the standard deviations of a CLIP. */
  readonly initializerFactor: number;
}

/** A number, or the same number for both sides. */
const side = z.union([size, z.tuple([size, size])]);

const schemaOf = (family: VisionFamily) => {
  const { defaults } = VISION_FAMILIES[family];
  return z.object({
    hidden_size: or(size, 768),
    intermediate_size: or(size, 3072),
    num_hidden_layers: or(layerCount, 12),
    num_attention_heads: or(size, 12),
    num_channels: or(z.literal(3, 'images have 3 channels here'), 3),
    image_size: or(side, 224),
    patch_size: or(side, defaults.patch_size),
    hidden_act: or(activationName, defaults.hidden_act),
    layer_norm_eps: or(z.number().positive(), defaults.layer_norm_eps),
    vision_use_head: or(z.boolean(), true),
    initializer_range: or(z.number().positive(), 0.02),
    initializer_factor: or(z.number().positive(), 1),
  });
};

const SCHEMAS = { clip: schemaOf('clip'), siglip: schemaOf('siglip') };

const WHOLE = z.object({
  model_type: or(z.string(), 'clip_vision_model'),
  vision_config: or(jsonObject, {}),
  vision_config_dict: or(jsonObject, null),
});

/** @throws ConfigError `E_CONFIG` */
export function readVisionConfig(source: ConfigSource): VisionConfig {
  const whole = readFields(source, WHOLE);
  const family = visionFamilyOf(whole.model_type);
  if (family === undefined) {
    throw configError(
      source,
      'model_type',
      `"${whole.model_type}" is no vision tower that Patina computes`,
      'Use a CLIP or SigLIP model.',
    );
  }
  if (whole.model_type !== family) return readTower(source, family);
  // Old files repeat the tower's fields here, and transformers believes these.
  const name = whole.vision_config_dict === null ? 'vision_config' : 'vision_config_dict';
  return readTower(within(source, name, whole[name]), family);
}

function readTower(source: ConfigSource, family: VisionFamily): VisionConfig {
  expectOneOf(source, 'attention_dropout', [0], 'drops attention weights, which Patina does not');
  const fields = readFields(source, SCHEMAS[family]);
  const { hidden_size: hidden, num_attention_heads: heads } = fields;
  if (hidden % heads !== 0) {
    throw configError(
      source,
      'num_attention_heads',
      `${heads} does not divide hidden_size ${hidden}`,
    );
  }
  const imageSize = square(source, 'image_size', fields.image_size);
  const patchSize = square(source, 'patch_size', fields.patch_size);
  if (patchSize > imageSize) {
    throw configError(source, 'patch_size', `${patchSize} is larger than image_size ${imageSize}`);
  }
  return {
    family,
    hiddenSize: hidden,
    intermediateSize: fields.intermediate_size,
    numHiddenLayers: fields.num_hidden_layers,
    numAttentionHeads: heads,
    numChannels: fields.num_channels,
    imageSize,
    patchSize,
    hiddenAct: fields.hidden_act,
    layerNormEps: fields.layer_norm_eps,
    poolingHead: VISION_FAMILIES[family].canPool && fields.vision_use_head,
    initializerRange: fields.initializer_range,
    initializerFactor: fields.initializer_factor,
  };
}

function square(source: ConfigSource, field: string, value: z.output<typeof side>): number {
  if (typeof value === 'number') return value;
  if (value[0] !== value[1]) {
    throw configError(source, field, `${value[0]} x ${value[1]} is not square`);
  }
  return value[0];
}
