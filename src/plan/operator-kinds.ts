/** What plans know of an operator by its name, and how they read its shapes. */

import { kindOfOperator } from '../torch/index.js';

/** Of an operator's arguments; none for what is no tensor. */
export type Shapes = readonly (readonly number[])[];

const FREE =
  /^(?:aten::)?detach$|^aten::(?:empty|new_empty|as_strided|view|_unsafe_view|narrow|slice|select|split|unbind|transpose|t$|permute|expand|alias|detach|unsqueeze|squeeze|reshape|flatten|unflatten|resize_|set_|requires_grad|size|stride|result_type|is_|_has_|lift|record_stream|movedim|chunk|view_as|_reshape_alias)|^patina::(?:resize_storage|side_by_side)/;

const WHOLE = /^aten::_(?:foreach|fused)/;
const CUBLAS = /^aten::(?:mm|addmm|bmm|baddbmm|addmm_)$/;
const FILLS =
  /::(?:copy_|fill_|zero_|overwrite_|normal_|nf4_dequantise_|_foreach_copy_|round_stochastic_|index_fill_)$/;
const PICKS = /::(?:index_select|embedding|gather)$/;
const SLOW =
  /_fused_adamw_|round_stochastic|foreach_norm|layer_norm|_fused_rms_norm|cross_entropy|softmax|::sum$|::index/;
const SUMS = /_(?:cudnn|flash)_attention_backward|^aten::embedding_dense_backward$/;

export interface OperatorKind {
  /** It only looks at memory in another way, or takes it. */
  readonly isFree: boolean;
  /** One call to the card, though on meta it is many. */
  readonly isWhole: boolean;
  readonly isAttention: boolean;
  /** Of FlashAttention. */
  readonly isFlash: boolean;
  readonly isBackward: boolean;
  /** A product of cuBLAS. */
  readonly isCublas: boolean;
  /** A product that something is added to; where that is one row, it is a bias. */
  readonly isBiased: boolean;
  readonly isFp8: boolean;
  /** It fills its argument without reading it. */
  readonly fills: boolean;
  /** It reads rows that it picks alone. */
  readonly picks: boolean;
  /** It reduces rows or lists of tensors, or picks among them. */
  readonly isSlow: boolean;
  /** It sums in memory of its own. */
  readonly sums: boolean;
}

const kinds = new Map<string, OperatorKind>();

export function operatorKind(name: string): OperatorKind {
  let kind = kinds.get(name);
  if (kind === undefined) {
    kind = {
      ...{ isFree: FREE.test(name), isWhole: WHOLE.test(name) },
      ...{ isCublas: CUBLAS.test(name), isBiased: name === 'aten::addmm' },
      ...{ isAttention: kindOfOperator(name) === 'attention', isFlash: name.includes('_flash_') },
      ...{ isBackward: name.includes('backward'), isFp8: name === 'patina::fp8_product' },
      ...{ fills: FILLS.test(name), picks: PICKS.test(name), isSlow: SLOW.test(name) },
      sums: SUMS.test(name),
    };
    kinds.set(name, kind);
  }
  return kind;
}

export const sizeOf = (shape: readonly number[]): number =>
  shape.reduce((product, size) => product * size, 1);

/** Of attention: heads of a size over so many rows of a length; packed ones stand in one row. */
export interface Queries {
  readonly rows: number;
  readonly heads: number;
  readonly length: number;
  readonly size: number;
  /** How many are packed; `null` where rows stand apart. */
  readonly sequences: number | null;
}

/** Of queries [B, H, T, D], or packed [T, H, D]. */
export function queriesOf({ isBackward }: OperatorKind, shapes: Shapes): Queries | null {
  const q = shapes[isBackward ? 1 : 0];
  if (q === undefined) return null;
  const [a, b, c, d] = q as [number, number, number, number | undefined];
  if (d !== undefined) return { rows: a, heads: b, length: c, size: d, sequences: null };
  // Where each begins, and where the last ends.
  const places = shapes[isBackward ? 6 : 3]?.[0] ?? 0;
  return { rows: 1, heads: b, length: a, size: c, sequences: Math.max(1, places - 1) };
}
