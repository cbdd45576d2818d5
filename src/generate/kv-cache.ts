/**
 * Keys and values of the positions that a decoder has seen, so that a new position costs one pass over itself alone.
 *
 * Every row of a batch has its places one after another from 0 on, whatever the lengths of the others; what a row has not
 * reached yet is masked. Places are reserved in blocks: a decoder of growing text is copied once a block, not once a token.
 *
 * B: rows, S: places of each row, T: positions of a call, H: query heads, G: key and value heads, R = H / G, D: head size.
 */
import { attention, type AttentionKernel } from '../nn/index.js';
import {
  arange,
  type Device,
  type DType,
  scope,
  tensor,
  type Tensor,
  zeros,
} from '../torch/index.js';

export interface KvCacheOptions {
  rows: number;
  /** Places to begin with, rounded up to whole blocks. */
  places: number;
  layers: number;
  /** G */
  heads: number;
  /** D */
  headDim: number;
  dtype: DType;
  device: Device;
  /** Places by which it grows. @default 256 */
  block?: number;
}

export class KvCache {
  /** (B, S, G, D) of each layer. */
  readonly #keys: Tensor[];
  readonly #values: Tensor[];
  readonly #options: Required<KvCacheOptions>;
  #places: number;

  constructor(options: KvCacheOptions) {
    this.#options = { block: 256, ...options };
    this.#places = this.#rounded(options.places);
    const make = (): Tensor[] => Array.from({ length: options.layers }, () => this.#empty());
    const { keys, values } = scope(() => ({ keys: make(), values: make() }));
    this.#keys = keys.map((each) => each.keep());
    this.#values = values.map((each) => each.keep());
  }

  /** Places of each row. */
  get places(): number {
    return this.#places;
  }

  /** Makes room for `places` in each row. */
  reserve(places: number): void {
    if (places <= this.#places) return;
    const before = this.#places;
    this.#places = this.#rounded(places);
    for (const tensors of [this.#keys, this.#values]) {
      tensors.forEach((full, layer) => {
        const larger = this.#empty();
        scope(() => void larger.narrow(1, 0, before).copy_(full));
        tensors[layer] = larger.keep();
        full.dispose();
      });
    }
  }

  /** Where the first place of each row lies among all places: (B), int64. */
  rowStarts(): Tensor {
    const { rows, device } = this.#options;
    return scope(() => arange(0, rows, 1, { dtype: 'int64', device }).mul(this.#places));
  }

  /**
   * Writes keys and values of one layer.
   *
   * @param slots where each of the B · T positions goes among all B · S places, int64
   */
  store(layer: number, slots: Tensor, kBTGD: Tensor, vBTGD: Tensor): void {
    scope(() => {
      this.#keys[layer]!.flatten(0, 1).indexCopy_(0, slots, kBTGD.flatten(0, 1));
      this.#values[layer]!.flatten(0, 1).indexCopy_(0, slots, vBTGD.flatten(0, 1));
    });
  }

  /**
   * Attention of one query in each row, q (B, 1, H, D), over the first `length` places.
   *
   * @param mask added to the scores (B, 1, 1, length), where rows have reached different lengths
   */
  attend(
    layer: number,
    q: Tensor,
    {
      kernel,
      length,
      mask,
    }: { kernel: AttentionKernel; length: number; mask?: Tensor | undefined },
  ): Tensor {
    return scope(() => {
      const k = this.#keys[layer]!.narrow(1, 0, length);
      const v = this.#values[layer]!.narrow(1, 0, length);
      if (kernel === 'flash') return attention(q, k, v, { kernel });
      // Query heads that share keys stand as queries of one head: keys and values need not be repeated for each of them.
      const { heads: G, headDim: D } = this.#options;
      const [B, , H] = q.shape as [number, number, number];
      const qBRGD = q.view([B, G, H / G, D]).transpose(1, 2);
      return attention(qBRGD, k, v, { kernel, mask }).transpose(1, 2).reshape(q.shape);
    });
  }

  dispose(): void {
    for (const each of [...this.#keys, ...this.#values]) each.dispose();
  }

  #rounded(places: number): number {
    return Math.ceil(places / this.#options.block) * this.#options.block;
  }

  /** Zeros: what a masked place holds is multiplied by 0, and must not be a NaN. */
  #empty(): Tensor {
    const { rows, heads, headDim, dtype, device } = this.#options;
    return zeros([rows, this.#places, heads, headDim], { dtype, device });
  }
}

/** The kernel for single queries: one that plans each new shape would do so at every token. */
export function decodeKernel(kernel: AttentionKernel, masked: boolean): AttentionKernel {
  if (kernel !== 'cudnn' && kernel !== 'flash') return kernel;
  return masked ? 'efficient' : 'flash';
}

/** Additive mask (B, 1, 1, S) under which row b sees the places 0 to `positions[b]` (B, 1). */
export function placeMask(positions: Tensor, length: number, dtype: DType): Tensor {
  return scope(() => {
    const places = arange(0, length, 1, { dtype: 'int64', device: positions.device });
    const unseen = places.gt(positions).unsqueeze(1).unsqueeze(1);
    return zeros(unseen.shape, { dtype, device: positions.device }).maskedFill(unseen, -Infinity);
  });
}

/** Where a packed prefill writes: for each position of each row its place among all places; int64. */
export function packedSlots(lengths: readonly number[], places: number, device: Device): Tensor {
  const slots = lengths.flatMap((length, row) =>
    Array.from({ length }, (_, place) => row * places + place),
  );
  return tensor(slots, { dtype: 'int64', device });
}
