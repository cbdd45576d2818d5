/**
 * Logits of the token after each prompt, token by token: with a cache of keys and values, or computed anew from the first
 * token on, which is the slow oracle of the other.
 *
 * B: prompts, T: positions of all prompts, C: hidden size, V: vocabulary.
 */
import {
  type Batch,
  forward,
  IGNORED_LABEL,
  type LanguageModel,
  makeBatch,
  type Residency,
  RESIDENT,
  type Sample,
  type SegmentedModel,
  type SegmentInputs,
  type Steps,
  walk,
} from '../models/index.js';
import { type Device, hold, noGrad, scope, tensor, type Tensor } from '../torch/index.js';
import { decodeKernel, KvCache, packedSlots, placeMask } from './kv-cache.js';
import type { Prompt } from './prompt.js';

/**
 * A batch of prompts and what has been added to them. All of it, its making too, happens in `inferenceMode` or none of it; it waits
 * where the residency does.
 */
export interface Continuation {
  /** Logits (B, V) after the prompts. The caller owns them. */
  start(): Steps<Tensor>;
  /** Logits (B, V) after one more token of each, (B), int64. The caller owns them. A CUDA graph would record this call. */
  next(tokensB: Tensor): Steps<Tensor>;
  dispose(): void;
}

export interface ContinuationOptions {
  /** Places by which the cache grows. @default 256 */
  block?: number | undefined;
  /**
   * Keeps parameters in place segment by segment, for a model that is not whole on this device. Where ranks share it out, all of
   * them continue the same prompts.
   * @default everything is in place
   */
  residency?: Residency | undefined;
}

/** Prompts go through the model as one packed batch; then each step is one position of each. */
export class CachedContinuation implements Continuation {
  readonly #model: LanguageModel;
  readonly #prompts: readonly Prompt[];
  readonly #residency: Residency;
  readonly #cache: KvCache;
  readonly #device: Device;
  readonly #sameLength: boolean;
  /** Where the next token of each goes, (B, 1), and the furthest of these on the host. */
  readonly #positions: Tensor;
  #longest: number;

  constructor(
    model: LanguageModel,
    prompts: readonly Prompt[],
    { block = 256, residency = RESIDENT }: ContinuationOptions = {},
  ) {
    const { weight } = model.decoder.embedTokens;
    const { numHiddenLayers, numKeyValueHeads, headDim } = model.decoder.config;
    const lengths = prompts.map(({ inputIds }) => inputIds.length);
    this.#model = model;
    this.#prompts = prompts;
    this.#residency = residency;
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

  *start(): Steps<Tensor> {
    using inputs = hold(() => noGrad(() => this.#ofPrompts()));
    return yield* logits(this.#model, inputs.value, this.#residency);
  }

  *next(tokensB: Tensor): Steps<Tensor> {
    const { segments, head } = this.#model;
    // Pictures are in the prompts alone: what reads them need not be brought again for every token.
    const decoder = { segments: segments.filter(({ visual }) => !visual), head };
    using inputs = hold(() => noGrad(() => this.#ofTokens(tokensB)));
    return yield* logits(decoder, inputs.value, this.#residency);
  }

  #ofPrompts(): LogitInputs {
    const cache = this.#cache;
    const batch = packPrompts(this.#model, this.#prompts);
    const { lengths } = batch.sequences;
    const slots = packedSlots(lengths, cache.places, this.#device);
    const inputs = this.#model.inputs(batch);
    return {
      ...inputs,
      rows: lastRows(lengths, this.#device),
      attend(layer, q, k, v) {
        cache.store(layer, slots, k, v);
        return inputs.attend(layer, q, k, v);
      },
    };
  }

  #ofTokens(tokensB: Tensor): LogitInputs {
    const cache = this.#cache;
    const { decoder } = this.#model;
    const { dtype } = decoder.embedTokens.weight;
    const length = ++this.#longest;
    cache.reserve(length);
    const slots = cache.rowStarts().add(this.#positions.flatten());
    const mask = this.#sameLength ? undefined : placeMask(this.#positions, length, dtype);
    const kernel = decodeKernel(this.#model.kernels.attention, mask !== undefined);
    const rotation = decoder.rotary.forward(this.#positions, dtype);
    this.#positions.add_(1);
    return {
      inputIds: tokensB.unsqueeze(1),
      images: null,
      rotation,
      rows: null,
      attend(layer, q, k, v) {
        cache.store(layer, slots, k, v);
        return cache.attend(layer, q, { kernel, length, mask });
      },
    };
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
  readonly #residency: Residency;
  readonly #added: number[][];

  constructor(
    model: LanguageModel,
    prompts: readonly Prompt[],
    { residency = RESIDENT }: ContinuationOptions = {},
  ) {
    this.#model = model;
    this.#residency = residency;
    this.#prompts = prompts;
    this.#added = prompts.map(() => []);
  }

  *start(): Steps<Tensor> {
    using inputs = hold(() => noGrad(() => this.#inputs()));
    return yield* logits(this.#model, inputs.value, this.#residency);
  }

  *next(tokensB: Tensor): Steps<Tensor> {
    Array.from(tokensB.toTypedArray(), Number).forEach((id, row) => this.#added[row]!.push(id));
    return yield* this.start();
  }

  #inputs(): LogitInputs {
    const imageToken = this.#model.input.image?.tokenId;
    const plain = (ids: number[]): number[] => ids.map((id) => (id === imageToken ? 0 : id));
    const given = this.#prompts.map(({ inputIds }) => Array.from(inputIds));
    const prompts = this.#prompts.map((prompt, row) => ({
      ...prompt,
      inputIds: [...given[row]!, ...plain(this.#added[row]!)],
    }));
    const batch = packPrompts(this.#model, prompts);
    const { device } = batch.inputIds;
    // An image token that the model wrote itself is a token like any other: no picture stands there.
    const ids = given.flatMap((prompt, row) => [...plain(prompt), ...this.#added[row]!]);
    return {
      ...this.#model.inputs(batch),
      inputIds: tensor(ids, { dtype: 'int64', device }).unsqueeze(0),
      rows: lastRows(batch.sequences.lengths, device),
    };
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

/** Which of the packed positions is the last of each sequence: (B). */
function lastRows(lengths: readonly number[], device: Device): Tensor {
  let end = 0;
  const last = lengths.map((length) => (end += length) - 1);
  return tensor(last, { dtype: 'int64', device });
}

interface LogitInputs extends SegmentInputs {
  /** Whose logits are asked for, among all positions of all rows; `null`: all of them. */
  readonly rows: Tensor | null;
}

/** Through the model and its head: (B, V). */
function* logits(
  model: Pick<SegmentedModel, 'segments' | 'head'>,
  inputs: LogitInputs,
  residency: Residency,
): Steps<Tensor> {
  const { head } = model;
  const { rows } = inputs;
  using hiddenBTC = yield* forward(model, inputs, { residency });
  let logitsBV: Tensor;
  yield* walk([head], { phase: 'forward', residency }, () => {
    logitsBV = noGrad(() =>
      scope(() => {
        const hiddenNC = hiddenBTC.flatten(0, 1);
        return head.logits(rows === null ? hiddenNC : hiddenNC.indexSelect(0, rows));
      }),
    );
  });
  return logitsBV!;
}
