/** Vision tower and projector as llama.cpp's multimodal library knows them (its `clip` architecture, names from gguf-py's constants.py). */
import { DataError } from '../../../base/errors.js';
import { gguf, type GgufValue } from '../../../formats/gguf/types.js';
import { LLAVA_PREFIXES } from '../../../formats/layouts/tables.js';
import type { StoredTensor } from '../../../formats/stored.js';
import type { ImageProcessor } from '../../configs/image-processor.js';
import { type LlavaConfig, patchesOf } from '../../configs/llava-config.js';
import { VISION_FAMILIES, type VisionFamily } from '../../configs/vision-families.js';
import type { GgufFileType } from '../export-options.js';
import type { GgufPlan } from './tensor-plan.js';

const MODULES: Readonly<Record<string, string>> = {
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.out_proj': 'attn_out',
  layer_norm1: 'ln1',
  layer_norm2: 'ln2',
  'mlp.fc1': 'ffn_up',
  'mlp.fc2': 'ffn_down',
};

/** Activations of a tower that it computes, the first two in one form, by tanh. */
const GELUS = ['gelu', 'gelu_pytorch_tanh', 'quick_gelu'];

const EMBEDDINGS: Readonly<Record<string, string>> = {
  'embeddings.class_embedding': 'v.class_embd',
  'embeddings.patch_embedding.weight': 'v.patch_embd.weight',
  'embeddings.patch_embedding.bias': 'v.patch_embd.bias',
  'embeddings.position_embedding.weight': 'v.position_embd.weight',
  'pre_layrnorm.weight': 'v.pre_ln.weight',
  'pre_layrnorm.bias': 'v.pre_ln.bias',
};

/**
 * Refuses what the library does not compute.
 *
 * @throws DataError `E_LAYOUT_LIMIT`
 */
export function checkMmproj({ vision, projector, featureLayer }: LlavaConfig): void {
  const { depth, select, hiddenAct } = projector;
  const { title, classToken } = VISION_FAMILIES[vision.family];
  const fault =
    depth > 2
      ? `a projector of ${depth} layers`
      : select !== patchesOf(vision)
        ? classToken
          ? 'a projector that sees the class token'
          : `a projector that does not see the first patch of ${title}`
        : depth === 2 && hiddenAct !== 'gelu'
          ? `a projector with ${hiddenAct}`
          : featureLayer === 0
            ? 'a tower without blocks'
            : !GELUS.includes(vision.hiddenAct)
              ? `a tower with ${vision.hiddenAct}`
              : undefined;
  if (fault === undefined) return;
  throw new DataError(`llama.cpp does not compute ${fault}.`, {
    code: 'E_LAYOUT_LIMIT',
    hint: 'Use --to hf.',
  });
}

/** Matrices of blocks and projector have the type, everything else is fp32, as llama.cpp's own converter keeps patches and positions. */
export function mmprojTensors(
  { featureLayer, projector }: LlavaConfig,
  tensors: ReadonlyMap<string, StoredTensor>,
  type: GgufFileType,
): GgufPlan[] {
  const plans = [...tensors].flatMap(([own, stored]): GgufPlan[] => {
    const name = mmprojName(own, featureLayer);
    if (name === undefined) return [];
    const { shape } = stored;
    const isMatrix = shape.length === 2 && !name.endsWith('_embd.weight');
    return [{ name, type: isMatrix ? type : 'f32', shape, from: { own, stored } }];
  });
  // The library adds the biases without asking whether they are there.
  const biases = projector.bias ? [] : Array.from({ length: projector.depth }, (_, i) => 2 * i);
  return [
    ...plans,
    ...biases.map((index): GgufPlan => {
      const values = new Float32Array(projector.textHiddenSize);
      return { name: `mm.${index}.bias`, type: 'f32', shape: [values.length], from: { values } };
    }),
  ];
}

/** The name in the file; undefined for what plays no part: layers beyond the one that is read, and the norm behind them. */
function mmprojName(own: string, featureLayer: number): string | undefined {
  if (own.startsWith(LLAVA_PREFIXES.projector)) {
    const inside = own.slice(LLAVA_PREFIXES.projector.length);
    return inside.replace(/^linear_(\d+)/, (_, n: string) => `mm.${2 * Number(n) - 2}`);
  }
  if (!own.startsWith(LLAVA_PREFIXES.vision)) return undefined;
  const inside = own.slice(LLAVA_PREFIXES.vision.length);
  const found = /^encoder\.layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(inside);
  if (found === null) return EMBEDDINGS[inside];
  const [layer, module, leaf] = found.slice(1) as [string, string, string];
  return Number(layer) < featureLayer ? `v.blk.${layer}.${MODULES[module]!}.${leaf}` : undefined;
}

/** What the file says of tower, projector and pictures. */
export function mmprojMetadata(
  { vision, featureLayer, projector }: LlavaConfig,
  { mean, std }: ImageProcessor,
): Map<string, GgufValue> {
  const entries: [string, GgufValue][] = [
    ['image_size', gguf.uint32(vision.imageSize)],
    ['patch_size', gguf.uint32(vision.patchSize)],
    ['embedding_length', gguf.uint32(vision.hiddenSize)],
    ['feed_forward_length', gguf.uint32(vision.intermediateSize)],
    ['projection_dim', gguf.uint32(projector.textHiddenSize)],
    ['block_count', gguf.uint32(featureLayer)],
    ['attention.head_count', gguf.uint32(vision.numAttentionHeads)],
    ['attention.layer_norm_epsilon', gguf.float32(vision.layerNormEps)],
    ['image_mean', gguf.float32s(mean)],
    ['image_std', gguf.float32s(std)],
    // Without it one block fewer runs than there are.
    ['feature_layer', gguf.int32s([featureLayer])],
  ];
  return new Map([
    ['general.architecture', gguf.string('clip')],
    ['general.type', gguf.string('mmproj')],
    ['clip.has_vision_encoder', gguf.bool(true)],
    ['clip.has_text_encoder', gguf.bool(false)],
    ['clip.has_llava_projector', gguf.bool(true)],
    ['clip.projector_type', gguf.string('mlp')],
    // The other choice, without it, is quick_gelu.
    ['clip.use_gelu', gguf.bool(vision.hiddenAct !== 'quick_gelu')],
    ...entries.map(([key, value]) => [`clip.vision.${key}`, value] as const),
  ]);
}

/** What llama.cpp does otherwise with the pictures of a tower; a file can mend the second of its faults with CLIP. */
export const TOWER_NOTES: Readonly<Record<VisionFamily, string>> = {
  clip: 'llama.cpp sees pictures otherwise than this model: it gives the class token of CLIP the last position in place of the first (ggml-org/llama.cpp#25814); that it runs a block too few (#25817) the file prevents.',
  siglip:
    'llama.cpp sees pictures otherwise than this model: it pads them to squares, where SigLIP squeezes them.',
};
