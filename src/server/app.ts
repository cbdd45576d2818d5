/** The routes: OpenAI's chat completions and models, health, metrics, and a page to chat on. */
import { type Context, Hono } from 'hono';

import { ApiError, apiStatusOf, errorBody } from './api-error.js';
import { addPage } from './bundle.js';
import { ChatBodies } from './chat-bodies.js';
import { type ChatRequest, readChatRequest } from './chat-request.js';
import { answers, type ChoiceToken, requestPrompt, type ServedModel } from './completion.js';
import { readBody } from './request-body.js';
import type { PictureSource } from './request-pictures.js';
import { bearerOf, isSecret } from './secret.js';
import { ServerMetrics } from './server-metrics.js';

export interface AppOptions {
  /** What a client has to know. */
  readonly key: string;
  /** Largest body in bytes. */
  readonly bodyBytes: number;
  readonly pictures: PictureSource & { readonly pictures: number };
  /** Tokens of an answer where the request does not say. */
  readonly maxNewTokens: number;
  /** Seconds that a request may take. */
  readonly seconds: number;
  /** Answers that a model has room for, those that wait among them. */
  readonly answers: number;
  /** Prompts whose pictures are being read: each is asked as soon as it is there. */
  readonly reading: Set<Promise<unknown>>;
  /** Raised when no further request is taken. */
  readonly closing: AbortSignal;
  /** Hears of faults that are no client's. */
  readonly onError: (error: unknown) => void;
}

export function createApp(models: readonly ServedModel[], options: AppOptions): Hono {
  const { key, closing } = options;
  const app = new Hono();
  const report = (error: unknown): void => {
    if (apiStatusOf(error) >= 500 && !(error instanceof ApiError)) options.onError(error);
  };
  const metrics = new ServerMetrics(models);
  const created = Math.floor(Date.now() / 1000);
  let open = 0;

  app.onError((error, c) => {
    // The end of a body that a client has broken off is no fault.
    if (!c.req.raw.signal.aborted) report(error);
    return failure(c, error);
  });
  app.notFound((c) =>
    failure(
      c,
      new ApiError(`There is no ${c.req.method} ${c.req.path} here.`, {
        ...{ status: 404, code: 'not_found', hint: 'docs/serving.md lists what there is.' },
      }),
    ),
  );
  const guard = async (c: Context, next: () => Promise<void>): Promise<void> => {
    c.header('x-content-type-options', 'nosniff');
    expectKey(c.req.header('authorization'), key);
    await next();
  };
  app.use('/v1/*', guard);
  app.use('/metrics', guard);

  app.get('/health', (c) =>
    closing.aborted ? c.json({ status: 'closing' }, 503) : c.json({ status: 'ok' }),
  );
  app.get('/metrics', (c) => c.text(metrics.text()));
  const modelBody = ({ name }: ServedModel): object => ({
    ...{ id: name, object: 'model', created, owned_by: 'patina' },
  });
  app.get('/v1/models', (c) => c.json({ object: 'list', data: models.map(modelBody) }));
  app.get('/v1/models/:name{.+}', (c) => c.json(modelBody(named(models, c.req.param('name')))));

  app.post('/v1/chat/completions', async (c) => {
    open++;
    const call = new Call(c.req.raw.signal, options.seconds, () => open--);
    call.counts = (status) => metrics.ended(status);
    try {
      if (closing.aborted) throw leaving();
      if (open > models.length * options.answers) throw crowded(open - 1);
      const request = readChatRequest(await readBody(c.req.raw, options.bodyBytes));
      const model = named(models, request.model);
      call.counts = (status) => metrics.ended(status, model.name);
      return await complete(c, call, { model, request, metrics, options, report });
    } catch (error) {
      call.end(apiStatusOf(error));
      throw error;
    }
  });

  addPage(app, 'chat');
  return app;
}

/** While models are loaded: nothing can be asked yet. */
export function loadingApp(): Hono {
  const app = new Hono();
  app.get('/health', (c) => c.json({ status: 'loading' }, 503));
  app.all('*', (c) =>
    failure(
      c,
      new ApiError('The model is still being loaded.', {
        ...{ status: 503, code: 'loading', hint: 'Ask again in a while.' },
      }),
    ),
  );
  return app;
}

/** Milliseconds, 24 days; Node takes more for none. */
const LONGEST_TIMER = 2 ** 31 - 1;

/** What ends a request from outside: its time, and a client that leaves. */
class Call {
  readonly start = performance.now();
  readonly #stop = new AbortController();
  readonly #timer: NodeJS.Timeout;
  readonly #client: AbortSignal;
  readonly #onEnd: () => void;
  isOpen = true;
  /** Hears how it ended. */
  counts: (status: number) => void = () => undefined;

  constructor(client: AbortSignal, seconds: number, onEnd: () => void) {
    this.#client = client;
    this.#onEnd = onEnd;
    const wait = Math.min(1000 * seconds, LONGEST_TIMER);
    this.#timer = setTimeout(() => this.#stop.abort(tooSlow(seconds)), wait);
    client.addEventListener('abort', this.#left);
    if (client.aborted) this.#left();
  }

  readonly #left = (): void => {
    this.end(CLIENT_LEFT);
  };

  get signal(): AbortSignal {
    return this.#stop.signal;
  }

  /** Stops what still goes on of it. */
  end(status: number): void {
    if (!this.isOpen) return;
    this.isOpen = false;
    clearTimeout(this.#timer);
    this.#client.removeEventListener('abort', this.#left);
    this.#stop.abort(new Error('the request is over'));
    this.counts(status);
    this.#onEnd();
  }
}

/** nginx's name for it. */
const CLIENT_LEFT = 499;

async function complete(
  c: Context,
  call: Call,
  {
    model,
    request,
    metrics,
    options,
    report,
  }: {
    model: ServedModel;
    request: ChatRequest;
    metrics: ServerMetrics;
    options: AppOptions;
    report: (error: unknown) => void;
  },
): Promise<Response> {
  const { signal } = call;
  const { stream = false, stream_options, n = 1 } = request;
  if (n > options.answers) throw tooMany(n, options.answers);
  const prompt = await among(
    options.reading,
    requestPrompt(model, request, { ...options.pictures, signal }),
  );
  const promptTokens = prompt.inputIds.length;
  const bodies = new ChatBodies(model.name, {
    ...{ tokenizer: model.chat.format.tokenizer, promptTokens },
    withUsage: stream_options?.include_usage === true,
  });
  const { maxNewTokens } = options;
  const tokens = counted(answers(model, prompt, request, { maxNewTokens, signal }), (isFirst) => {
    const first = isFirst ? (performance.now() - call.start) / 1000 : undefined;
    metrics.token(model.name, first);
  });
  metrics.prompt(model.name, promptTokens);
  if (!stream) {
    const body = await bodies.whole(tokens, n);
    call.end(200);
    return c.json(body);
  }
  const lines = eventLines(bodies, tokens, n, (error) => {
    if (call.isOpen) report(error);
    call.end(apiStatusOf(error));
  });
  return c.body(
    pulled(lines, (status) => call.end(status)),
    200,
    {
      'content-type': 'text/event-stream; charset=utf-8',
      'cache-control': 'no-cache',
      // Proxies that gather an answer before they hand it on would make a stream of no use.
      'x-accel-buffering': 'no',
    },
  );
}

/** A promise that is told of while it is open. */
async function among<T>(open: Set<Promise<unknown>>, promise: Promise<T>): Promise<T> {
  open.add(promise);
  try {
    return await promise;
  } finally {
    open.delete(promise);
  }
}

/** Server-sent events; an error that comes after the first of them is one itself. */
async function* eventLines(
  bodies: ChatBodies,
  tokens: AsyncIterable<ChoiceToken>,
  count: number,
  onError: (error: unknown) => void,
): AsyncGenerator<string, void, undefined> {
  const line = (data: object): string => `data: ${JSON.stringify(data)}\n\n`;
  try {
    for (const body of bodies.opening(count)) yield line(body);
    for await (const token of tokens) for (const body of bodies.piece(token)) yield line(body);
    for (const body of bodies.ending()) yield line(body);
    yield 'data: [DONE]\n\n';
  } catch (error) {
    onError(error);
    yield line(errorBody(error));
  }
}

/** A stream whose reader sets the pace. */
function pulled(
  lines: AsyncGenerator<string, void, undefined>,
  onEnd: (status: number) => void,
): ReadableStream<Uint8Array> {
  const utf8 = new TextEncoder();
  return new ReadableStream<Uint8Array>({
    async pull(controller) {
      const { done, value } = await lines.next();
      if (done !== true) {
        controller.enqueue(utf8.encode(value));
        return;
      }
      controller.close();
      onEnd(200);
    },
    cancel: () => onEnd(CLIENT_LEFT),
  });
}

async function* counted<T>(
  items: AsyncIterable<T>,
  count: (isFirst: boolean) => void,
): AsyncGenerator<T, void, undefined> {
  let isFirst = true;
  for await (const item of items) {
    count(isFirst);
    isFirst = false;
    yield item;
  }
}

function failure(c: Context, error: unknown): Response {
  const status = apiStatusOf(error);
  if (status === 401) c.header('www-authenticate', 'Bearer');
  if (status === 429 || status === 503) c.header('retry-after', '1');
  if (status === 413) c.header('connection', 'close');
  return c.json(errorBody(error), status);
}

function named(models: readonly ServedModel[], name: string): ServedModel {
  const found = models.find((model) => model.name === name);
  if (found !== undefined) return found;
  throw new ApiError(`There is no model ${JSON.stringify(name)} here.`, {
    ...{ status: 404, param: 'model', code: 'model_not_found' },
    hint: `Ask ${models.map((model) => model.name).join(' or ')}.`,
  });
}

function expectKey(header: string | undefined, key: string): void {
  const given = bearerOf(header);
  if (isSecret(given, key)) return;
  const what = given === undefined ? 'No API key was given.' : 'The API key is not the one wanted.';
  throw new ApiError(what, {
    ...{ status: 401, code: 'invalid_api_key' },
    hint: 'Send the key that the server was started with as "Authorization: Bearer KEY".',
  });
}

function leaving(): ApiError {
  return new ApiError('The server is about to end.', {
    ...{ status: 503, code: 'closing', hint: 'Ask again when it is back.' },
  });
}

function crowded(open: number): ApiError {
  return new ApiError(`${open} requests are open already.`, {
    ...{ status: 429, code: 'rate_limit_exceeded', hint: 'Ask again in a while.' },
  });
}

/** However often it came again, there would be no room for it. */
function tooMany(n: number, most: number): ApiError {
  return new ApiError(`n is ${n}, and this server has room for ${most} answers.`, {
    ...{ param: 'n', code: 'invalid_value', hint: 'Ask for fewer, in several requests.' },
  });
}

function tooSlow(seconds: number): ApiError {
  return new ApiError(`The answer took longer than ${seconds} s.`, {
    ...{ status: 504, code: 'timeout', hint: 'Ask for fewer tokens, or when fewer others ask.' },
  });
}
