/**
 * Logits of the token after each prompt, token by token: with a cache of keys and values, or computed anew from the first
 * token on, which is the slow oracle of the other.
 *
 * B: prompts, V: vocabulary.
 */
import { type LanguageModel, type Residency, RESIDENT, type Steps } from '../models/index.js';
import { hold, noGrad, tensor, type Tensor } from '../torch/index.js';
import { CachedRows } from './cached-rows.js';
import { lastRows, type LogitInputs, logits, packPrompts } from './logits.js';
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

/** The prompts join a cache at once; then each step is one position of each. */
export class CachedContinuation implements Continuation {
  readonly #rows: CachedRows;
  readonly #prompts: readonly Prompt[];

  constructor(model: LanguageModel, prompts: readonly Prompt[], options: ContinuationOptions = {}) {
    this.#rows = new CachedRows(model, options);
    this.#prompts = prompts;
  }

  start(): Steps<Tensor> {
    return this.#rows.join(this.#prompts);
  }

  next(tokensB: Tensor): Steps<Tensor> {
    return this.#rows.next(tokensB);
  }

  dispose(): void {
    this.#rows.dispose();
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
