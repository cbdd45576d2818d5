/**
 * Answers token by token: a batch of prompts goes through the model once, then one position of each a step, until a stop
 * token, a stop string or the limit ends each of them.
 */
import { setImmediate } from 'node:timers/promises';

import { NonFiniteError, UsageError } from '../base/errors.js';
import { drive, finish, type LanguageModel } from '../models/index.js';
import { TokenStream, type Tokenizer } from '../text/index.js';
import { inferenceMode, noGrad, scope, stack, tensor, type Tensor } from '../torch/index.js';
import {
  CachedContinuation,
  type Continuation,
  type ContinuationOptions,
  RecomputedContinuation,
} from './continuation.js';
import { checkContext, contextLength, type Prompt } from './prompt.js';
import { readSampling, Sampler, type SamplingOptions } from './sampling.js';

/**
 * Takes a step that every rank takes, and gives what it gave on the first one, on all of them. Where it fails on one it fails on all.
 * Values are plain data.
 */
export type Agree = <T>(step: () => T | Promise<T>) => Promise<T>;

export interface GenerateOptions extends SamplingOptions, ContinuationOptions {
  /** Most tokens of an answer; the end of the model's context ends it too. @default 512 */
  maxNewTokens?: number | undefined;
  /** Ids that end an answer. @default none */
  stopTokens?: readonly number[] | undefined;
  /** Texts that end an answer and are left out of it; they need a tokenizer. @default none */
  stopStrings?: readonly string[] | undefined;
  /** Of the model, for text beside the tokens. */
  tokenizer?: Tokenizer | undefined;
  /** Keep keys and values; without it each step computes everything anew. @default true */
  cache?: boolean | undefined;
  /** Ends answers between two tokens. Where ranks answer together it is raised on all of them while they agree. */
  signal?: AbortSignal | undefined;
  /** Agrees on each token with the other ranks that continue the same prompts. @default nobody else does */
  agree?: Agree | undefined;
  /** Sees the logits (B, V) of each step before a token is chosen; they live until it returns. */
  onLogits?: ((logits: Tensor) => void) | undefined;
}

/** `stop`: a stop token or string; `length`: the limit on tokens, or the end of the context. */
export type FinishReason = 'stop' | 'length';

export interface GeneratedToken {
  /** Which of the prompts it continues. */
  readonly prompt: number;
  readonly token: number;
  /** What the text is longer by: whole characters only, so often nothing. Empty without a tokenizer. */
  readonly text: string;
  /** With the last token of a prompt. */
  readonly finish: FinishReason | null;
}

const DEFAULT_NEW_TOKENS = 512;

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
  const { signal, tokenizer, stopStrings = [], maxNewTokens = DEFAULT_NEW_TOKENS } = options;
  checkGenerateOptions(options);
  if (stopStrings.length > 0 && tokenizer === undefined) {
    throw new UsageError('Stop strings cannot be found without a tokenizer.', {
      code: 'E_STOP_STRINGS',
      hint: 'Pass the tokenizer of the model.',
    });
  }
  const context = contextLength(model);
  checkContext(prompts, context);
  signal?.throwIfAborted();
  if (prompts.length === 0) return;
  const answers = prompts.map(({ inputIds }) => {
    // The last token is not attended over, so it may be one beyond the context.
    const room = Math.min(maxNewTokens, context - inputIds.length + 1);
    const stream = tokenizer && new TokenStream(tokenizer, { stop: stopStrings });
    return new Answer(room, new Set(options.stopTokens), stream);
  });
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

/** Checks what can be checked before a model is loaded. @throws UsageError `E_SAMPLING` */
export function checkGenerateOptions({
  maxNewTokens = DEFAULT_NEW_TOKENS,
  ...sampling
}: SamplingOptions & Pick<GenerateOptions, 'maxNewTokens'>): void {
  readSampling(sampling);
  if (Number.isSafeInteger(maxNewTokens) && maxNewTokens >= 1) return;
  throw new UsageError(`maxNewTokens is ${maxNewTokens}, which is not a whole number from 1.`, {
    code: 'E_SAMPLING',
    hint: 'Give maxNewTokens as a whole number from 1.',
  });
}

/** How far the answer to one prompt is. */
class Answer {
  finish: FinishReason | null = null;
  #left: number;
  readonly #stopTokens: ReadonlySet<number>;
  readonly #stream: TokenStream | undefined;

  constructor(room: number, stopTokens: ReadonlySet<number>, stream: TokenStream | undefined) {
    this.#left = room;
    this.#stopTokens = stopTokens;
    this.#stream = stream;
  }

  /** Takes a token; gives the text that is certain by now. A stop token is no part of it. */
  add(token: number): string {
    this.#left--;
    const stops = this.#stopTokens.has(token);
    const text = stops ? '' : (this.#stream?.push(token) ?? '');
    if (stops || this.#stream?.stopped === true) this.finish = 'stop';
    else if (this.#left === 0) this.finish = 'length';
    return this.finish === null ? text : text + (this.#stream?.end() ?? '');
  }
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

  /** Reading the tokens is the only wait for the device. */
  #choose(logits: Tensor): number[] {
    return this.#mode(() =>
      scope(() => {
        this.#options.onLogits?.(logits);
        const tokens = this.#sampler.choose(logits);
        this.#take(tokens);
        const finite = logits.amax([-1]).isfinite().to('int64');
        const read = Array.from(stack([tokens, finite]).toTypedArray(), Number);
        const broken = read.slice(read.length / 2).indexOf(0);
        if (broken >= 0) throw notFinite(broken);
        return read.slice(0, read.length / 2);
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

function notFinite(prompt: number): NonFiniteError {
  return new NonFiniteError(`The logits after prompt ${prompt} are not finite.`, {
    code: 'E_LOGITS',
    hint: 'Compute in bfloat16 or float32; float16 overflows in some models.',
  });
}
