/** Serves models by the protocol of OpenAI's chat completions, on a port of this machine. */
import { realpath, stat } from 'node:fs/promises';
import { setImmediate } from 'node:timers/promises';

import { UsageError } from '../base/errors.js';
import {
  BatchedGenerator,
  type BatchedGeneratorOptions,
  type ChatModel,
} from '../generate/index.js';
import { createApp, loadingApp } from './app.js';
import { listen } from './listen.js';
import { newSecret } from './secret.js';

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
  readonly port: number;
  readonly key: string;
  /** Takes no further request, finishes those that there are, and ends. */
  close(): Promise<void>;
}

/** Seconds that clients have for what is written already, once nothing more comes. */
const LINGER = 5;

/**
 * @param chats by the names that requests give; they stay the caller's. A function loads them once the port is had: until then requests
 * get 503
 * @throws EnvironmentError `E_PORT`; UsageError `E_HOST`, `E_KEY`, `E_FILES`; what the function throws
 */
export async function serve(
  chats: ReadonlyMap<string, ChatModel> | (() => Promise<ReadonlyMap<string, ChatModel>>),
  options: ServeOptions = {},
): Promise<Serving> {
  const { host, port = 8000, rows = 16, waiting = 64, onError } = options;
  const { key = `patina-${newSecret()}` } = options;
  if (!SENDABLE.test(key)) throw unsendable(key);
  const files = options.files === undefined ? undefined : await folder(options.files);
  let app = loadingApp();
  const listening = await listen({ fetch: (...args) => app.fetch(...args) }, { host, port });
  try {
    const loaded = typeof chats === 'function' ? await chats() : chats;
    const models = [...loaded].map(([name, chat]) => ({
      ...{ name, chat },
      generator: new BatchedGenerator(chat.model, { rows, waiting, places: options.places }),
    }));
    const reading = new Set<Promise<unknown>>();
    const closing = new AbortController();
    app = createApp(models, {
      key,
      bodyBytes: options.bodyBytes ?? 32 * 2 ** 20,
      pictures: {
        files,
        limits: { pixels: options.pixels ?? 50_000_000, seconds: 10 },
        pictures: options.pictures ?? 16,
      },
      maxNewTokens: options.maxNewTokens ?? 512,
      seconds: options.seconds ?? 600,
      answers: rows + waiting,
      reading,
      closing: closing.signal,
      onError: onError ?? (() => undefined),
    });
    const finish = async (): Promise<void> => {
      await Promise.allSettled(reading);
      // What has been read by now is asked a turn later at most.
      await setImmediate();
      await Promise.all(models.map(({ generator }) => generator.idle()));
    };
    let closed: Promise<void> | undefined;
    const close = (): Promise<void> => {
      closing.abort();
      return (closed ??= listening.close(finish(), LINGER));
    };
    return { url: listening.url, port: listening.port, key, close };
  } catch (error) {
    await listening.close();
    throw error;
  }
}

/** What arrives as it was sent in a header: printable ASCII, without blanks at its ends. */
const SENDABLE = /^[!-~]([ -~]*[!-~])?$/;

/** @returns an error that does not tell the key */
function unsendable(key: string): UsageError {
  const problem =
    key === '' ? 'is empty' : 'has characters that are not ASCII, or a blank at an end';
  return new UsageError(`The key ${problem}, so that no client can send it.`, {
    ...{ code: 'E_KEY', hint: 'Give another by --key, or leave it out to have it drawn.' },
  });
}

async function folder(path: string): Promise<string> {
  const real = await realpath(path).catch(() => undefined);
  if (real !== undefined && (await stat(real)).isDirectory()) return real;
  throw new UsageError(`${path}, whose files requests may show, is no folder that can be read.`, {
    ...{ code: 'E_FILES', hint: 'Name a folder that is there by --files.' },
  });
}
