/** Many clients at once, some of whom misbehave: slow ones, ones that leave, what is no request; memory stays where it was. */
import { once } from 'node:events';
import { connect, type Socket } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import type { ChatModel } from '../generate/index.js';
import type { Serving } from './serve.js';
import { testModels, whileServing } from './testing.js';

const KEY = 'key';
/** Requests of the test; `npm run test:full` sends more. */
const REQUESTS = process.env['PATINA_FULL'] === '1' ? 2000 : 120;
const AT_ONCE = 24;

let chats: Map<string, ChatModel>;
beforeAll(async () => {
  chats = await testModels();
});
afterAll(() => {
  for (const { model } of chats.values()) model.dispose();
});

const body = (change: object = {}): string =>
  JSON.stringify({
    ...{ model: 'llava', max_tokens: 6 },
    ...{ messages: [{ role: 'user', content: 'Hello' }], ...change },
  });

function post({ url }: Serving, text: string, init: RequestInit = {}): Promise<Response> {
  const headers = { authorization: `Bearer ${KEY}` };
  return fetch(`${url}/v1/chat/completions`, { method: 'POST', headers, body: text, ...init });
}

/** A connection on which bytes can be sent as slowly as one likes. */
function raw({ url }: Serving): Promise<Socket> {
  const { hostname, port } = new URL(url);
  return new Promise((resolve, reject) => {
    const socket = connect(Number(port), hostname, () => resolve(socket));
    socket.on('error', reject);
  });
}

const head = (length: number): string =>
  `POST /v1/chat/completions HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer ${KEY}\r\nContent-Length: ${length}\r\n\r\n`;

/** The i-th client. */
async function visit(serving: Serving, i: number): Promise<void> {
  switch (i % 8) {
    case 0: {
      const answer = await (await post(serving, body({ stream: true }))).text();
      expect(answer).toMatch(/\[DONE\]\n\n$/);
      return;
    }
    case 1: {
      const leave = new AbortController();
      const { signal } = leave;
      const response = await post(serving, body({ stream: true, max_tokens: 400 }), { signal });
      await response.body!.getReader().read();
      leave.abort();
      return;
    }
    case 2:
      expect((await post(serving, '{"model": "llava", ')).status).toBe(400);
      return;
    case 3: {
      // Leaves before it has an answer, or has said all.
      const socket = await raw(serving);
      const text = body({ max_tokens: 400 });
      socket.write(head(text.length) + text.slice(0, i % 2 === 0 ? undefined : 20));
      await setTimeout(10);
      socket.destroy();
      return;
    }
    case 4: {
      const socket = await raw(serving);
      const text = body();
      for (const piece of [head(text.length), text.slice(0, 9), text.slice(9)]) {
        socket.write(piece);
        await setTimeout(3);
      }
      const [answer] = (await once(socket, 'data')) as [Buffer];
      expect(answer.toString()).toMatch(/^HTTP\/1\.1 200 /);
      socket.destroy();
      return;
    }
    case 5:
      expect((await post(serving, body(), { headers: {} })).status).toBe(401);
      return;
    case 6: {
      const content = [{ type: 'image_url', image_url: { url: 'file:///../../etc/passwd' } }];
      const text = body({ messages: [{ role: 'user', content }] });
      expect((await post(serving, text)).status).toBe(400);
      return;
    }
    default:
      expect((await post(serving, body({ model: i % 3 === 0 ? 'tuned' : 'small' }))).status).toBe(
        200,
      );
  }
}

async function visits(serving: Serving, count: number): Promise<void> {
  let next = 0;
  const client = async (): Promise<void> => {
    while (next < count) await visit(serving, next++);
  };
  await Promise.all(Array.from({ length: AT_ONCE }, client));
}

describe('a server under load', () => {
  it(
    `answers ${REQUESTS} requests, ${AT_ONCE} at once, and keeps nothing of them`,
    async () => {
      await expect(() =>
        whileServing(chats, { key: KEY, rows: 6 }, async (serving) => {
          const used = async (): Promise<number> => {
            await setTimeout(50);
            globalThis.gc?.();
            return process.memoryUsage().rss / 2 ** 20;
          };
          await visits(serving, Math.min(REQUESTS / 2, 400));
          const before = await used();
          await visits(serving, REQUESTS);
          // Room for what a garbage collector has not looked at; a request of which something stayed would keep its cache.
          expect((await used()) - before).toBeLessThan(64);
          expect((await post(serving, body())).status).toBe(200);
        }),
      ).toLeakNothing();
    },
    REQUESTS * 500,
  );

  it('lets a client that does not read hold nobody up, nor keep the server from its end', async () => {
    const sockets: Socket[] = [];
    await whileServing(chats, { key: KEY, rows: 1 }, async (serving) => {
      for (let i = 0; i < 2; i++) {
        const socket = await raw(serving);
        socket.on('error', () => undefined);
        socket.pause();
        const change = { stream: true, max_tokens: 150, n: 4, logprobs: true, top_logprobs: 20 };
        const text = body(change);
        socket.write(head(text.length) + text);
        sockets.push(socket);
      }
      expect((await post(serving, body())).status).toBe(200);
    });
    for (const socket of sockets) socket.destroy();
  });
});
