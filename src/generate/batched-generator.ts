/**
 * Answers to many who ask at any time, in steps that all share (continuous batching; Yu et al. 2022, Orca): a prompt joins between
 * two steps and an answer that is over makes room at once, so that nobody waits for the longest.
 *
 * A prompt goes through the model alone, exactly as in `generate`; what is shared are the steps after it. Each answer draws from
 * a random stream of its own.
 *
 * B: rows, V: vocabulary.
 */
import { setImmediate } from 'node:timers/promises';

import { PatinaError } from '../base/errors.js';
import { finish, type LanguageModel } from '../models/index.js';
import { cat, inferenceMode, scope, tensor, type Tensor } from '../torch/index.js';
import { Answer, type AnswerOptions, answerRoom } from './answer.js';
import { CachedRows } from './cached-rows.js';
import { Channel } from './channel.js';
import { checkGenerateOptions, type GeneratedToken } from './generate.js';
import { checkContext, contextLength, type Prompt } from './prompt.js';
import { notFinite, readSampling, readTokens, Sampler, type SamplingOptions } from './sampling.js';
import { tokenLogprobs, type TokenLogprobs } from './token-logprobs.js';

export interface BatchedGeneratorOptions {
  /** Most answers at once. @default 16 */
  rows?: number | undefined;
  /** Most prompts that wait for a row. @default 64 */
  waiting?: number | undefined;
  /**
   * Most places of the cache, which has as many for each row as the longest could need. It never keeps a prompt from an answer alone.
   * @default rows times the model's context
   */
  places?: number | undefined;
}

export interface RequestOptions extends SamplingOptions, AnswerOptions {
  /** Ends the answer between two tokens; the reader gets its reason. */
  signal?: AbortSignal | undefined;
  /** Give the log probability of each token, and of so many best ones. @default not given */
  logprobs?: number | undefined;
}

export interface AnswerToken extends Omit<GeneratedToken, 'prompt'> {
  /** It is one that ends answers, and no part of the text. */
  readonly isStop: boolean;
  readonly logprobs?: TokenLogprobs;
}

/** There are as many as may be. */
export class BusyError extends PatinaError {
  constructor(open: number) {
    super(`${open} requests are answered or wait already.`, {
      code: 'E_BUSY',
      hint: 'Ask again in a while.',
    });
  }
}

/** One prompt on its way to an answer. */
class Request {
  readonly answer: Answer;
  readonly channel = new Channel<AnswerToken>();
  /** Undefined where the best token is taken. */
  readonly sampler: Sampler | undefined;
  /** Places that it could need. */
  readonly places: number;
  /** The last one; `null` before the first, and where there was none to choose. */
  token: number | null = null;
  isOver = false;

  constructor(
    readonly prompt: Prompt,
    readonly options: RequestOptions,
    model: LanguageModel,
  ) {
    const context = contextLength(model);
    const { length } = prompt.inputIds;
    const sampling = readSampling(options);
    this.answer = new Answer(prompt, context, options);
    this.places = length + answerRoom(length, context, options.maxNewTokens);
    if (sampling.temperature > 0 || sampling.repetitionPenalty !== 1) {
      this.sampler = new Sampler(sampling, {
        prompts: [prompt.inputIds],
        vocabSize: model.input.vocabSize,
        device: model.decoder.embedTokens.weight.device,
      });
    }
  }

  /** Hands a token on that was chosen from row `row` of logits (B, V). */
  take(token: number, logits: Tensor, row: number): void {
    const { logprobs, stopTokens = [] } = this.options;
    this.token = token;
    const text = this.answer.add(token);
    this.channel.push({
      token,
      text,
      finish: this.answer.finish,
      isStop: stopTokens.includes(token),
      ...(logprobs !== undefined && {
        logprobs: scope(() => tokenLogprobs(logits.narrow(0, row, 1), token, logprobs)),
      }),
    });
    if (this.answer.finish !== null) this.end();
  }

  /** Its logits are not finite. */
  fail(): void {
    this.token = null;
    this.end(notFinite('the prompt'));
  }

  /** Nothing more comes of it, but for what its channel holds. */
  end(...error: [] | [error: unknown]): void {
    if (this.isOver) return;
    this.isOver = true;
    this.channel.end(...error);
    this.sampler?.dispose();
  }
}

/** Of all rows at once; it has no state. */
const GREEDY = new Sampler(readSampling({}), { prompts: [], vocabSize: 0, device: 'cpu' });

export class BatchedGenerator {
  readonly #model: LanguageModel;
  readonly #limits: Readonly<Record<keyof BatchedGeneratorOptions, number>>;
  readonly #rows: CachedRows;
  /** In the order of the rows. */
  readonly #running: Request[] = [];
  readonly #waiting: Request[] = [];
  #work: Promise<void> | undefined;

  constructor(
    model: LanguageModel,
    { rows = 16, waiting = 64, places = rows * contextLength(model) }: BatchedGeneratorOptions = {},
  ) {
    this.#model = model;
    this.#limits = { rows, waiting, places };
    this.#rows = new CachedRows(model);
  }

  /** Answers that are being written. */
  get running(): number {
    return this.#running.length;
  }

  /** Prompts that wait for a row. */
  get waiting(): number {
    return this.#waiting.length;
  }

  /**
   * Continues a prompt. What comes before the reader takes it is kept; the answer ends where the reader leaves.
   *
   * @throws at once BusyError `E_BUSY`; UsageError `E_SAMPLING`, `E_STOP_STRINGS`; DataError `E_CONTEXT`; while reading
   *   NonFiniteError `E_LOGITS`; those of `makeBatch`; the signal's reason
   */
  ask(prompt: Prompt, options: RequestOptions = {}): AsyncGenerator<AnswerToken, void, undefined> {
    checkGenerateOptions(options);
    checkContext([prompt], contextLength(this.#model));
    options.signal?.throwIfAborted();
    const { rows, waiting } = this.#limits;
    const open = this.#running.length + this.#waiting.length;
    if (open >= rows + waiting) throw new BusyError(open);
    const request = new Request(prompt, options, this.#model);
    this.#waiting.push(request);
    this.#work ??= this.#loop();
    return read(request);
  }

  /** Waits until all that was asked is answered. */
  async idle(): Promise<void> {
    while (this.#work !== undefined) await this.#work;
  }

  async #loop(): Promise<void> {
    // Whoever asks in this turn is heard before the work begins.
    await setImmediate();
    for (;;) {
      const isIdle = inferenceMode(() => this.#turn());
      if (isIdle) break;
      await setImmediate();
    }
    this.#work = undefined;
  }

  /** One prompt, then one step: those who are being answered do not wait for many prompts. */
  #turn(): boolean {
    this.#dropEnded();
    if (this.#waiting.length + this.#running.length === 0) return true;
    if (this.#hasRoom()) this.#join(this.#waiting.shift()!);
    this.#dropEnded();
    if (this.#running.length > 0) this.#step();
    return false;
  }

  #hasRoom(): boolean {
    const next = this.#waiting[0];
    const rows = this.#running.length + 1;
    if (next === undefined || rows > this.#limits.rows) return false;
    const longest = Math.max(next.places, ...this.#running.map(({ places }) => places));
    // The cache doubles its rows as they come.
    return rows === 1 || 2 ** Math.ceil(Math.log2(rows)) * longest <= this.#limits.places;
  }

  #join(request: Request): void {
    try {
      using logits = finish(this.#rows.join([request.prompt]));
      this.#running.push(request);
      this.#choose(logits, [request]);
    } catch (error) {
      request.end(error);
      if (this.#rows.size !== this.#running.length || this.#rows.lost) this.#failAll(error);
    }
  }

  #step(): void {
    try {
      using logits = scope(() => {
        const { device } = this.#model.decoder.embedTokens.weight;
        const last = this.#running.map(({ token }) => token!);
        return finish(this.#rows.next(tensor(last, { dtype: 'int64', device })));
      });
      this.#choose(logits, this.#running);
    } catch (error) {
      this.#failAll(error);
    }
  }

  /** The next token of each request, from logits (B, V). */
  #choose(logits: Tensor, requests: readonly Request[]): void {
    const tokens = scope(() => {
      const best = GREEDY.choose(logits);
      const draws = requests.some(({ sampler }) => sampler !== undefined);
      const chosen = requests.map(
        ({ sampler }, row) => sampler?.choose(logits.narrow(0, row, 1)) ?? best.narrow(0, row, 1),
      );
      return readTokens(draws ? cat(chosen) : best, logits);
    });
    requests.forEach((request, row) => {
      const token = tokens[row]!;
      if (token === null) request.fail();
      else request.take(token, logits, row);
    });
  }

  #dropEnded(): void {
    for (const request of [...this.#waiting, ...this.#running]) {
      const { signal } = request.options;
      if (signal?.aborted === true) request.end(signal.reason);
    }
    const waiting = this.#waiting.filter(({ isOver }) => !isOver);
    this.#waiting.splice(0, Infinity, ...waiting);
    for (let row = this.#running.length - 1; row >= 0; row--) {
      const { isOver, token } = this.#running[row]!;
      if (!isOver) continue;
      // Without a token its logits were not finite.
      this.#rows.leave(row, { wipe: token === null });
      const last = this.#running.pop()!;
      if (row < this.#running.length) this.#running[row] = last;
    }
  }

  #failAll(error: unknown): void {
    for (const request of this.#running.splice(0)) request.end(error);
    this.#rows.dispose();
  }
}

async function* read(request: Request): AsyncGenerator<AnswerToken, void, undefined> {
  try {
    yield* request.channel;
  } finally {
    request.end();
  }
}
