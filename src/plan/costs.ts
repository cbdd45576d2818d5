/** How long a card takes for an operator, and which memory libraries take while it runs: by name and shapes. */

import { kindOfOperator, productOperations } from '../torch/index.js';
import type { Card } from './devices/cards.js';

type Shapes = readonly (readonly number[])[];

const FREE =
  /^aten::(?:empty|new_empty|as_strided|view|_unsafe_view|narrow|slice|select|split|unbind|transpose|t$|permute|expand|alias|detach|unsqueeze|squeeze|reshape|flatten|unflatten|resize_|set_|requires_grad|size|stride|result_type|is_|_has_|lift|record_stream|movedim|chunk|view_as|_reshape_alias)|^patina::(?:resize_storage|side_by_side)/;

const WHOLE = /^aten::_(?:foreach|fused)/;
const FP8_PRODUCT = 'patina::fp8_product';
const PRODUCTS = /^aten::(?:mm|addmm|bmm|baddbmm|addmm_)$/;

/** Seconds that any operator takes at least, and that lie before the next one. */
const KERNEL = 3e-6;
const GAP = 4e-6;

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

/** @param bytes that it reads, and that it makes */
export function costOf(
  card: Card,
  name: string,
  shapes: Shapes,
  { read, made }: { readonly read: number; readonly made: number },
): Cost {
  const reading = (read + made) / card.bandwidth;
  const isAttention = kindOfOperator(name) === 'attention';
  const operations = isAttention
    ? attentionOperations(name, shapes)
    : name === FP8_PRODUCT
      ? fp8Operations(shapes)
      : productOperations(name, shapes);
  if (operations === 0) return { time: GAP + Math.max(KERNEL, reading), operations };
  const rate = isAttention ? card.attention[isBackward(name) ? 1 : 0] : card.products;
  const speed =
    name === FP8_PRODUCT
      ? FP8_FACTOR
      : isFull(shapes, read)
        ? card.fullProducts / card.products
        : 1;
  return { time: GAP + Math.max(KERNEL, reading, operations / (rate * speed)), operations };
}

/** Whether elements have four bytes. */
function isFull(shapes: Shapes, bytes: number): boolean {
  const elements = shapes.reduce((sum, shape) => sum + sizeOf(shape), 0);
  return bytes > 3 * elements;
}

const sizeOf = (shape: readonly number[]): number =>
  shape.reduce((product, size) => product * size, 1);

/** How many times as fast as in bf16: 1,460 TFLOP/s for 680 on an H200 (2026-11-29-step-h200.md). */
const FP8_FACTOR = 2.15;

/** 2·N·K·O of rows (N, K) and weights (O, K). */
function fp8Operations([rows = [], weights = []]: Shapes): number {
  return 2 * sizeOf(rows) * (weights[0] ?? 0);
}

const isBackward = (name: string): boolean => name.includes('backward');

/** Of queries [B, H, T, D], or packed [T, H, D], causal where they are a decoder's: two products forward, five backward. */
function attentionOperations(name: string, shapes: Shapes): number {
  const q = queriesOf(name, shapes);
  if (q === null) return 0;
  const { rows, heads, length, size } = q;
  const forward = (4 * rows * heads * length * length * size) / 2;
  return isBackward(name) ? 2.5 * forward : forward;
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
  // Packed ones are counted as one row, which is more than there is; `longest` is no tensor.
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
