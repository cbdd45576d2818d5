/** Memory that libraries take beside what an operator gives, of which meta kernels know nothing: by name and shapes. */

import type { Card } from './devices/cards.js';
import {
  queriesOf,
  sizeOf,
  type OperatorKind,
  type Queries,
  type Shapes,
} from './operator-kinds.js';

const NONE: readonly never[] = [];

/** Bytes that an operator takes while it runs, in blocks, when all that it gives is there. */
export function workspacesOf(kind: OperatorKind, shapes: Shapes): readonly number[] {
  if (!kind.sums) return NONE;
  if (!kind.isAttention) return [embeddingWorkspace(shapes)];
  const q = queriesOf(kind, shapes);
  if (q === null) return NONE;
  const blocks = attentionWorkspaces(q, shapes);
  return kind.isFlash ? blocks : [blocks.reduce((sum, bytes) => sum + bytes, 0)];
}

/**
 * Dot products of rows with their gradients, and the gradient of the queries, are summed in fp32. Where several heads share keys and values, each has
 * gradients of these of its own in 16 bits, until they are summed (mha_bwd and mha_varlen_bwd of flash_attn/flash_api.cpp; what cuDNN takes was
 * seen from peaks: 2026-11-29-plan-h200.md).
 */
function attentionWorkspaces(
  { rows, heads, length, size, sequences }: Queries,
  shapes: Shapes,
): number[] {
  const tokens = rows * length;
  // Each packed sequence has room for 128 more.
  const places = tokens + 128 * (sequences ?? 0);
  const ofHeads = 2 * tokens * heads * size;
  const sums = [4 * places * heads, 4 * places * heads * size];
  const isShared = shapes[2]?.[1] !== heads;
  return isShared ? [...sums, ofHeads, ofHeads] : sums;
}

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
  { isCublas, isFp8, isBiased }: OperatorKind,
  shapes: Shapes,
): readonly LibraryWorkspace[] {
  if (!isFp8 && !isCublas) return NONE;
  const bytes = computeCapability === 9 ? CUBLAS.hopper : CUBLAS.others;
  const cublas: LibraryWorkspace = { library: 'cuBLAS', bytes };
  const takesLt = isFp8 || (isBiased && shapes[0]?.length === 1);
  return takesLt ? [cublas, { library: 'cuBLASLt', bytes: CUBLAS_LT }] : [cublas];
}
