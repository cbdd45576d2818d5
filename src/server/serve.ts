/** Serves models by the protocol of OpenAI's chat completions, on a port of this machine. */
import { randomBytes } from 'node:crypto';
import { realpath } from 'node:fs/promises';
import type { Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { setTimeout } from 'node:timers/promises';
import { createAdaptorServer } from '@hono/node-server';

import { EnvironmentError, UsageError } from '../base/errors.js';
import { errorCode } from '../base/system-error.js';
import {
  BatchedGenerator,
  type BatchedGeneratorOptions,
  type ChatModel,
} from '../generate/index.js';
import { createApp } from './app.js';

export interface ServeOptions extends BatchedGeneratorOptions {
  /** @default 127.0.0.1, where only this machine reaches it */
  host?: string | undefined;
  /** 0 for any that is free. @default 8000 */
  port?: number | undefined;
  /** What clients send as their API key. @default one that is drawn */
  key?: string | undefined;
  /** Folder whose files requests may show as `file:///...`. @default none */
  files?: string | undefined;
  /** Tokens of an answer where a request does not say. @default 512 */
  maxNewTokens?: number | undefined;
  /** Seconds that a request may take. @default 600 */
  seconds?: number | undefined;
  /** Largest body of a request in bytes. @default 33_554_432 (32 MiB) */
  bodyBytes?: number | undefined;
  /** Most pictures of a request. @default 16 */
  pictures?: number | undefined;
  /** Most pixels of a picture. @default 50_000_000 */
  pixels?: number | undefined;
  /** Hears of faults that are no client's. @default nobody */
  onError?: ((error: unknown) => void) | undefined;
}

export interface Serving {
  /** Where it listens: `http://127.0.0.1:8000`. */
  readonly url: string;
  readonly key: string;
  /** Takes no further request, finishes those that there are, and ends. */
  close(): Promise<void>;
}

/** Seconds that clients have for what is written already, once nothing more comes. */
const LINGER = 5;
/** Seconds in which a request has to arrive. */
const ARRIVAL = 60;

/**
 * @param chats by the names that requests give; they stay the caller's
 * @throws EnvironmentError `E_PORT`; UsageError `E_FILES`
 */
export async function serve(
  chats: ReadonlyMap<string, ChatModel>,
  options: ServeOptions = {},
): Promise<Serving> {
  const { host = '127.0.0.1', port = 8000, rows = 16, waiting = 64, onError } = options;
  const { key = `patina-${randomBytes(24).toString('base64url')}` } = options;
  const models = [...chats].map(([name, chat]) => ({
    ...{ name, chat },
    generator: new BatchedGenerator(chat.model, { rows, waiting, places: options.places }),
  }));
  const closing = new AbortController();
  const app = createApp(models, {
    key,
    bodyBytes: options.bodyBytes ?? 32 * 2 ** 20,
    pictures: {
      files: options.files === undefined ? undefined : await folder(options.files),
      limits: { pixels: options.pixels ?? 50_000_000, seconds: 10 },
      pictures: options.pictures ?? 16,
    },
    maxNewTokens: options.maxNewTokens ?? 512,
    seconds: options.seconds ?? 600,
    requests: models.length * (rows + waiting),
    closing: closing.signal,
    onError: onError ?? (() => undefined),
  });
  const server = createAdaptorServer({
    fetch: app.fetch,
    overrideGlobalObjects: false,
    serverOptions: { requestTimeout: 1000 * ARRIVAL, headersTimeout: 1000 * ARRIVAL },
  }) as Server;
  await listen(server, host, port);
  const { port: bound } = server.address() as AddressInfo;
  let closed: Promise<void> | undefined;
  const close = async (): Promise<void> => {
    closing.abort();
    const ended = new Promise<void>((resolve) => server.close(() => resolve()));
    for (const { generator } of models) await generator.idle();
    const patience = new AbortController();
    const cut = setTimeout(1000 * LINGER, undefined, { signal: patience.signal, ref: false }).then(
      () => server.closeAllConnections(),
      () => undefined,
    );
    const sweep = setInterval(() => server.closeIdleConnections(), 20);
    await ended;
    clearInterval(sweep);
    patience.abort();
    await cut;
  };
  return {
    url: `http://${host.includes(':') ? `[${host}]` : host}:${bound}`,
    key,
    close: () => (closed ??= close()),
  };
}

function listen(server: Server, host: string, port: number): Promise<void> {
  return new Promise((resolve, reject) => {
    server.once('error', (cause) => {
      const code = errorCode(cause) ?? cause.message;
      reject(
        new EnvironmentError(`${host}:${port} cannot be listened on (${code}).`, {
          ...{ code: 'E_PORT', cause },
          hint: 'Choose another --port or --host; port 0 is any that is free.',
        }),
      );
    });
    server.listen(port, host, resolve);
  });
}

async function folder(path: string): Promise<string> {
  try {
    return await realpath(path);
  } catch (cause) {
    throw new UsageError(`The folder of files ${path} cannot be read.`, {
      ...{ code: 'E_FILES', cause },
      hint: 'Name a folder that is there.',
    });
  }
}
