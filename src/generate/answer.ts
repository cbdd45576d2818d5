/** How far an answer is: the text of its tokens, and what ends it. */
import { UsageError } from '../base/errors.js';
import { TokenStream, type Tokenizer } from '../text/index.js';
import type { Prompt } from './prompt.js';

export interface AnswerOptions {
  /** Most tokens of an answer; the end of the model's context ends it too. @default 512 */
  maxNewTokens?: number | undefined;
  /** Ids that end an answer. @default none */
  stopTokens?: readonly number[] | undefined;
  /** Texts that end an answer and are left out of it; they need a tokenizer. @default none */
  stopStrings?: readonly string[] | undefined;
  /** Of the model, for text beside the tokens. */
  tokenizer?: Tokenizer | undefined;
}

/** `stop`: a stop token or string; `length`: the limit on tokens, or the end of the context. */
export type FinishReason = 'stop' | 'length';

const DEFAULT_NEW_TOKENS = 512;

/** @throws UsageError `E_SAMPLING` for a limit that is none, `E_STOP_STRINGS` */
export function checkAnswerOptions({
  maxNewTokens = DEFAULT_NEW_TOKENS,
  stopStrings = [],
  tokenizer,
}: AnswerOptions): void {
  if (stopStrings.length > 0 && tokenizer === undefined) {
    throw new UsageError('Stop strings cannot be found without a tokenizer.', {
      code: 'E_STOP_STRINGS',
      hint: 'Pass the tokenizer of the model.',
    });
  }
  if (Number.isSafeInteger(maxNewTokens) && maxNewTokens >= 1) return;
  throw new UsageError(`maxNewTokens is ${maxNewTokens}, which is not a whole number from 1.`, {
    code: 'E_SAMPLING',
    hint: 'Give maxNewTokens as a whole number from 1.',
  });
}

export class Answer {
  finish: FinishReason | null = null;
  #left: number;
  readonly #stopTokens: ReadonlySet<number>;
  readonly #stream: TokenStream | undefined;

  /** @param context positions that the model attends over */
  constructor(
    { inputIds }: Prompt,
    context: number,
    {
      maxNewTokens = DEFAULT_NEW_TOKENS,
      stopTokens = [],
      stopStrings = [],
      tokenizer,
    }: AnswerOptions,
  ) {
    this.#left = answerRoom(inputIds.length, context, maxNewTokens);
    this.#stopTokens = new Set(stopTokens);
    this.#stream = tokenizer && new TokenStream(tokenizer, { stop: stopStrings });
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

/** Most tokens of an answer. The last one is not attended over, so it may be one beyond the context. */
export function answerRoom(
  promptTokens: number,
  context: number,
  maxNewTokens = DEFAULT_NEW_TOKENS,
): number {
  return Math.min(maxNewTokens, context - promptTokens + 1);
}
