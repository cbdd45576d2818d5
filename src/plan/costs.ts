/** How long a card takes for an operator, and which memory libraries take while it runs: by name and shapes. */

import { kindOfOperator, productOperations } from '../torch/index.js';
import type { Card } from './devices/cards.js';

type Shapes = readonly (readonly number[])[];

const FREE =
  /^(?:aten::)?detach$|^aten::(?:empty|new_empty|as_strided|view|_unsafe_view|narrow|slice|select|split|unbind|transpose|t$|permute|expand|alias|detach|unsqueeze|squeeze|reshape|flatten|unflatten|resize_|set_|requires_grad|size|stride|result_type|is_|_has_|lift|record_stream|movedim|chunk|view_as|_reshape_alias)|^patina::(?:resize_storage|side_by_side)/;

const WHOLE = /^aten::_(?:foreach|fused)/;
const FP8_PRODUCT = 'patina::fp8_product';
const PRODUCTS = /^aten::(?:mm|addmm|bmm|baddbmm|addmm_)$/;

/** Seconds that any operator takes at least, and that lie before the next one (2026-11-29-kernels-h200.md). */
const KERNEL = 2e-6;
const GAP = 1.4e-6;
/** That a product takes beside its operations: its first and last tiles (the same). */
const PRODUCT = 4e-6;

export interface Cost {
  /** Seconds. */
  readonly time: number;
  /** Operations of matrix products and attention. */
  readonly operations: number;
}

/** What is known of an operator by its name. */
export interface CostKind {
  /** It only looks at memory in another way, or takes it. */
  readonly isFree: boolean;
  /** One call to the card, though on meta it is many. */
  readonly isWhole: boolean;
  /** It is cuBLAS'. */
  readonly takesProducts: boolean;
}

const kinds = new Map<string, CostKind>();

export function costKindOf(name: string): CostKind {
  let kind = kinds.get(name);
  if (kind === undefined) {
    const [isFree, isWhole, takesProducts] = [FREE, WHOLE, PRODUCTS].map((re) => re.test(name));
    kind = { isFree: isFree!, isWhole: isWhole!, takesProducts: takesProducts! };
    kinds.set(name, kind);
  }
  return kind;
}

/** Bytes of the arguments of an operator, of those among them that it overwrites, and of what it made. */
export interface Traffic {
  readonly read: number;
  readonly overwritten: number;
  readonly made: number;
}

/** The sum of the squares of the lengths of so many sequences that have so many tokens together. */
export type SquaresOf = (tokens: number, sequences: number) => number;

export function costOf(
  card: Card,
  name: string,
  shapes: Shapes,
  traffic: Traffic,
  squaresOf: SquaresOf,
): Cost {
  const bytes = bytesMoved(name, traffic);
  if (kindOfOperator(name) === 'attention') {
    const { operations, length, size } = attentionOf(name, shapes, squaresOf);
    const rate = attentionRate(card, name, { length, size });
    const reading = bytes / card.bandwidth;
    return { time: GAP + Math.max(KERNEL, reading, operations / rate), operations };
  }
  const products = name === FP8_PRODUCT ? fp8Operations(shapes) : productOperations(name, shapes);
  if (products > 0) {
    const reading = bytes / (card.bandwidth * THIN);
    const time = PRODUCT + products / productRate(card, name, isFull(shapes, traffic.read));
    return { time: GAP + Math.max(reading, time), operations: products };
  }
  const share = isSlow(name, shapes, traffic.read) ? SLOW : 1;
  const dropped = droppedOperations(name, shapes, traffic.made) / (card.fullProducts * DROPPED);
  const reading = bytes / (card.bandwidth * share);
  return { time: GAP + Math.max(KERNEL, reading, dropped), operations: 0 };
}

/** What only fills its argument does not read it; what picks rows reads those alone. */
const FILLS =
  /::(?:copy_|fill_|zero_|overwrite_|normal_|nf4_dequantise_|_foreach_copy_|round_stochastic_|index_fill_)$/;
const PICKS = /::(?:index_select|embedding|gather)$/;

function bytesMoved(name: string, { read, overwritten, made }: Traffic): number {
  if (PICKS.test(name)) return 2 * made;
  if (name === 'aten::index_copy_') return 2 * (read - overwritten);
  return read + made + (FILLS.test(name) ? 0 : overwritten);
}

/**
 * Share of the bandwidth of those that reduce rows or lists of tensors, of libtorch's fused AdamW, of rounding at random, and of elements of several sizes
 * (2026-11-29-kernels-h200.md: 2.1 to 2.9 TB/s for 3.5 to 4.2 of the others).
 */
const SLOW = 0.62;
const SLOW_NAMES =
  /_fused_adamw_|round_stochastic|foreach_norm|layer_norm|_fused_rms_norm|cross_entropy|softmax|::sum$|::index/;
/** The same of products that are bound by memory, LoRA's: 40 ms of 105 GB (2026-11-29-step-h200.md). */
const THIN = 0.7;

function isSlow(name: string, shapes: Shapes, read: number): boolean {
  if (SLOW_NAMES.test(name)) return true;
  const mean = read / elementsOf(shapes);
  const isMixed = Math.abs(mean - 2 ** Math.round(Math.log2(mean))) > 0.01 * mean;
  return name.startsWith('aten::') && isMixed;
}

function productRate(card: Card, name: string, full: boolean): number {
  if (name === FP8_PRODUCT) return FP8_FACTOR * card.products;
  return full ? card.fullProducts : card.products;
}

/** Whether elements have four bytes. */
function isFull(shapes: Shapes, bytes: number): boolean {
  return bytes > 3 * elementsOf(shapes);
}

/** Of all tensors that stand alone. */
function elementsOf(shapes: Shapes): number {
  return shapes.reduce((sum, shape) => sum + (shape.length === 0 ? 0 : sizeOf(shape)), 0);
}

const sizeOf = (shape: readonly number[]): number =>
  shape.reduce((product, size) => product * size, 1);

/** How many times as fast as in bf16: 1,460 TFLOP/s for 712 on an H200 (2026-11-29-step-h200.md). */
const FP8_FACTOR = 2.05;

/** 2·N·K·O of rows (N, K) and weights (O, K). */
function fp8Operations([rows = [], weights = []]: Shapes): number {
  return 2 * sizeOf(rows) * (weights[0] ?? 0);
}

/** Of the rate of fp32, where a mask is drawn for each adapter: 28 ms more for 0.65 TFLOP (`lora dropout`, 2026-11-29-plan-h200.md). */
const DROPPED = 0.46;

/** 2·N·K·R of inputs (N, K) and adapters of R ranks together; 0 of all else. */
function droppedOperations(name: string, shapes: Shapes, made: number): number {
  const [first = [], second = []] = shapes;
  const rows = first[0] ?? 1;
  switch (name) {
    case 'patina::dropped_product': // x (N, K), made: (N, R) in 16 bits
      return (2 * sizeOf(first) * made) / 2 / rows;
    case 'patina::dropped_gradients': // dz (N, R), x (N, K)
    case 'patina::add_dropped_': // self (N, K), dz (N, R)
      return (2 * sizeOf(first) * sizeOf(second)) / rows;
    default:
      return 0;
  }
}

const isBackward = (name: string): boolean => name.includes('backward');

/** Lengths at which attention runs at half of what it comes to where rows are long: tiles on the diagonal are half empty. */
const HALF = { cudnn: [900, 1030], flash: [770, 770] } as const;
/** What FlashAttention 2 comes to of that, by 250 TFLOP/s both ways (the same). */
const FLASH = [0.38, 0.51] as const;
/** A tower's heads of 64 see all keys: twice the operations, at two thirds of the speed (2026-11-29-kernels-h200.md: 31 us for 254 by the others). */
const SMALL_HEADS = { upTo: 80, share: 0.34 };

function attentionRate(
  card: Card,
  name: string,
  { length, size }: { readonly length: number; readonly size: number },
): number {
  const way = isBackward(name) ? 1 : 0;
  const isFlash = name.includes('_flash_');
  const half = HALF[isFlash ? 'flash' : 'cudnn'][way];
  const kernel = (isFlash ? FLASH[way] : 1) * (size > SMALL_HEADS.upTo ? 1 : SMALL_HEADS.share);
  return (kernel * card.attention[way]) / (1 + half / length);
}

/** Two products forward, five backward, causal: of rows of one length, or of packed ones by the squares of theirs. */
function attentionOf(
  name: string,
  shapes: Shapes,
  squaresOf: SquaresOf,
): { operations: number; length: number; size: number } {
  const q = queriesOf(name, shapes);
  if (q === null) return { operations: 0, length: 1, size: 1 };
  const { rows, heads, length, size } = q;
  const ends = shapes[isBackward(name) ? 6 : 3]?.[0] ?? 0;
  const isPacked = shapes[isBackward(name) ? 1 : 0]!.length === 3;
  const squares = isPacked ? squaresOf(length, Math.max(1, ends - 1)) : rows * length ** 2;
  const forward = (4 * heads * squares * size) / 2;
  return {
    operations: isBackward(name) ? 2.5 * forward : forward,
    length: squares / (rows * length),
    size,
  };
}

interface Queries {
  readonly rows: number;
  readonly heads: number;
  readonly length: number;
  readonly size: number;
}

function queriesOf(name: string, shapes: Shapes): Queries | null {
  const q = shapes[isBackward(name) ? 1 : 0];
  if (q === undefined) return null;
  const [a, b, c, d] = q as [number, number, number, number | undefined];
  return d === undefined
    ? { rows: 1, heads: b, length: a, size: c }
    : { rows: a, heads: b, length: c, size: d };
}

/** Bytes that an operator takes while it runs, in blocks beside what it gives, which is there before them; meta kernels know nothing of them. */
export function workspacesOf(name: string, shapes: Shapes): readonly number[] {
  if (name === 'aten::embedding_dense_backward') return [embeddingWorkspace(shapes)];
  if (!/_(?:cudnn|flash)_attention_backward/.test(name)) return NONE;
  const q = queriesOf(name, shapes);
  if (q === null) return NONE;
  const blocks = attentionWorkspaces(q, shapes);
  return name.includes('cudnn') ? [sum(blocks)] : blocks;
}

/**
 * Dot products of rows with their gradients, and the gradient of the queries, are summed in fp32. Where several heads share keys and values, each has
 * gradients of these of its own in 16 bits, until they are summed (mha_bwd and mha_varlen_bwd of flash_attn/flash_api.cpp; what cuDNN takes was
 * seen from peaks: 2026-11-29-plan-h200.md).
 */
function attentionWorkspaces({ rows, heads, length, size }: Queries, shapes: Shapes): number[] {
  const tokens = rows * length;
  const [, , keys = [], , , , ends] = shapes;
  // Each packed sequence has room for 128 more.
  const places = tokens + (keys.length === 3 ? 128 * (ends![0]! - 1) : 0);
  const ofHeads = 2 * tokens * heads * size;
  const sums = [4 * places * heads, 4 * places * heads * size];
  return keys[1] === heads ? sums : [...sums, ofHeads, ofHeads];
}

const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);

/**
 * Sums in fp32 of up to ten tokens each, of which there may be one more for every token: that is how many are taken, whatever tokens come
 * (max_partial_segment of ATen/native/cuda/EmbeddingBackwardKernel.cu, where the table has no fewer rows than there are tokens).
 */
function embeddingWorkspace([gradient = [], indices = []]: Shapes): number {
  const tokens = sizeOf(indices);
  return 4 * (Math.floor(tokens / 10) + tokens) * (gradient.at(-1) ?? 0);
}

/** Memory that a library takes with its first call from a thread in a stream, and keeps. */
export interface LibraryWorkspace {
  readonly library: 'cuBLAS' | 'cuBLASLt';
  /** Bytes. */
  readonly bytes: number;
}

/** Of 9.0 alone (parseChosenWorkspaceSize), and of all others. */
const CUBLAS = { hopper: 32 * 2 ** 20, others: 8_519_680 };
/** parseCUDABlasLtWorkspaceSize */
const CUBLAS_LT = 2 ** 20;

/**
 * What an operator makes libraries take: a handle of cuBLAS is a thread's, and has a workspace in each stream; products with a bias and
 * those in fp8 are cuBLASLt's, which has one more (ATen/cuda/CublasHandlePool.cpp, gemm_and_bias of CUDABlas.cpp).
 */
export function libraryWorkspaces(
  { computeCapability }: Card,
  name: string,
  shapes: Shapes,
): readonly LibraryWorkspace[] {
  const isFp8 = name === FP8_PRODUCT;
  if (!isFp8 && !costKindOf(name).takesProducts) return NONE;
  const bytes = computeCapability === 9 ? CUBLAS.hopper : CUBLAS.others;
  const cublas: LibraryWorkspace = { library: 'cuBLAS', bytes };
  const isBiased = name === 'aten::addmm' && shapes[0]?.length === 1;
  return isFp8 || isBiased ? [cublas, { library: 'cuBLASLt', bytes: CUBLAS_LT }] : [cublas];
}

const NONE: readonly never[] = [];
