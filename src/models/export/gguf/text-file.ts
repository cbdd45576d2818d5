/**
 * A decoder as llama.cpp knows it: names, metadata, and the order of rows (its `llama`, `qwen2` and `qwen3` architectures; names from
 * gguf-py's constants.py).
 */
import { DataError } from '../../../base/errors.js';
import { gguf, type GgmlTypeName, type GgufValue } from '../../../formats/gguf/types.js';
import type { Prefixes } from '../../../formats/layouts/tables.js';
import type { StoredTensor } from '../../../formats/stored.js';
import { RotaryEmbedding, type RotaryOptions } from '../../../nn/index.js';
import { noGrad, scope } from '../../../torch/index.js';
import type { DecoderConfig } from '../../configs/decoder-config.js';
import type { DecoderFamily } from '../../configs/decoder-families.js';
import type { GgufFileType } from '../export-options.js';
import { type GgufPlan, matrixType } from './tensor-plan.js';

/** What llama.cpp calls the families, and whether its rotary turns neighbours. */
const ARCHITECTURES: Readonly<Record<DecoderFamily, { name: string; interleaved: boolean }>> = {
  llama: { name: 'llama', interleaved: true },
  mistral: { name: 'llama', interleaved: true },
  qwen2: { name: 'qwen2', interleaved: false },
  qwen3: { name: 'qwen3', interleaved: false },
};

const MODULES: Readonly<Record<string, string>> = {
  input_layernorm: 'attn_norm',
  'self_attn.q_proj': 'attn_q',
  'self_attn.k_proj': 'attn_k',
  'self_attn.v_proj': 'attn_v',
  'self_attn.o_proj': 'attn_output',
  'self_attn.q_norm': 'attn_q_norm',
  'self_attn.k_norm': 'attn_k_norm',
  post_attention_layernorm: 'ffn_norm',
  'mlp.gate_proj': 'ffn_gate',
  'mlp.up_proj': 'ffn_up',
  'mlp.down_proj': 'ffn_down',
};

/** Of a tensor, by its name within the decoder. */
function nameOf(inside: string): string {
  if (inside === 'embed_tokens.weight') return 'token_embd.weight';
  if (inside === 'norm.weight') return 'output_norm.weight';
  const found = /^layers\.(\d+)\.(.+)\.(weight|bias)$/.exec(inside)!;
  const [layer, module, leaf] = found.slice(1) as [string, string, string];
  return `blk.${layer}.${MODULES[module]!}.${leaf}`;
}

/** The decoder's tensors and the matrix to the vocabulary. */
export function textTensors(
  config: DecoderConfig,
  tensors: ReadonlyMap<string, StoredTensor>,
  { own, type }: { own: Prefixes & { readonly decoder: string }; type: GgufFileType },
): GgufPlan[] {
  const { interleaved } = ARCHITECTURES[config.family];
  const heads = (inside: string): number | undefined => {
    const [, projection] = /self_attn\.([qk])_proj\.(weight|bias)$/.exec(inside) ?? [];
    if (!interleaved || projection === undefined) return undefined;
    return projection === 'q' ? config.numAttentionHeads : config.numKeyValueHeads;
  };
  const plans: GgufPlan[] = [];
  const head = `${own.head!}weight`;
  for (const [name, stored] of tensors) {
    const isHead = name === head;
    if (!isHead && !name.startsWith(own.decoder)) continue;
    const inside = name.slice(own.decoder.length);
    const { shape } = stored;
    const isVocabulary = isHead || (config.tieWordEmbeddings && inside === 'embed_tokens.weight');
    plans.push({
      name: isHead ? 'output.weight' : nameOf(inside),
      type: shape.length === 1 ? 'f32' : matrixType(wanted(type, isVocabulary), shape),
      shape,
      from: { own: name, stored },
      heads: isHead ? undefined : heads(inside),
    });
  }
  const factors = rotaryFactors(config);
  if (factors !== undefined) {
    const shape = [factors.length];
    plans.push({ name: 'rope_freqs.weight', type: 'f32', shape, from: { values: factors } });
  }
  return plans;
}

/** The matrix to the vocabulary suffers most from 4 bits, which llama.cpp spares it too. */
function wanted(type: GgufFileType, isVocabulary: boolean): GgmlTypeName {
  return type === 'q4_0' && isVocabulary ? 'q8_0' : type;
}

/** By what llama.cpp divides each frequency, where they are scaled as in Llama 3.1. */
function rotaryFactors({ headDim, rotary }: DecoderConfig): Float32Array | undefined {
  if (rotary.scaling?.type !== 'llama3') return undefined;
  const plain = frequencies(headDim, { ...rotary, scaling: { type: 'default' } });
  const scaled = frequencies(headDim, rotary);
  return plain.map((frequency, i) => frequency / scaled[i]!);
}

function frequencies(headDim: number, options: RotaryOptions): Float32Array {
  const rotary = new RotaryEmbedding(headDim, options);
  try {
    rotary.placeBuffers('cpu');
    return noGrad(() =>
      scope(() => rotary.namedBuffers().get('inv_freq')!.toTypedArray() as Float32Array),
    );
  } finally {
    rotary.dispose();
  }
}

function refuseUnknown({ family, hiddenAct, attentionBias, rotary }: DecoderConfig): void {
  const { name } = ARCHITECTURES[family];
  const fault =
    hiddenAct !== 'silu'
      ? `a decoder with ${hiddenAct}`
      : name === 'qwen3' && attentionBias.qkv
        ? 'a Qwen3 with biases'
        : name !== 'llama' && rotary.scaling?.type === 'llama3'
          ? `a ${name} with frequencies scaled as Llama 3.1's`
          : undefined;
  if (fault === undefined) return;
  throw new DataError(`llama.cpp does not compute ${fault}.`, {
    code: 'E_LAYOUT_LIMIT',
    hint: 'Use --to hf.',
  });
}

/**
 * What the file says of the decoder.
 *
 * @throws DataError `E_LAYOUT_LIMIT` for what llama.cpp does not compute
 */
export function textMetadata(config: DecoderConfig): Map<string, GgufValue> {
  refuseUnknown(config);
  const { hiddenSize, numAttentionHeads, headDim, rotary } = config;
  const { name } = ARCHITECTURES[config.family];
  const entries: [string, GgufValue][] = [
    ['context_length', gguf.uint32(config.maxPositionEmbeddings)],
    ['embedding_length', gguf.uint32(hiddenSize)],
    ['block_count', gguf.uint32(config.numHiddenLayers)],
    ['feed_forward_length', gguf.uint32(config.intermediateSize)],
    ['attention.head_count', gguf.uint32(numAttentionHeads)],
    ['attention.head_count_kv', gguf.uint32(config.numKeyValueHeads)],
    ['attention.layer_norm_rms_epsilon', gguf.float32(config.rmsNormEps)],
    ['rope.freq_base', gguf.float32(rotary.theta ?? 10000)],
    ['rope.dimension_count', gguf.uint32(headDim)],
    ['vocab_size', gguf.uint32(config.vocabSize)],
  ];
  if (headDim * numAttentionHeads !== hiddenSize) {
    entries.push(
      ['attention.key_length', gguf.uint32(headDim)],
      ['attention.value_length', gguf.uint32(headDim)],
    );
  }
  if (rotary.scaling?.type === 'linear') {
    entries.push(
      ['rope.scaling.type', gguf.string('linear')],
      ['rope.scaling.factor', gguf.float32(rotary.scaling.factor)],
    );
  }
  return new Map([
    ['general.architecture', gguf.string(name)],
    ['general.type', gguf.string('model')],
    ...entries.map(([key, value]) => [`${name}.${key}`, value] as const),
  ]);
}

/** What llama.cpp computes otherwise, a sentence each. */
export function textNotes({ slidingWindow, maxPositionEmbeddings }: DecoderConfig): string[] {
  if (slidingWindow === null || slidingWindow >= maxPositionEmbeddings) return [];
  return [
    `llama.cpp attends to all positions, where this decoder looks back ${slidingWindow}: answers differ beyond that.`,
  ];
}
