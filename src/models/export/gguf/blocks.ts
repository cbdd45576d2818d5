/**
 * Rows of numbers as ggml's blocks of 32, and back: the roundings of `quantize_row_q8_0_ref` and `quantize_row_q4_0_ref`
 * (ggml-quants.c), to the bit.
 *
 *     q8_0: d = max|x| / 127,  q = round(x / d), halves away from zero      block: d as fp16, 32 signed bytes
 *     q4_0: d = m / -8 for m the x of largest size, the first of several    block: d as fp16, 16 bytes: q of elements
 *           q = min(15, trunc(x / d + 8.5))                                        0 to 15 in the low halves, 16 to 31 in the high ones
 *
 * Codes are made with d before it is rounded to fp16.
 */
import { GGML_TYPES, type GgmlTypeName } from '../../../formats/gguf/types.js';
import { arange, cat, noGrad, scope, type Tensor, where } from '../../../torch/index.js';

/** Elements of a block. */
export const BLOCK = 32;
/** Elements that are quantised at a time. */
const PIECE = 2 ** 22;

/** The types that are made of blocks. */
export type BlockType = Extract<GgmlTypeName, 'q8_0' | 'q4_0'>;

export function isBlockType(type: GgmlTypeName): type is BlockType {
  return GGML_TYPES[type].block === BLOCK;
}

/** The bytes of a dense fp32 tensor in blocks, a piece at a time. */
export function* blockPieces(tensor: Tensor, type: BlockType): IterableIterator<Uint8Array> {
  const quantise = type === 'q8_0' ? quantiseQ8 : quantiseQ4;
  for (let at = 0; at < tensor.numel; at += PIECE) {
    const count = Math.min(PIECE, tensor.numel - at);
    yield noGrad(() =>
      scope(() => quantise(tensor.view([-1]).narrow(0, at, count).view([-1, BLOCK])).toBytes()),
    );
  }
}

/** The numbers that blocks stand for: bytes (n, bytes of a block) to fp32 (n, 32). */
export function dequantise(bytes: Tensor, type: BlockType): Tensor {
  const scale = bytes.narrow(1, 0, 2).contiguous().viewAs('float16').to('float32');
  const codes = bytes.narrow(1, 2, bytes.size(1) - 2);
  if (type === 'q8_0') return codes.contiguous().viewAs('int8').to('float32').mul(scale);
  const numbers = codes.to('float32');
  const high = numbers.div(16).to('uint8').to('float32');
  const low = numbers.sub(high.mul(16));
  return cat([low, high], 1).sub(8).mul(scale);
}

function quantiseQ8(blocks: Tensor): Tensor {
  const scale = blocks.abs().amax([1], true).div(127);
  // In fp64 the half is added exactly.
  const scaled = blocks.mul(inverse(scale)).to('float64');
  const half = where(scaled.lt(0), scaled.fullLike(-0.5), scaled.fullLike(0.5));
  const codes = scaled.add(half).to('int8');
  return cat([halfBytes(scale), codes.viewAs('uint8')], 1);
}

function quantiseQ4(blocks: Tensor): Tensor {
  const rows = arange(0, blocks.size(0), 1, { dtype: 'int64' }).mul(BLOCK);
  const largest = blocks.abs().argmax(1);
  const scale = blocks.flatten().indexSelect(0, rows.add(largest)).div(-8).unsqueeze(1);
  const codes = blocks.mul(inverse(scale)).add(8.5).to('uint8').clamp(0, 15);
  const [low, high] = [codes.narrow(1, 0, BLOCK / 2), codes.narrow(1, BLOCK / 2, BLOCK / 2)];
  return cat([halfBytes(scale), low.add(high.mul(16))], 1);
}

/** 1 / d, and 0 where d is 0 or so small that this is no number. */
function inverse(scale: Tensor): Tensor {
  return scale
    .fullLike(1)
    .div(scale)
    .maskedFill(scale.abs().le(2 ** -128), 0);
}

function halfBytes(scale: Tensor): Tensor {
  return scale.to('float16').viewAs('uint8');
}
