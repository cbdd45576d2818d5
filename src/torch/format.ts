/** One line for a tensor: shape, dtype, device, a few values. */

import type { DType } from './dtype.js';

export interface TensorFacts {
  readonly dtype: DType;
  readonly device: string;
  readonly shape: readonly number[];
  /** The first values; `null` where there are none to read. */
  readonly values: (() => readonly number[]) | null;
}

function formatValue(value: number, dtype: DType): string {
  if (dtype === 'bool') return value === 0 ? 'false' : 'true';
  if (Number.isInteger(value)) return Object.is(value, -0) ? '-0' : String(value);
  return Number.isFinite(value) ? String(Number(value.toPrecision(5))) : String(value);
}

/** For example `Tensor float32[2, 3] cpu: 0.5, 1, -2.25, ...`. */
export function formatTensor({ dtype, device, shape, values }: TensorFacts): string {
  const head = `Tensor ${dtype}[${shape.join(', ')}] ${device}`;
  if (values === null) return head;
  const shown = values();
  const rest = shape.reduce((product, size) => product * size, 1) > shown.length ? ', ...' : '';
  return `${head}: ${shown.map((value) => formatValue(value, dtype)).join(', ')}${rest}`;
}
