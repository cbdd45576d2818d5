/**
 * Answers token by token: a batch of prompts goes through the model once, then one position of each a step, until a stop
 * token, a stop string or the limit ends each of them.
 */
import { setImmediate } from 'node:timers/promises';

import { drive, finish, type LanguageModel } from '../models/index.js';
import { inferenceMode, noGrad, scope, tensor, type Tensor } from '../torch/index.js';
import { Answer, type AnswerOptions, checkAnswerOptions, type FinishReason } from './answer.js';
import {
  CachedContinuation,
  type Continuation,
  type ContinuationOptions,
  RecomputedContinuation,
} from './continuation.js';
import { checkContext, contextLength, type Prompt } from './prompt.js';
import { notFinite, readSampling, readTokens, Sampler, type SamplingOptions } from './sampling.js';

/**
 * Takes a step that every rank takes, and gives what it gave on the first one, on all of them. Where it fails on one it fails on all.
 * Values are plain data.
 */
export type Agree = <T>(step: () => T | Promise<T>) => Promise<T>;

export interface GenerateOptions extends SamplingOptions, AnswerOptions, ContinuationOptions {
  /** Keep keys and values; without it each step computes everything anew. @default true */
  cache?: boolean | undefined;
  /** Ends answers between two tokens. Where ranks answer together it is raised on all of them while they agree. */
  signal?: AbortSignal | undefined;
  /** Agrees on each token with the other ranks that continue the same prompts. @default nobody else does */
  agree?: Agree | undefined;
  /** Sees the logits (B, V) of each step before a token is chosen; they live until it returns. */
  onLogits?: ((logits: Tensor) => void) | undefined;
}

export interface GeneratedToken {
  /** Which of the prompts it continues. */
  readonly prompt: number;
  readonly token: number;
  /** What the text is longer by: whole characters only, so often nothing. Empty without a tokenizer. */
  readonly text: string;
  /** With the last token of a prompt. */
  readonly finish: FinishReason | null;
}

/**
 * Continues prompts; yields a token of each unfinished one in turn. Other work of the program gets its turn between steps.
 *
 * @throws UsageError `E_SAMPLING`, `E_STOP_STRINGS`; DataError `E_CONTEXT`, and those of `makeBatch`; NonFiniteError
 *   `E_LOGITS`; the signal's reason
 */
export async function* generate(
  model: LanguageModel,
  prompts: readonly Prompt[],
  options: GenerateOptions = {},
): AsyncGenerator<GeneratedToken, void, undefined> {
  const { signal } = options;
  checkGenerateOptions(options);
  const context = contextLength(model);
  checkContext(prompts, context);
  signal?.throwIfAborted();
  if (prompts.length === 0) return;
  const answers = prompts.map((prompt) => new Answer(prompt, context, options));
  const steps = new Decoding(model, prompts, options);
  try {
    while (answers.some(({ finish }) => finish === null)) {
      const tokens = await steps.next();
      for (const [prompt, answer] of answers.entries()) {
        if (answer.finish !== null) continue;
        const token = tokens[prompt]!;
        const text = answer.add(token);
        yield { prompt, token, text, finish: answer.finish };
      }
      await setImmediate();
      signal?.throwIfAborted();
    }
  } finally {
    steps.dispose();
  }
}

/** Checks what can be checked before a model is loaded. @throws UsageError `E_SAMPLING`, `E_STOP_STRINGS` */
export function checkGenerateOptions(options: SamplingOptions & AnswerOptions): void {
  readSampling(options);
  checkAnswerOptions(options);
}

/** One step after another; the tokens stay on the device, where the next step reads them. */
class Decoding {
  readonly #continuation: Continuation;
  readonly #sampler: Sampler;
  readonly #options: GenerateOptions;
  /** Inference mode belongs to the thread and ends where a step waits. */
  readonly #mode: typeof noGrad;
  #tokens: Tensor | undefined;

  constructor(model: LanguageModel, prompts: readonly Prompt[], options: GenerateOptions) {
    const { cache = true, block, residency } = options;
    const Way = cache ? CachedContinuation : RecomputedContinuation;
    this.#options = options;
    this.#mode = residency === undefined ? inferenceMode : noGrad;
    this.#continuation = this.#mode(() => new Way(model, prompts, { block, residency }));
    this.#sampler = new Sampler(readSampling(options), {
      prompts: prompts.map(({ inputIds }) => inputIds),
      vocabSize: model.input.vocabSize,
      device: model.decoder.embedTokens.weight.device,
    });
  }

  /** The next token of every prompt. */
  async next(): Promise<number[]> {
    const { residency, agree } = this.#options;
    const before = this.#tokens;
    const steps =
      before === undefined ? this.#continuation.start() : this.#continuation.next(before);
    using logits =
      residency === undefined ? inferenceMode(() => finish(steps)) : await drive(steps);
    if (agree === undefined) return this.#choose(logits);
    const tokens = await agree(() => this.#choose(logits));
    this.#take(tensor(tokens, { dtype: 'int64', device: logits.device }));
    return tokens;
  }

  #choose(logits: Tensor): number[] {
    return this.#mode(() =>
      scope(() => {
        this.#options.onLogits?.(logits);
        const tokens = this.#sampler.choose(logits);
        this.#take(tokens);
        const read = readTokens(tokens, logits);
        const broken = read.indexOf(null);
        if (broken >= 0) throw notFinite(`prompt ${broken}`);
        return read as number[];
      }),
    );
  }

  #take(tokens: Tensor): void {
    this.#tokens?.dispose();
    this.#tokens = tokens.keep();
  }

  dispose(): void {
    this.#tokens?.dispose();
    this.#sampler.dispose();
    this.#continuation.dispose();
  }
}
