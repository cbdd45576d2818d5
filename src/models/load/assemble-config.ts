/** The configuration of a LLaVA from the files of its parts, whichever there are. */
import { LLAVA_PREFIXES } from '../../formats/layouts/tables.js';
import type { StoredTensor } from '../../formats/stored.js';
import { type DecoderConfig, readDecoderConfig } from '../configs/decoder-config.js';
import {
  DEFAULT_FEATURE_LAYER,
  featureLayerIndex,
  isHfConfig,
  isOfficialConfig,
  type LlavaConfig,
  officialVisionTower,
  patchesOf,
  readLlavaConfig,
  readOfficialConfig,
} from '../configs/llava-config.js';
import { type ProjectorConfig, readProjectorConfig } from '../configs/projector-config.js';
import { ConfigError, configError } from '../configs/read-config.js';
import { readVisionConfig } from '../configs/vision-config.js';
import { VISION_FAMILIES, visionFamilyOf } from '../configs/vision-families.js';
import { IMAGE_ID } from '../sample.js';
import type { ConfigFile } from './config-file.js';

export interface PartOptions {
  /** What messages call the model. */
  where: string;
  featureLayer?: number | undefined;
  select?: 'default' | 'full' | undefined;
  projectorDepth?: number | undefined;
  imageTokenId?: number | undefined;
  /** Whether there are adapters and nothing beneath. */
  isAdapter?: boolean;
  /**
   * Whether layer and strategy (else -2 and the patches) hold whatever the parts say: of XTuner's weights, which come without a
   * configuration, and of a checkpoint, which was trained so.
   */
  isDecided?: boolean;
}

export type ConfigKind = 'llava' | 'official' | 'vision' | 'projector' | 'decoder';

/** What a configuration describes. */
export function configKind({ json }: Pick<ConfigFile, 'json'>): ConfigKind {
  if (isOfficialConfig(json)) return 'official';
  const { model_type: type } = json;
  if (visionFamilyOf(type) !== undefined) return 'vision';
  if (type === 'projector') return 'projector';
  // Whatever else has both towers is a LLaVA or a relative, which its own reader tells apart.
  return isHfConfig(json) || 'vision_config' in json ? 'llava' : 'decoder';
}

function firstOf(configs: readonly ConfigFile[], kind: ConfigKind): ConfigFile | undefined {
  return configs.find((config) => configKind(config) === kind);
}

/** The tower that an official configuration names, if none of the other files describes one. */
export function officialTowerOf(
  configs: readonly ConfigFile[],
): { file: string; tower: string } | undefined {
  const official = firstOf(configs, 'official');
  if (official === undefined || firstOf(configs, 'llava') || firstOf(configs, 'vision')) {
    return undefined;
  }
  const tower = officialVisionTower(official);
  return tower === null ? undefined : { file: official.file, tower };
}

/**
 * @param tensors what the model's projector is told from where no file describes it
 * @throws ConfigError `E_CONFIG`, `E_NO_CONFIG`
 */
export function llavaConfigOf(
  configs: readonly ConfigFile[],
  tensors: ReadonlyMap<string, StoredTensor>,
  options: PartOptions,
): LlavaConfig {
  const config = withHeadAsStored(composed(configs, tensors, options), tensors);
  const { imageTokenId = config.imageTokenId, isDecided = false } = options;
  if (!isDecided) return { ...config, imageTokenId };
  const {
    featureLayer = DEFAULT_FEATURE_LAYER,
    select = patchesOf(config.vision),
    where,
  } = options;
  return {
    ...config,
    imageTokenId,
    featureLayer: featureLayerIndex(featureLayer, config.vision.numHiddenLayers, (reason) =>
      configError({ file: where, json: {} }, 'feature layer', reason),
    ),
    projector: { ...config.projector, select },
  };
}

/** Whether a tower comes with its pooling head its weights decide: the authors' code leaves it out, whatever its file says. */
function withHeadAsStored(
  config: LlavaConfig,
  tensors: ReadonlyMap<string, StoredTensor>,
): LlavaConfig {
  const { vision } = config;
  const isStored = (name: string): boolean => tensors.has(LLAVA_PREFIXES.vision + name);
  const { canPool } = VISION_FAMILIES[vision.family];
  if (!canPool || !isStored('embeddings.patch_embedding.weight')) return config;
  return { ...config, vision: { ...vision, poolingHead: isStored('head.probe') } };
}

/** The configuration of a decoder alone. @throws ConfigError `E_CONFIG`, `E_NO_CONFIG` */
export function decoderConfigOf(
  configs: readonly ConfigFile[],
  options: Pick<PartOptions, 'where' | 'isAdapter'>,
): DecoderConfig {
  return readDecoderConfig(firstOf(configs, 'decoder') ?? none(options, 'decoder', 'llm'));
}

function composed(
  configs: readonly ConfigFile[],
  tensors: ReadonlyMap<string, StoredTensor>,
  options: PartOptions,
): LlavaConfig {
  const { featureLayer = DEFAULT_FEATURE_LAYER } = options;
  const llava = firstOf(configs, 'llava');
  if (llava !== undefined) return readLlavaConfig(llava);
  const official = firstOf(configs, 'official');
  if (official === undefined && firstOf(configs, 'decoder') === undefined) {
    none(options, 'decoder', 'llm');
  }
  const visionFile = firstOf(configs, 'vision') ?? none(options, 'vision tower', 'vision');
  const vision = readVisionConfig(visionFile);
  if (official !== undefined) {
    return readOfficialConfig(official, vision, {
      attentionBias: attentionBias(tensors),
      qkNorm: tensors.has(`${FIRST_ATTENTION}.q_norm.weight`),
      projectorBias: projectorShape(tensors, options).bias,
    });
  }
  const text = decoderConfigOf(configs, options);
  const file = firstOf(configs, 'projector');
  const projector = file === undefined ? undefined : readProjectorConfig(file);
  for (const [field, size, wanted] of [
    ['visual_hidden_size', projector?.visualHiddenSize, vision.hiddenSize],
    ['llm_hidden_size', projector?.textHiddenSize, text.hiddenSize],
  ] as const) {
    if (size === undefined || size === wanted) continue;
    throw configError(file!, field, `${size} is not the hidden size of the part, ${wanted}`);
  }
  return {
    vision,
    featureLayer: featureLayerIndex(featureLayer, vision.numHiddenLayers, (reason) =>
      configError(visionFile, 'num_hidden_layers', reason),
    ),
    projector: {
      visualHiddenSize: vision.hiddenSize,
      textHiddenSize: text.hiddenSize,
      ...(projector ?? projectorShape(tensors, options)),
      select: options.select ?? patchesOf(vision),
    },
    text,
    imageTokenId: IMAGE_ID,
    tiles: null,
  };
}

/** Official folders call any decoder a Llama: a Qwen2 shows in its biases, a Qwen3 in its norms. */
const FIRST_ATTENTION = `${LLAVA_PREFIXES.decoder}layers.0.self_attn`;

function attentionBias(tensors: ReadonlyMap<string, StoredTensor>): DecoderConfig['attentionBias'] {
  return {
    qkv: tensors.has(`${FIRST_ATTENTION}.q_proj.bias`),
    out: tensors.has(`${FIRST_ATTENTION}.o_proj.bias`),
  };
}

const PROJECTOR_LAYER = /^linear_(\d+)\.(weight|bias)$/;

/** Depth and bias as the weights show them; two layers with bias where there are none. */
function projectorShape(
  tensors: ReadonlyMap<string, StoredTensor>,
  { projectorDepth = 2 }: PartOptions,
): Pick<ProjectorConfig, 'depth' | 'bias' | 'hiddenAct'> {
  const layers = [...tensors.keys()].flatMap((name) => {
    if (!name.startsWith(LLAVA_PREFIXES.projector)) return [];
    const [, layer, leaf] = PROJECTOR_LAYER.exec(name.slice(LLAVA_PREFIXES.projector.length)) ?? [];
    return layer === undefined ? [] : [{ layer: Number(layer), leaf }];
  });
  if (layers.length === 0) return { depth: projectorDepth, bias: true, hiddenAct: 'gelu' };
  return {
    depth: Math.max(...layers.map(({ layer }) => layer)),
    bias: layers.some(({ leaf }) => leaf === 'bias'),
    hiddenAct: 'gelu',
  };
}

function none(
  { where, isAdapter = false }: Pick<PartOptions, 'where' | 'isAdapter'>,
  part: string,
  option: string,
): never {
  if (isAdapter) {
    throw new ConfigError(`${where} is an adapter, and nothing says what it belongs to.`, {
      code: 'E_NO_CONFIG',
      hint: 'Name the model beneath it (--base).',
    });
  }
  throw new ConfigError(
    `${where}: nothing describes the ${part}: there is no config.json of one.`,
    {
      code: 'E_NO_CONFIG',
      hint: `Name the folder of the ${part} (--${option}).`,
    },
  );
}
