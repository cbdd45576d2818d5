/** How long a card takes for an operator: by its name, its shapes, and the bytes that it moves. */

import { productOperations } from '../torch/index.js';
import type { Card } from './devices/cards.js';
import {
  operatorKind,
  queriesOf,
  sizeOf,
  type OperatorKind,
  type Queries,
  type Shapes,
} from './operator-kinds.js';

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
  const kind = operatorKind(name);
  const bytes = bytesMoved(name, kind, traffic);
  if (kind.isAttention) {
    const q = queriesOf(kind, shapes);
    const { operations, seconds } = q === null ? NOTHING : attentionTime(card, kind, q, squaresOf);
    return { time: GAP + Math.max(KERNEL, bytes / card.bandwidth, seconds), operations };
  }
  const products = kind.isFp8 ? fp8Operations(shapes) : productOperations(name, shapes);
  if (products > 0) {
    const reading = bytes / (card.bandwidth * THIN);
    const time = PRODUCT + products / productRate(card, kind, isFull(shapes, traffic.read));
    return { time: GAP + Math.max(reading, time), operations: products };
  }
  const share = kind.isSlow || isMixed(name, shapes, traffic.read) ? SLOW : 1;
  const dropped = droppedOperations(name, shapes, traffic.made) / (card.fullProducts * DROPPED);
  const reading = bytes / (card.bandwidth * share);
  return { time: GAP + Math.max(KERNEL, reading, dropped), operations: 0 };
}

const NOTHING = { operations: 0, seconds: 0 };

function bytesMoved(
  name: string,
  { fills, picks }: OperatorKind,
  { read, overwritten, made }: Traffic,
): number {
  if (picks) return 2 * made;
  if (name === 'aten::index_copy_') return 2 * (read - overwritten);
  return read + made + (fills ? 0 : overwritten);
}

/**
 * Share of the bandwidth of those that reduce rows or lists of tensors, of libtorch's fused AdamW, of rounding at random, and of elements of several sizes
 * (2026-11-29-kernels-h200.md: 2.1 to 2.9 TB/s for 3.5 to 4.2 of the others).
 */
const SLOW = 0.62;
/** The same of products that are bound by memory, LoRA's: 40 ms of 105 GB (2026-11-29-step-h200.md). */
const THIN = 0.7;

/** Whether libtorch's own kernel has elements of several sizes. */
function isMixed(name: string, shapes: Shapes, read: number): boolean {
  const mean = read / elementsOf(shapes);
  const isOdd = Math.abs(mean - 2 ** Math.round(Math.log2(mean))) > 0.01 * mean;
  return isOdd && name.startsWith('aten::');
}

function productRate(card: Card, { isFp8 }: OperatorKind, full: boolean): number {
  if (isFp8) return FP8_FACTOR * card.products;
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

/** How many times as fast as in bf16: 1,460 TFLOP/s for 712 on an H200 (2026-11-29-step-h200.md). */
const FP8_FACTOR = 2.05;

/** 2·N·K·O of rows (N, K) and weights (O, K). */
function fp8Operations([rows = [], weights = []]: Shapes): number {
  return 2 * sizeOf(rows) * (weights[0] ?? 0);
}

/** Of the rate of fp32, where a mask is drawn for each adapter: 27 to 35 TFLOP/s of 48 (2026-11-29-plan-warm-h200.md). */
const DROPPED = 0.65;

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

/** Lengths at which attention runs at half of what it comes to where rows are long: tiles on the diagonal are half empty. */
const HALF = { cudnn: [900, 1030], flash: [770, 770] } as const;
/** What FlashAttention 2 comes to of that, by 250 TFLOP/s both ways (the same). */
const FLASH = [0.38, 0.51] as const;
/** A tower's heads of 64 see all keys: twice the operations, at two thirds of the speed (2026-11-29-kernels-h200.md: 31 us for 254 by the others). */
const SMALL_HEADS = { upTo: 80, share: 0.34 };

/** Two products forward, five backward, causal: of rows of one length, or of packed ones by the squares of theirs. */
function attentionTime(
  card: Card,
  { isBackward, isFlash }: OperatorKind,
  { rows, heads, length, size, sequences }: Queries,
  squaresOf: SquaresOf,
): { readonly operations: number; readonly seconds: number } {
  const squares = sequences === null ? rows * length ** 2 : squaresOf(length, sequences);
  const operations = (isBackward ? 5 : 2) * heads * squares * size;
  const way = isBackward ? 1 : 0;
  const share = (isFlash ? FLASH[way] : 1) * (size > SMALL_HEADS.upTo ? 1 : SMALL_HEADS.share);
  const mean = squares / (rows * length);
  const slower = 1 + HALF[isFlash ? 'flash' : 'cudnn'][way] / mean;
  return { operations, seconds: (operations * slower) / (share * card.attention[way]) };
}
