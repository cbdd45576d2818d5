/**
 * Logits of the token after each prompt, token by token: with a cache of keys and values, or computed anew from the first
 * token on, which is the slow oracle of the other.
 *
 * B: prompts, T: positions of all prompts, C: hidden size, V: vocabulary.
 */
import {
  type Batch,
  finish,
  forward,
  IGNORED_LABEL,
  type LanguageModel,
  makeBatch,
  type Sample,
  type SegmentInputs,
} from '../models/index.js';
import { type Device, scope, tensor, type Tensor } from '../torch/index.js';
import { decodeKernel, KvCache, packedSlots, placeMask } from './kv-cache.js';
import type { Prompt } from './prompt.js';

/** A batch of prompts and what has been added to them. Its calls belong into one `inferenceMode`. */
export interface Continuation {
  /** Logits (B, V) after the prompts. */
  start(): Tensor;
  /** Logits (B, V) after one more token of each, (B), int64. A CUDA graph would record this call. */
  next(tokensB: Tensor): Tensor;
  dispose(): void;
}

export interface ContinuationOptions {
  /** Places by which the cache grows. @default 256 */
  block?: number | undefined;
}

/** Prompts go through the model as one packed batch; then each step is one position of each. */
export class CachedContinuation implements Continuation {
  readonly #model: LanguageModel;
  readonly #prompts: readonly Prompt[];
  readonly #cache: KvCache;
  readonly #device: Device;
  readonly #sameLength: boolean;
  /** Where the next token of each goes, (B, 1), and the furthest of these on the host. */
  readonly #positions: Tensor;
  #longest: number;

  constructor(
    model: LanguageModel,
    prompts: readonly Prompt[],
    { block = 256 }: ContinuationOptions = {},
  ) {
    const { weight } = model.decoder.embedTokens;
    const { numHiddenLayers, numKeyValueHeads, headDim } = model.decoder.config;
    const lengths = prompts.map(({ inputIds }) => inputIds.length);
    this.#model = model;
    this.#prompts = prompts;
    this.#device = weight.device;
    this.#longest = Math.max(...lengths);
    this.#sameLength = lengths.every((length) => length === lengths[0]);
    this.#cache = new KvCache({
      rows: prompts.length,
      places: this.#longest + 1,
      layers: numHiddenLayers,
      heads: numKeyValueHeads,
      headDim,
      dtype: weight.dtype,
      device: weight.device,
      block,
    });
    this.#positions = scope(() =>
      tensor(lengths, { dtype: 'int64', device: weight.device }).view([-1, 1]),
    ).keep();
  }

  start(): Tensor {
    return scope(() => {
      const cache = this.#cache;
      const batch = packPrompts(this.#model, this.#prompts);
      const { lengths } = batch.sequences;
      const slots = packedSlots(lengths, cache.places, this.#device);
      const inputs = this.#model.inputs(batch);
      return lastLogits(this.#model, lengths, {
        ...inputs,
        attend(layer, q, k, v) {
          cache.store(layer, slots, k, v);
          return inputs.attend(layer, q, k, v);
        },
      });
    });
  }

  next(tokensB: Tensor): Tensor {
    return scope(() => {
      const cache = this.#cache;
      const { decoder, head } = this.#model;
      const { dtype } = decoder.embedTokens.weight;
      const length = ++this.#longest;
      cache.reserve(length);
      const slots = cache.rowStarts().add(this.#positions.flatten());
      const mask = this.#sameLength ? undefined : placeMask(this.#positions, length, dtype);
      const kernel = decodeKernel(this.#model.kernels.attention, mask !== undefined);
      const inputs: SegmentInputs = {
        inputIds: tokensB.unsqueeze(1),
        images: null,
        rotation: decoder.rotary.forward(this.#positions, dtype),
        attend(layer, q, k, v) {
          cache.store(layer, slots, k, v);
          return cache.attend(layer, q, { kernel, length, mask });
        },
      };
      const hiddenB1C = finish(forward(this.#model, inputs));
      this.#positions.add_(1);
      return head.logits(hiddenB1C.flatten(0, 1));
    });
  }

  dispose(): void {
    this.#cache.dispose();
    this.#positions.dispose();
  }
}

/** Everything from the first token on at each step. */
export class RecomputedContinuation implements Continuation {
  readonly #model: LanguageModel;
  readonly #prompts: readonly Prompt[];
  readonly #added: number[][];

  constructor(model: LanguageModel, prompts: readonly Prompt[]) {
    this.#model = model;
    this.#prompts = prompts;
    this.#added = prompts.map(() => []);
  }

  start(): Tensor {
    return scope(() => {
      const imageToken = this.#model.input.image?.tokenId;
      const plain = (ids: number[]): number[] => ids.map((id) => (id === imageToken ? 0 : id));
      const given = this.#prompts.map(({ inputIds }) => Array.from(inputIds));
      const prompts = this.#prompts.map((prompt, row) => ({
        ...prompt,
        inputIds: [...given[row]!, ...plain(this.#added[row]!)],
      }));
      const batch = packPrompts(this.#model, prompts);
      // An image token that the model wrote itself is a token like any other: no picture stands there.
      const ids = given.flatMap((prompt, row) => [...plain(prompt), ...this.#added[row]!]);
      return lastLogits(this.#model, batch.sequences.lengths, {
        ...this.#model.inputs(batch),
        inputIds: tensor(ids, { dtype: 'int64', device: batch.inputIds.device }).unsqueeze(0),
      });
    });
  }

  next(tokensB: Tensor): Tensor {
    Array.from(tokensB.toTypedArray(), Number).forEach((id, row) => this.#added[row]!.push(id));
    return this.start();
  }

  dispose(): void {
    this.#added.length = 0;
  }
}

function packPrompts(model: LanguageModel, prompts: readonly Prompt[]): Batch {
  const samples = prompts.map(({ inputIds, images = [] }): Sample => ({
    inputIds,
    labels: new Int32Array(inputIds.length).fill(IGNORED_LABEL),
    images,
  }));
  return makeBatch(samples, model.input, {
    device: model.decoder.embedTokens.weight.device,
  });
}

/** Of the last position of each packed sequence: (B, V). */
function lastLogits(
  model: LanguageModel,
  lengths: readonly number[],
  inputs: SegmentInputs,
): Tensor {
  let end = 0;
  const last = lengths.map((length) => (end += length) - 1);
  const hiddenTC = finish(forward(model, inputs)).flatten(0, 1);
  const rows = tensor(last, { dtype: 'int64', device: hiddenTC.device });
  return model.head.logits(hiddenTC.indexSelect(0, rows));
}
