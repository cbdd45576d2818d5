/**
 * Keys and values of the positions that a decoder has seen, so that a new position costs one pass over itself alone.
 *
 * Every row has its places one after another from 0 on, whatever the lengths of the others; what a row has not
 * reached yet is masked. Places are reserved in blocks: a decoder of growing text is copied once a block, not once a token.
 * A call works on the first rows alone, so that rows which come and go take no time while they are empty.
 *
 * B: rows of a call, S: places of each row, T: positions of a call, H: query heads, G: key and value heads, R = H / G, D: head size.
 */
import { attention, type AttentionKernel } from '../nn/index.js';
import {
  arange,
  type Device,
  type DType,
  openRange,
  scope,
  tensor,
  type Tensor,
  zeros,
} from '../torch/index.js';

export interface KvCacheOptions {
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
  /** (rows, S, G, D) of each layer; none before the first `reserve`. */
  readonly #keys: Tensor[] = [];
  readonly #values: Tensor[] = [];
  readonly #options: Required<KvCacheOptions>;
  #rows = 0;
  #places = 0;

  constructor(options: KvCacheOptions) {
    this.#options = { block: 256, ...options };
  }

  /** Places of each row. */
  get places(): number {
    return this.#places;
  }

  /**
   * Makes room for so many rows, and `places`, rounded up to whole blocks, in each. What is there stays; where memory does not
   * suffice, it is lost.
   */
  reserve(rows: number, places: number): void {
    if (rows <= this.#rows && places <= this.#places) return;
    using _ = openRange('reserve cache');
    const before = [this.#rows, this.#places] as const;
    const { block } = this.#options;
    // Rows that join one by one double their number, so that few of them cost a copy.
    if (rows > this.#rows) this.#rows = Math.max(rows, 2 * this.#rows);
    this.#places = Math.max(Math.ceil(places / block) * block, this.#places);
    try {
      for (const tensors of [this.#keys, this.#values]) this.#grow(tensors, before);
    } catch (error) {
      this.free();
      throw error;
    }
  }

  #grow(tensors: Tensor[], [rows, places]: readonly [rows: number, places: number]): void {
    for (let layer = 0; layer < this.#options.layers; layer++) {
      const larger = this.#empty();
      const full = tensors[layer];
      if (full !== undefined) {
        scope(() => void larger.narrow(0, 0, rows).narrow(1, 0, places).copy_(full));
        full.dispose();
      }
      tensors[layer] = larger.keep();
    }
  }

  /** What the first `length` places of one row hold, put in another. */
  move(from: number, to: number, length: number): void {
    scope(() => {
      for (const each of [...this.#keys, ...this.#values]) {
        each
          .select(0, to)
          .narrow(0, 0, length)
          .copy_(each.select(0, from).narrow(0, 0, length));
      }
    });
  }

  /** Zeros in a row: what a masked place holds is multiplied by 0, and must not be a NaN. */
  clear(row: number): void {
    scope(() => {
      for (const each of [...this.#keys, ...this.#values]) each.select(0, row).zero_();
    });
  }

  /** Where the first place of each of the first rows lies among all places: (B), int64. */
  rowStarts(rows: number): Tensor {
    const { device } = this.#options;
    return scope(() => arange(0, rows, 1, { dtype: 'int64', device }).mul(this.#places));
  }

  /**
   * Writes keys and values of one layer.
   *
   * @param slots where each of the B · T positions goes among all places, int64
   */
  store(layer: number, slots: Tensor, kBTGD: Tensor, vBTGD: Tensor): void {
    scope(() => {
      this.#keys[layer]!.flatten(0, 1).indexCopy_(0, slots, kBTGD.flatten(0, 1));
      this.#values[layer]!.flatten(0, 1).indexCopy_(0, slots, vBTGD.flatten(0, 1));
    });
  }

  /**
   * Attention of one query in each of the first rows, q (B, 1, H, D), over the first `length` places.
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
      const [B, , H] = q.shape as [number, number, number];
      const k = this.#keys[layer]!.narrow(0, 0, B).narrow(1, 0, length);
      const v = this.#values[layer]!.narrow(0, 0, B).narrow(1, 0, length);
      if (kernel === 'flash') return attention(q, k, v, { kernel });
      // Query heads that share keys stand as queries of one head: keys and values need not be repeated for each of them.
      const { heads: G, headDim: D } = this.#options;
      const qBRGD = q.view([B, G, H / G, D]).transpose(1, 2);
      return attention(qBRGD, k, v, { kernel, mask }).transpose(1, 2).reshape(q.shape);
    });
  }

  /** Gives all memory back; room can be made again. */
  free(): void {
    for (const tensors of [this.#keys, this.#values]) {
      for (const each of tensors.splice(0)) each.dispose();
    }
    [this.#rows, this.#places] = [0, 0];
  }

  #empty(): Tensor {
    const { heads, headDim, dtype, device } = this.#options;
    return zeros([this.#rows, this.#places, heads, headDim], { dtype, device });
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

/** Where a packed prefill of the rows from `first` on writes: for each position its place among all places; int64. */
export function packedSlots(
  lengths: readonly number[],
  { first, places, device }: { first: number; places: number; device: Device },
): Tensor {
  const slots = lengths.flatMap((length, row) =>
    Array.from({ length }, (_, place) => (first + row) * places + place),
  );
  return tensor(slots, { dtype: 'int64', device });
}
