/** What `/v1/chat/completions` answers with: one object, or a chunk for each piece of text. */
import { randomUUID } from 'node:crypto';

import type { FinishReason, TokenLogprob } from '../generate/index.js';
import type { Tokenizer } from '../text/index.js';
import type { ChoiceToken } from './completion.js';

interface LogprobEntry {
  readonly token: string;
  readonly logprob: number;
  readonly bytes: readonly number[];
}

type Logprobs = { content: (LogprobEntry & { top_logprobs: LogprobEntry[] })[] } | null;

/** Makes the bodies of one request. */
export class ChatBodies {
  readonly #head: { readonly id: string; readonly created: number; readonly model: string };
  readonly #tokenizer: Tokenizer;
  readonly #promptTokens: number;
  readonly #withUsage: boolean;
  #newTokens = 0;

  constructor(
    model: string,
    {
      tokenizer,
      promptTokens,
      withUsage = false,
    }: { tokenizer: Tokenizer; promptTokens: number; withUsage?: boolean },
  ) {
    this.#head = {
      id: `chatcmpl-${randomUUID()}`,
      created: Math.floor(Date.now() / 1000),
      model,
    };
    this.#tokenizer = tokenizer;
    this.#promptTokens = promptTokens;
    this.#withUsage = withUsage;
  }

  /** The whole answer. */
  async whole(tokens: AsyncIterable<ChoiceToken>, count: number): Promise<object> {
    const choices = Array.from({ length: count }, (_, index) => ({
      index,
      message: { role: 'assistant', content: '', refusal: null },
      logprobs: null as Logprobs,
      finish_reason: null as FinishReason | null,
    }));
    for await (const token of tokens) {
      this.#newTokens++;
      const choice = choices[token.choice]!;
      choice.message.content += token.text;
      choice.finish_reason = token.finish;
      const logprobs = this.#logprobs(token);
      if (logprobs !== null)
        (choice.logprobs ??= { content: [] }).content.push(...logprobs.content);
    }
    return { ...this.#head, object: 'chat.completion', choices, usage: this.#usage() };
  }

  /** The first chunks of a stream: who speaks. */
  *opening(count: number): Generator<object> {
    for (let index = 0; index < count; index++) {
      yield this.#chunk({ index, delta: { role: 'assistant', content: '' } });
    }
  }

  /** What a token adds to a stream; often nothing. */
  *piece(token: ChoiceToken): Generator<object> {
    this.#newTokens++;
    const { choice: index, text, finish } = token;
    const logprobs = this.#logprobs(token);
    if (text !== '' || logprobs !== null) {
      yield this.#chunk({ index, delta: { content: text }, logprobs });
    }
    if (finish !== null) yield this.#chunk({ index, delta: {}, finish });
  }

  /** The last chunk of a stream, where it was asked for. */
  *ending(): Generator<object> {
    if (!this.#withUsage) return;
    yield { ...this.#head, object: 'chat.completion.chunk', choices: [], usage: this.#usage() };
  }

  #chunk({
    index,
    delta,
    logprobs = null,
    finish = null,
  }: {
    index: number;
    delta: object;
    logprobs?: Logprobs;
    finish?: FinishReason | null;
  }): object {
    const choices = [{ index, delta, logprobs, finish_reason: finish }];
    const usage = this.#withUsage ? { usage: null } : {};
    return { ...this.#head, object: 'chat.completion.chunk', choices, ...usage };
  }

  /** A stop token is no part of the answer. */
  #logprobs({ logprobs, isStop }: ChoiceToken): Logprobs {
    if (logprobs === undefined || isStop) return null;
    const { top } = logprobs;
    const entries = top.map((each) => this.#entry(each));
    return { content: [{ ...this.#entry(logprobs), top_logprobs: entries }] };
  }

  #entry({ token, logprob }: TokenLogprob): LogprobEntry {
    const bytes = this.#tokenizer.bytesOf(token);
    // JSON has no infinity; OpenAI's own number for what is as good as impossible.
    const shown = Math.max(logprob, -9999);
    return { token: Buffer.from(bytes).toString('utf8'), logprob: shown, bytes: [...bytes] };
  }

  #usage(): object {
    const [prompt, completion] = [this.#promptTokens, this.#newTokens];
    return {
      prompt_tokens: prompt,
      completion_tokens: completion,
      total_tokens: prompt + completion,
    };
  }
}
