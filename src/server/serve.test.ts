/* eslint-disable @typescript-eslint/no-deprecated -- clients send the older names of fields too, so they are tried */
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { mkdtemp, mkdir, rm, symlink, writeFile, copyFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { Hono } from 'hono';
import OpenAI from 'openai';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import {
  type AskOptions,
  BatchedGenerator,
  type ChatModel,
  Conversation,
} from '../generate/index.js';
import { greedyFacts, PICTURE } from '../generate/testing.js';
import { listen } from './listen.js';
import { serve, type ServeOptions, type Serving } from './serve.js';
import { testModels, whileServing } from './testing.js';

const KEY = 'a key of the tests';
const DATA_URL = `data:image/png;base64,${readFileSync(PICTURE).toString('base64')}`;
const image = (url = DATA_URL) => ({ type: 'image_url' as const, image_url: { url } });
const text = (each: string) => ({ type: 'text' as const, text: each });

let chats: Map<string, ChatModel>;
beforeAll(async () => {
  chats = await testModels();
});
afterAll(() => {
  for (const { model } of chats.values()) model.dispose();
});

const clientOf = ({ url }: Serving, apiKey = KEY): OpenAI =>
  new OpenAI({ baseURL: `${url}/v1`, apiKey, maxRetries: 0 });

function served<T>(
  use: (client: OpenAI, serving: Serving) => Promise<T>,
  options: ServeOptions = {},
): Promise<T> {
  return whileServing(chats, { key: KEY, ...options }, (serving) =>
    use(clientOf(serving), serving),
  );
}

async function freePort(): Promise<number> {
  const { port, close } = await listen(new Hono(), { port: 0 });
  await close();
  return port;
}

/** What a chat answers. */
async function chatted(
  model: string,
  question: string,
  { picture = false, ...ask }: AskOptions & { picture?: boolean } = {},
): Promise<string> {
  const conversation = new Conversation(chats.get(model)!);
  if (picture) await conversation.show(PICTURE);
  let answer = '';
  for await (const piece of conversation.ask(question, ask)) answer += piece;
  return answer;
}

const [seen, , , plain] = greedyFacts('llama3') as [Fact, Fact, Fact, Fact];
type Fact = ReturnType<typeof greedyFacts>[number];

describe("OpenAI's client", () => {
  it('gets the answer that a chat gives, with a picture and without, whole and streamed', async () => {
    const wanted = await chatted('llava', seen.user, { picture: true, maxNewTokens: 30 });
    await served(async (client) => {
      const request = {
        ...{ model: 'llava', max_tokens: 30 },
        messages: [{ role: 'user' as const, content: [image(), text(seen.user)] }],
      };
      const whole = await client.chat.completions.create(request);
      expect(whole.choices).toEqual([
        {
          ...{ index: 0, finish_reason: 'length', logprobs: null },
          message: { role: 'assistant', content: wanted, refusal: null },
        },
      ]);
      const usage = { prompt_tokens: seen.input_ids.length, completion_tokens: 30 };
      expect(whole.usage).toMatchObject(usage);
      const pieces: string[] = [];
      let last: OpenAI.ChatCompletionChunk | undefined;
      for await (const chunk of await client.chat.completions.create({
        ...{ ...request, stream: true, stream_options: { include_usage: true } },
      })) {
        pieces.push(chunk.choices[0]?.delta.content ?? '');
        last = chunk;
      }
      expect(pieces.join('')).toBe(wanted);
      expect(pieces.length).toBeGreaterThan(5);
      expect(last).toMatchObject({ choices: [], usage });
      const short = await client.chat.completions.create({
        ...{ model: 'llava', max_completion_tokens: 9, user: 'me', temperature: null },
        messages: [{ role: 'user', content: plain.user }],
      });
      const answer = await chatted('llava', plain.user, { maxNewTokens: 9 });
      expect(short.choices[0]!.message.content).toBe(answer);
    });
  });

  it('gets sixteen answers of different lengths at once, as if each were alone', async () => {
    const questions = Array.from({ length: 16 }, (_, i) => ({
      ...{ question: `What is ${'so '.repeat(i)}there?`, picture: i % 3 === 0 },
      maxNewTokens: 4 + 3 * i,
    }));
    const wanted: string[] = [];
    for (const { question, ...ask } of questions)
      wanted.push(await chatted('llava', question, ask));
    await served(async (client) => {
      const answers = questions.map(async ({ question, picture, maxNewTokens }) => {
        const { choices } = await client.chat.completions.create({
          ...{ model: 'llava', max_tokens: maxNewTokens },
          messages: [{ role: 'user', content: [...(picture ? [image()] : []), text(question)] }],
        });
        return choices[0]!.message.content;
      });
      expect(await Promise.all(answers)).toEqual(wanted);
    });
  });

  it('gets what a chat draws with the same seed, choices that differ, and log probabilities', async () => {
    const drawn = { temperature: 0.9, topP: 0.9, maxNewTokens: 12 };
    const [first, second] = [
      await chatted('llava', plain.user, { ...drawn, seed: 5 }),
      await chatted('llava', plain.user, { ...drawn, seed: 6 }),
    ];
    await served(async (client) => {
      const { choices } = await client.chat.completions.create({
        ...{ model: 'llava', temperature: 0.9, top_p: 0.9, seed: 5, n: 2, max_tokens: 12 },
        ...{ logprobs: true, top_logprobs: 4 },
        messages: [{ role: 'user', content: plain.user }],
      });
      expect(choices.map(({ message }) => message.content)).toEqual([first, second]);
      const [content] = choices.map(({ logprobs }) => logprobs!.content!);
      expect(content).toHaveLength(12);
      for (const { logprob, top_logprobs: top } of content!) {
        expect(top).toHaveLength(4);
        expect(logprob).toBeLessThanOrEqual(top[0]!.logprob);
        expect(Math.exp(top[0]!.logprob)).toBeLessThan(1);
      }
      const draw = async (): Promise<unknown> => {
        const { choices } = await client.chat.completions.create({
          ...{ model: 'llava', temperature: 2, max_tokens: 24 },
          messages: [{ role: 'user', content: plain.user }],
        });
        return choices[0]!.message.content;
      };
      expect(await draw()).not.toBe(await draw());
    });
  });

  it('has stop strings, a system message, and the conversation so far', async () => {
    const conversation = new Conversation(chats.get('llava')!, { system: 'Be brief.' });
    const said: string[] = [];
    const options = { maxNewTokens: 10, stopStrings: ['e'] };
    for (const question of ['One', 'Two']) {
      let answer = '';
      for await (const piece of conversation.ask(question, options)) answer += piece;
      said.push(answer);
    }
    await served(async (client) => {
      const { choices } = await client.chat.completions.create({
        ...{ model: 'llava', max_tokens: 10, stop: 'e' },
        messages: [
          { role: 'developer', content: 'Be brief.' },
          { role: 'user', content: 'One' },
          { role: 'assistant', content: said[0]!, refusal: null },
          { role: 'user', content: 'Two' },
        ],
      });
      expect(choices[0]!.message.content).toBe(said[1]);
    });
  });

  it('finds the models, one with an adapter among them, each with its own answers', async () => {
    const ask = { maxNewTokens: 24 };
    const wanted = [
      await chatted('small', plain.user, ask),
      await chatted('tuned', plain.user, ask),
    ];
    expect(wanted[0]).not.toBe(wanted[1]);
    await served(async (client) => {
      const names: string[] = [];
      for await (const { id } of client.models.list()) names.push(id);
      expect(names).toEqual(['llava', 'small', 'tuned']);
      expect(await client.models.retrieve('tuned')).toMatchObject({ id: 'tuned' });
      const answers = ['small', 'tuned'].map(async (model) => {
        const { choices } = await client.chat.completions.create({
          ...{ model, max_tokens: 24, messages: [{ role: 'user', content: plain.user }] },
        });
        return choices[0]!.message.content;
      });
      expect(await Promise.all(answers)).toEqual(wanted);
    });
  });

  it('is told what is wrong, as by OpenAI', async () => {
    await served(async (client, serving) => {
      const ask = (change: object): Promise<unknown> =>
        client.chat.completions.create({
          ...{ model: 'llava', max_tokens: 2 },
          ...{ messages: [{ role: 'user', content: 'Hello' }], ...change },
        } as OpenAI.ChatCompletionCreateParams);
      const says = (content: unknown, role = 'user'): object => ({ messages: [{ role, content }] });
      const refused = async (
        change: object,
        status: number,
        code: string,
        param: string | null = null,
      ): Promise<void> => {
        await expect(ask(change)).rejects.toMatchObject({ status, code, param });
      };
      await refused({ model: 'none' }, 404, 'model_not_found', 'model');
      await refused({ what: 1 }, 400, 'unknown_parameter', 'what');
      await refused({ temperature: 3 }, 400, 'invalid_value', 'temperature');
      await refused({ tools: [{ type: 'function' }] }, 400, 'invalid_value', 'tools');
      await refused({ top_logprobs: 2 }, 400, 'invalid_value', 'top_logprobs');
      await refused({ stream_options: {} }, 400, 'invalid_value', 'stream_options');
      await refused(says('x', 'tool'), 400, 'invalid_value', 'messages[0].role');
      await refused(says('x', 'assistant'), 400, 'invalid_value', 'messages');
      await refused(says([]), 400, 'invalid_value', 'messages[0].content');
      await refused(says('word '.repeat(900)), 400, 'context_length_exceeded');
      const url = 'messages[0].content[0].image_url.url';
      const shows = (at: string): object => says([image(at), text('x')]);
      await refused(shows('http://127.0.0.1/x.png'), 400, 'invalid_image_url', url);
      await refused(shows('data:image/png;base64,!!'), 400, 'invalid_image_url', url);
      await refused(shows('file:///etc/hostname'), 400, 'invalid_image_url', url);
      await refused(shows('data:image/png;base64,aGVsbG8='), 400, 'E_IMAGE_TYPE', url);
      const highest = { seed: Number.MAX_SAFE_INTEGER, temperature: 1, n: 2 };
      await refused(highest, 400, 'invalid_value', 'seed');
      // More than there will ever be room for: to come again would help nobody.
      await refused({ n: 81 }, 400, 'invalid_value', 'n');
      await refused(
        says(Array(17).fill(image())),
        400,
        'too_many_images',
        url.replace('t[0]', 't[16]'),
      );
      await expect(clientOf(serving, 'wrong').models.list()).rejects.toMatchObject({
        ...{ status: 401, code: 'invalid_api_key' },
      });
      await expect(client.models.retrieve('none')).rejects.toMatchObject({ status: 404 });
      await expect(client.embeddings.create({ model: 'llava', input: 'x' })).rejects.toMatchObject({
        ...{ status: 404, code: 'not_found' },
      });
    });
  });
});

describe('a server', () => {
  const post = (
    { url }: Pick<Serving, 'url'>,
    body: string | Uint8Array<ArrayBuffer> | object,
    { key = KEY, signal }: { key?: string; signal?: AbortSignal } = {},
  ): Promise<Response> =>
    fetch(`${url}/v1/chat/completions`, {
      method: 'POST',
      headers: { authorization: `Bearer ${key}` },
      body: typeof body === 'string' || body instanceof Uint8Array ? body : JSON.stringify(body),
      ...(signal !== undefined && { signal }),
    });
  const question = (change: object = {}): object => ({
    ...{ model: 'llava', max_tokens: 4 },
    ...{ messages: [{ role: 'user', content: 'Hello' }], ...change },
  });
  const errorOf = async (response: Response): Promise<unknown> => [
    response.status,
    ((await response.json()) as { error: { code: string } }).error.code,
  ];
  const metric = async ({ url }: Serving, line: string): Promise<number> => {
    const headers = { authorization: `Bearer ${KEY}` };
    const all = await (await fetch(`${url}/metrics`, { headers })).text();
    return Number(
      all
        .split('\n')
        .find((each) => each.startsWith(line))
        ?.slice(line.length),
    );
  };

  it('refuses what is no JSON, and bodies over the limit, sent at once or bit by bit', async () => {
    await served(
      async (_client, serving) => {
        expect(await errorOf(await post(serving, '{"model":'))).toEqual([400, 'invalid_json']);
        expect(await errorOf(await post(serving, ''))).toEqual([400, 'invalid_json']);
        expect(await errorOf(await post(serving, '['.repeat(100_000)))).toEqual([
          ...[400, 'invalid_json'],
        ]);
        expect(await errorOf(await post(serving, '[]'))).toEqual([400, 'invalid_value']);
        const large = new Uint8Array(50 * 2 ** 20).fill(0x61);
        expect(await errorOf(await post(serving, large))).toEqual([413, 'request_too_large']);
        const streamed = await fetch(`${serving.url}/v1/chat/completions`, {
          method: 'POST',
          headers: { authorization: `Bearer ${KEY}` },
          body: new Blob([large]).stream(),
          duplex: 'half',
        });
        expect(await errorOf(streamed)).toEqual([413, 'request_too_large']);
        expect(await errorOf(await post(serving, question(), { key: 'x' }))).toEqual([
          ...[401, 'invalid_api_key'],
        ]);
        expect((await post(serving, question())).status).toBe(200);
      },
      { bodyBytes: 8 * 2 ** 20 },
    );
  });

  it('shows files of its folder alone, whatever the way to others', async () => {
    const folder = await mkdtemp(join(tmpdir(), 'patina-serve-'));
    try {
      await mkdir(join(folder, 'shown'));
      await mkdir(join(folder, 'shown-not'));
      for (const name of ['shown/a b.png', 'shown-not/x.png', 'x.png']) {
        await copyFile(PICTURE, join(folder, name));
      }
      await writeFile(join(folder, 'shown', 'text.png'), 'no picture');
      await symlink(join(folder, 'x.png'), join(folder, 'shown', 'link.png'));
      await symlink(folder, join(folder, 'shown', 'up'));
      const wanted = await chatted('llava', 'Hello', { picture: true, maxNewTokens: 4 });
      await served(
        async (_client, serving) => {
          const shown = (url: string): Promise<Response> =>
            post(
              serving,
              question({ messages: [{ role: 'user', content: [image(url), text('Hello')] }] }),
            );
          const at = (path: string): string => pathToFileURL(join(folder, path)).href;
          const good = (await (await shown(at('shown/a b.png'))).json()) as OpenAI.ChatCompletion;
          expect(good.choices[0]!.message.content).toBe(wanted);
          for (const url of [
            ...[at('x.png'), at('shown-not/x.png'), at('shown/link.png'), at('shown/up/x.png')],
            ...[at('shown/none.png'), at('shown'), `${at('shown')}/../x.png`],
            ...[`${at('shown')}/%2e%2e/x.png`, `${at('shown')}/..%2fx.png`, `${at('shown')}%00`],
            ...['file://host/x.png', 'file:', 'file:shown/a.png'],
          ]) {
            expect(await errorOf(await shown(url)), url).toEqual([400, 'invalid_image_url']);
          }
          const broken = await shown(at('shown/text.png'));
          const { error } = (await broken.json()) as { error: { message: string } };
          expect(error.message).toMatch(/^messages\[0\]\.content\[0\]\.image_url\.url: /);
          expect(error.message).not.toContain(folder);
        },
        { files: join(folder, 'shown') },
      );
    } finally {
      await rm(folder, { recursive: true });
    }
  });

  it('tells those over its limits to come again, and ends an answer whose client has left', async () => {
    const heard: unknown[] = [];
    await served(
      async (_client, serving) => {
        const long = question({ max_tokens: 900, stream: true });
        const leave = new AbortController();
        const first = await post(serving, long, { signal: leave.signal });
        while ((await metric(serving, 'patina_running{model="llava"}')) < 1) await setTimeout(5);
        const second = post(serving, question());
        while ((await metric(serving, 'patina_waiting{model="llava"}')) < 1) await setTimeout(5);
        const third = await post(serving, question());
        expect(third.headers.get('retry-after')).toBe('1');
        expect(await errorOf(third)).toEqual([429, 'rate_limit_exceeded']);
        leave.abort();
        await expect(first.text()).rejects.toThrow();
        expect((await second).status).toBe(200);
        const left = 'patina_requests_total{model="llava",status="499"}';
        expect(await metric(serving, left)).toBe(1);
        await post(serving, question({ model: 'none' }));
        expect(await metric(serving, 'patina_requests_total{model="",status="404"}')).toBe(1);
        expect(await metric(serving, 'patina_running{model="llava"}')).toBe(0);
      },
      { rows: 1, waiting: 1, onError: (error) => heard.push(error) },
    );
    expect(heard).toEqual([]);
  });

  it('ends an answer that takes too long, whole or streamed', async () => {
    await served(
      async (_client, serving) => {
        const long = { max_tokens: 900 };
        expect(await errorOf(await post(serving, question(long)))).toEqual([504, 'timeout']);
        const stream = await (await post(serving, question({ ...long, stream: true }))).text();
        expect(stream).toMatch(/data: \{"error":\{.*"code":"timeout"\}\}\n\n$/);
        const { url } = serving;
        const client = new OpenAI({ baseURL: `${url}/v1`, apiKey: KEY, maxRetries: 0 });
        const reading = async (): Promise<void> => {
          const chunks = await client.chat.completions.create({
            ...{ model: 'llava', messages: [{ role: 'user', content: 'Hello' }] },
            ...{ ...long, stream: true },
          });
          for await (const chunk of chunks) expect(chunk.id).toBeDefined();
        };
        await expect(reading()).rejects.toMatchObject({ code: 'timeout' });
      },
      { seconds: 0.15 },
    );
  });

  it('gives time without end where it is told so much', async () => {
    await served(
      async (_client, serving) => {
        expect((await post(serving, question())).status).toBe(200);
      },
      { seconds: 1e9 },
    );
  });

  it('finishes what was asked when it is to end, and takes no more', async () => {
    await expect(async () => {
      await served(async (_client, serving) => {
        const running = await post(serving, question({ max_tokens: 60, stream: true }));
        const waiting = post(serving, question({ max_tokens: 30 }));
        while ((await metric(serving, 'patina_running{model="llava"}')) < 2) await setTimeout(1);
        const closed = serving.close();
        await expect(fetch(`${serving.url}/health`)).rejects.toThrow();
        expect(await running.text()).toMatch(/data: \[DONE\]\n\n$/);
        expect((await waiting).status).toBe(200);
        await closed;
      });
    }).toLeakNothing();
  });

  it('asks what it is still reading when it is to end, before it is idle', async () => {
    const order: string[] = [];
    const { ask, idle } = BatchedGenerator.prototype;
    const spies = [
      vi.spyOn(BatchedGenerator.prototype, 'ask').mockImplementation(function (
        this: BatchedGenerator,
        ...args
      ) {
        order.push('ask');
        return ask.apply(this, args);
      }),
      vi.spyOn(BatchedGenerator.prototype, 'idle').mockImplementation(function (
        this: BatchedGenerator,
      ) {
        order.push('idle');
        return idle.apply(this);
      }),
    ];
    const heard = new EventTarget();
    const { pictures } = chats.get('llava')!;
    // They are looked up when a request is about to be read.
    const chat = Object.create(chats.get('llava')!, {
      pictures: { get: () => (heard.dispatchEvent(new Event('read')), pictures) },
    }) as ChatModel;
    const serving = await serve(new Map([['llava', chat]]), { port: 0, key: KEY });
    try {
      const read = once(heard, 'read');
      const messages = [{ role: 'user', content: [image(), text('Hello')] }];
      const answer = post(serving, question({ messages }));
      await read;
      await Promise.all([serving.close(), answer]);
      expect((await answer).status).toBe(200);
      expect(order).toEqual(['ask', 'idle']);
    } finally {
      await serving.close();
      for (const spy of spies) spy.mockRestore();
    }
  });

  it('says what is wrong within itself to its log alone', async () => {
    const heard: unknown[] = [];
    const { model } = chats.get('small')!;
    const norm = model.decoder.norm.weight.clone();
    model.decoder.norm.weight.fill_(Infinity);
    try {
      await served(
        async (_client, serving) => {
          const asked = question({ model: 'small' });
          const response = await post(serving, asked);
          expect(response.status).toBe(500);
          const { error } = (await response.json()) as { error: { code: string; message: string } };
          expect(error.code).toBe('E_LOGITS');
          expect(error.message).toBe('Something went wrong in the server; its log says what.');
        },
        { onError: (error) => heard.push(error) },
      );
    } finally {
      model.decoder.norm.weight.copy_(norm);
      norm.dispose();
    }
    expect(heard).toEqual([expect.objectContaining({ code: 'E_LOGITS' })]);
  });

  it('has a page that loads nothing from elsewhere', async () => {
    await served(async (_client, { url }) => {
      const page = await (await fetch(url)).text();
      const assets = [...page.matchAll(/(?:src|href)="\.?(\/assets\/[^"]+)"/g)].map(
        ([, path]) => path!,
      );
      expect(assets.map((path) => path.replace(/.*\./, '')).sort()).toEqual(['css', 'js', 'svg']);
      for (const path of ['/', ...assets]) {
        const response = await fetch(url + path);
        expect(response.status).toBe(200);
        expect(response.headers.get('content-security-policy')).toMatch(/^default-src 'self'/);
        expect((await response.text()).replace('http://www.w3.org/2000/svg', '')).not.toMatch(
          /https?:/,
        );
      }
      expect((await fetch(`${url}/../package.json`)).status).toBe(404);
      expect(await (await fetch(`${url}/health`)).json()).toEqual({ status: 'ok' });
    });
  });

  it('refuses a port that is taken, no address, a folder that is not there, and a key that no header carries, before anything is loaded', async () => {
    const load = vi.fn(() => Promise.resolve(chats));
    await served(async (_client, { port }) => {
      await expect(serve(load, { port })).rejects.toMatchObject({ code: 'E_PORT' });
      for (const files of ['./none', PICTURE]) {
        await expect(serve(load, { port: 0, files })).rejects.toMatchObject({ code: 'E_FILES' });
      }
      for (const key of ['', ' x', 'x\n', 'schlüssel']) {
        await expect(serve(load, { port: 0, key })).rejects.toMatchObject({ code: 'E_KEY' });
      }
      const empty = { port: 0, host: '' };
      await expect(serve(load, empty)).rejects.toMatchObject({ code: 'E_HOST' });
      expect(load).not.toHaveBeenCalled();
    });
  });

  it('answers 503 while it loads, and lets its port go where that fails', async () => {
    const port = await freePort();
    const url = `http://127.0.0.1:${port}`;
    const seen: unknown[] = [];
    const load = async (): Promise<never> => {
      seen.push(await errorOf(await post({ url }, question())));
      seen.push(await (await fetch(`${url}/health`)).json());
      throw new Error('no model');
    };
    await expect(serve(load, { port })).rejects.toThrow('no model');
    expect(seen).toEqual([[503, 'loading'], { status: 'loading' }]);
    await (await serve(chats, { port })).close();
  });
});
