/**
 * Adapters that read one input, as one: their matrices A side by side, or, where each drops the input its own way, operators that do so
 * on the way.
 *
 * N: rows, I: input features, R: ranks of all of them together.
 */
import { droppedGradients, droppedProduct, linear, type Tensor } from '../torch/index.js';
import type { Linear } from './linear.js';
import type { LoraAdapter } from './lora.js';
import type { Drop } from './projection-parts.js';
import { asOne } from './side-by-side.js';

export interface SharedAdapters {
  /** `z_i = drop_i(x) A_iᵀ`, side by side: (N, R) */
  product(xNI: Tensor): Tensor;
  /** `dx += Σ drop_i(dz_i A_i)`, in place. */
  addInput(dxNI: Tensor, dzNR: Tensor): void;
  /** `dA_i = dz_iᵀ drop_i(x)`, one above the other: (R, I) */
  gradients(dzNR: Tensor, xNI: Tensor): Tensor;
}

/** `null` where they are not alike, compute in another dtype than their layers, or lie apart in memory. */
export function sharedAdapters(
  linears: readonly Linear[],
  drops: readonly Drop[],
): SharedAdapters | null {
  const adapters = linears.flatMap(({ adapter, base }) =>
    adapter !== undefined && adapter.a.dtype === base.dtype ? adapter : [],
  );
  if (adapters.length !== linears.length) return null;
  const [first] = drops;
  if (first != null) {
    return drops.every((drop) => drop?.probability === first.probability)
      ? dropped(adapters, drops)
      : null;
  }
  const whole = drops.every((drop) => drop === null) ? asOne(adapters.map(({ a }) => a)) : null;
  return whole && together(whole);
}

function together(a: Tensor): SharedAdapters {
  return {
    product: (x) => linear(x, a),
    addInput: (dx, dz) => void dx.addmm_(dz, a),
    gradients: (dz, x) => dz.transpose(0, 1).matmul(x),
  };
}

function dropped(adapters: readonly LoraAdapter[], drops: readonly Drop[]): SharedAdapters {
  const { probability, places, key } = drops[0]!;
  const layers = drops.map((drop) => drop!.layer);
  const how = [probability, places.records, places.indices, key, layers] as const;
  const a = adapters.map((adapter) => adapter.a);
  return {
    product: (x) => droppedProduct(x, a, ...how),
    addInput: (dx, dz) => void dx.addDropped_(dz, a, ...how),
    gradients: (dz, x) =>
      droppedGradients(
        dz,
        x,
        adapters.map(({ rank }) => rank),
        ...how,
      ),
  };
}
