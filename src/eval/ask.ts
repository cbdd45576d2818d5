/** A model's answers to many questions, many at once, in the order of the questions. */
import { open } from 'node:fs/promises';

import { DataError } from '../base/errors.js';
import { BatchedGenerator, type ChatModel, encodePrompt, readPicture } from '../generate/index.js';
import type { ImagePixels } from '../models/index.js';
import { type Message, type Part, textMessage } from '../text/index.js';
import type { Item, Picture } from './item.js';
import { strip } from './python-text.js';

export interface AskOptions {
  readonly prompt: (item: Item) => string;
  readonly maxNewTokens: number;
  /** Most questions at once. @default 16 */
  readonly rows?: number | undefined;
  /** What is said before each of them. @default what the model was trained with */
  readonly system?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Asks each question in a conversation of its own, taking the best token always.
 *
 * @returns texts without blanks at their ends
 * @throws ImageError, DataError and NonFiniteError, which name the question; the signal's reason
 */
export async function* askAll(
  chat: ChatModel,
  items: readonly Item[],
  { rows = 16, signal, ...options }: AskOptions,
): AsyncGenerator<string, void, undefined> {
  const stop = new AbortController();
  const signals = AbortSignal.any([stop.signal, ...(signal === undefined ? [] : [signal])]);
  const generator = new BatchedGenerator(chat.model, { rows, waiting: Infinity });
  const open: Promise<string>[] = [];
  try {
    for (const item of items) {
      const answer = answerTo(item, { ...options, chat, generator, signal: signals });
      // It is awaited in its turn, unless one before it fails.
      answer.catch(() => undefined);
      open.push(answer);
      // Twice as many as rows: the first one may be long, and the others go on.
      if (open.length === 2 * rows) yield await open.shift()!;
    }
    while (open.length > 0) yield await open.shift()!;
  } finally {
    stop.abort();
    await Promise.allSettled(open);
    await generator.idle();
  }
}

async function answerTo(
  item: Item,
  {
    chat,
    generator,
    prompt,
    maxNewTokens,
    system = chat.system ?? '',
    signal,
  }: Omit<AskOptions, 'rows'> & { chat: ChatModel; generator: BatchedGenerator },
): Promise<string> {
  try {
    const reading = chat.reading ?? 'turned';
    const images: ImagePixels[] = [];
    for (const picture of item.pictures) {
      images.push(await readPicture(await pictureSource(picture), chat.pictures, { reading }));
    }
    const content: Part[] = images.map((_, image) => ({ type: 'image', image }));
    content.push({ type: 'text', text: prompt(item) });
    const messages: Message[] = [{ role: 'user', content }];
    if (system !== '') messages.unshift(textMessage('system', system));
    let text = '';
    for await (const token of generator.ask(encodePrompt(chat, messages, images), {
      ...{ maxNewTokens, signal },
      tokenizer: chat.format.tokenizer,
      stopTokens: chat.stopTokens,
    })) {
      text += token.text;
    }
    return strip(text);
  } catch (cause) {
    if (!(cause instanceof DataError)) throw cause;
    const { code, hint, message } = cause;
    throw new DataError(`${item.where}: ${message}`, { code, hint, cause });
  }
}

/** A path, or the bytes of a file. */
async function pictureSource(picture: Picture): Promise<string | Uint8Array> {
  if ('path' in picture) return picture.path;
  if ('base64' in picture) return Buffer.from(picture.base64, 'base64');
  const handle = await open(picture.file);
  try {
    const bytes = Buffer.alloc(picture.length);
    await handle.read(bytes, 0, picture.length, picture.offset);
    return Buffer.from(bytes.toString('latin1'), 'base64');
  } finally {
    await handle.close();
  }
}
