/** The clients of bench/serve.ts, in a thread of their own: each asks about a picture and reads the answer as it comes. */

import { parentPort, workerData } from 'node:worker_threads';

export interface Visit {
  readonly url: string;
  readonly key: string;
  readonly clients: number;
  readonly tokens: number;
  readonly words: number;
  readonly picture: string;
}

export interface Visited {
  readonly newTokens: number;
  readonly seconds: number;
  /** Until the first token, on average. */
  readonly firstSeconds: number;
}

/** As many clients at once; each asks one question. */
async function visit({ url, key, clients, tokens, words, picture }: Visit): Promise<Visited> {
  const start = performance.now();
  const ask = async (i: number): Promise<{ newTokens: number; first: number }> => {
    const count = Math.ceil(words / 2 + (((i * 7) % 16) / 15) * (words / 2));
    const response = await fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}` },
      body: JSON.stringify({
        ...{ model: 'bench', max_tokens: tokens, temperature: 0, stream: true },
        stream_options: { include_usage: true },
        messages: [
          {
            role: 'user',
            content: [
              { type: 'image_url', image_url: { url: picture } },
              { type: 'text', text: 'and '.repeat(count) },
            ],
          },
        ],
      }),
    });
    let text = '';
    let first = NaN;
    const utf8 = new TextDecoder();
    for await (const chunk of response.body as unknown as AsyncIterable<Uint8Array>) {
      text += utf8.decode(chunk, { stream: true });
      if (Number.isNaN(first) && /"content":"[^"]/.test(text)) first = performance.now() - start;
    }
    const newTokens = Number(/"completion_tokens":(\d+)/.exec(text)?.[1]);
    if (!(newTokens > 0)) throw new Error(`no answer: ${text.slice(0, 500)}`);
    return { newTokens, first };
  };
  const answers = await Promise.all(Array.from({ length: clients }, (_, i) => ask(i)));
  const sum = (values: number[]): number => values.reduce((total, value) => total + value, 0);
  return {
    newTokens: sum(answers.map(({ newTokens }) => newTokens)),
    seconds: (performance.now() - start) / 1000,
    firstSeconds: sum(answers.map(({ first }) => first)) / clients / 1000,
  };
}

parentPort!.postMessage(await visit(workerData as Visit));
