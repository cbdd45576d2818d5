/**
 * Rows of text that a model continues side by side over a cache of keys and values. Rows may join while others are on their
 * way, and leave: the last row then takes the place of the one that has left, so that the rows in use are always the first ones.
 *
 * B: rows, T: positions of prompts that join, V: vocabulary.
 */
import { type LanguageModel, type Residency, RESIDENT, type Steps } from '../models/index.js';
import { hold, noGrad, scope, tensor, type Tensor } from '../torch/index.js';
import { decodeKernel, KvCache, packedSlots, placeMask } from './kv-cache.js';
import { lastRows, type LogitInputs, logits, packPrompts } from './logits.js';
import type { Prompt } from './prompt.js';

export interface CachedRowsOptions {
  /** Places by which the cache grows. @default 256 */
  block?: number | undefined;
  /** Keeps parameters in place segment by segment. @default everything is in place */
  residency?: Residency | undefined;
}

/** All of it, its making too, happens in `inferenceMode` or none of it; it waits where the residency does. */
export class CachedRows {
  readonly #model: LanguageModel;
  readonly #residency: Residency;
  readonly #cache: KvCache;
  /** Positions of each row so far. */
  readonly #lengths: number[] = [];
  /** The same on the device, (B, 1): where the next token of each goes. Made anew when rows have joined or left. */
  #positions: Tensor | undefined;

  constructor(model: LanguageModel, { block = 256, residency = RESIDENT }: CachedRowsOptions = {}) {
    const { weight } = model.decoder.embedTokens;
    const { numHiddenLayers, numKeyValueHeads, headDim } = model.decoder.config;
    this.#model = model;
    this.#residency = residency;
    this.#cache = new KvCache({
      layers: numHiddenLayers,
      heads: numKeyValueHeads,
      headDim,
      dtype: weight.dtype,
      device: weight.device,
      block,
    });
  }

  /** Number of rows. */
  get size(): number {
    return this.#lengths.length;
  }

  /** Whether there was no memory to make room for more, so that what the rows held is gone. */
  get lost(): boolean {
    return this.size > 0 && this.#cache.places === 0;
  }

  /** Logits (prompts, V) after prompts that become the last rows, as one packed batch. The caller owns them. */
  *join(prompts: readonly Prompt[]): Steps<Tensor> {
    const lengths = prompts.map(({ inputIds }) => inputIds.length);
    using inputs = hold(() => noGrad(() => this.#ofPrompts(prompts, lengths)));
    const result = yield* logits(this.#model, inputs.value, this.#residency);
    this.#lengths.push(...lengths);
    this.#forgetPositions();
    return result;
  }

  /** Logits (B, V) after one more token of each row, (B), int64. The caller owns them. A CUDA graph would record this call. */
  *next(tokensB: Tensor): Steps<Tensor> {
    const { segments, head } = this.#model;
    // Pictures are in the prompts alone: what reads them need not be brought again for every token.
    const decoder = { segments: segments.filter(({ visual }) => !visual), head };
    using inputs = hold(() => noGrad(() => this.#ofTokens(tokensB)));
    return yield* logits(decoder, inputs.value, this.#residency);
  }

  /** Takes a row out. Where what it held may not be finite, it is wiped: the next one there would be poisoned by it. */
  leave(row: number, { wipe = false }: { wipe?: boolean } = {}): void {
    const last = this.#lengths.length - 1;
    const length = this.#lengths.pop()!;
    if (wipe) this.#cache.clear(row);
    if (row !== last) {
      this.#cache.move(last, row, length);
      this.#lengths[row] = length;
    }
    this.#forgetPositions();
    if (last === 0) this.#cache.free();
  }

  #ofPrompts(prompts: readonly Prompt[], lengths: readonly number[]): LogitInputs {
    const cache = this.#cache;
    const { device } = this.#model.decoder.embedTokens.weight;
    const first = this.size;
    const batch = packPrompts(this.#model, prompts);
    const inputs = this.#model.inputs(batch);
    cache.reserve(first + prompts.length, Math.max(...lengths) + 1);
    const slots = packedSlots(lengths, { first, places: cache.places, device });
    return {
      ...inputs,
      rows: lastRows(lengths, device),
      attend(layer, q, k, v) {
        cache.store(layer, slots, k, v);
        return inputs.attend(layer, q, k, v);
      },
    };
  }

  #ofTokens(tokensB: Tensor): LogitInputs {
    const cache = this.#cache;
    const lengths = this.#lengths;
    const { decoder } = this.#model;
    const { dtype, device } = decoder.embedTokens.weight;
    this.#positions ??= scope(() =>
      tensor(lengths, { dtype: 'int64', device }).view([-1, 1]),
    ).keep();
    const positions = this.#positions;
    const sameLength = lengths.every((length) => length === lengths[0]);
    lengths.forEach((length, row) => (lengths[row] = length + 1));
    const longest = Math.max(...lengths);
    cache.reserve(lengths.length, longest);
    const slots = cache.rowStarts(lengths.length).add(positions.flatten());
    const mask = sameLength ? undefined : placeMask(positions, longest, dtype);
    const kernel = decodeKernel(this.#model.kernels.attention, mask !== undefined);
    const rotation = decoder.rotary.forward(positions, dtype);
    positions.add_(1);
    return {
      inputIds: tokensB.unsqueeze(1),
      images: null,
      rotation,
      rows: null,
      attend(layer, q, k, v) {
        cache.store(layer, slots, k, v);
        return cache.attend(layer, q, { kernel, length: longest, mask });
      },
    };
  }

  #forgetPositions(): void {
    this.#positions?.dispose();
    this.#positions = undefined;
  }

  /** Takes all rows out; others may join. */
  dispose(): void {
    this.#lengths.length = 0;
    this.#cache.free();
    this.#forgetPositions();
  }
}
