/** A model's answers to many questions, many at once, in the order of the questions. */
import { open } from 'node:fs/promises';

import { DataError } from '../base/errors.js';
import {
  BatchedGenerator,
  type ChatModel,
  encodePrompt,
  generateInStep,
  type InStepOptions,
  type Prompt,
  readPicture,
} from '../generate/index.js';
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

export interface AskInStepOptions
  extends Omit<AskOptions, 'rows'>, Pick<InStepOptions, 'residency' | 'each'> {
  readonly rows: number;
  /** How many times so many questions are asked: as often on all ranks, with fewer or none where this one has fewer. */
  readonly rounds: number;
}

/**
 * The same where ranks share the model out, each with questions of its own: so many at once, and the next ones when those of all ranks
 * are answered.
 *
 * @throws those of `askAll`, on all ranks
 */
export async function* askInStep(
  chat: ChatModel,
  items: readonly Item[],
  { rows, rounds, residency, each, signal, maxNewTokens, ...options }: AskInStepOptions,
): AsyncGenerator<string, void, undefined> {
  for (let round = 0; round < rounds; round++) {
    const asked = items.slice(rows * round, rows * (round + 1));
    const prompts: Prompt[] = [];
    await each(async () => {
      for (const item of asked) {
        prompts.push(await naming(item, () => promptOf(chat, item, options)));
      }
    });
    const texts = await generateInStep(chat.model, prompts, {
      ...{ residency, each, signal, maxNewTokens },
      tokenizer: chat.format.tokenizer,
      stopTokens: chat.stopTokens,
    });
    yield* texts.map(strip);
  }
}

type PromptOptions = Pick<AskOptions, 'prompt' | 'system'>;

async function answerTo(
  item: Item,
  {
    chat,
    generator,
    maxNewTokens,
    signal,
    ...options
  }: Omit<AskOptions, 'rows'> & { chat: ChatModel; generator: BatchedGenerator },
): Promise<string> {
  return naming(item, async () => {
    const prompt = await promptOf(chat, item, options);
    let text = '';
    for await (const token of generator.ask(prompt, {
      ...{ maxNewTokens, signal },
      tokenizer: chat.format.tokenizer,
      stopTokens: chat.stopTokens,
    })) {
      text += token.text;
    }
    return strip(text);
  });
}

/** A conversation that begins with the question. */
async function promptOf(
  chat: ChatModel,
  item: Item,
  { prompt, system = chat.system ?? '' }: PromptOptions,
): Promise<Prompt> {
  const reading = chat.reading ?? 'turned';
  const images: ImagePixels[] = [];
  for (const picture of item.pictures) {
    const options = { reading, pictures: item.pictures.length };
    images.push(await readPicture(await pictureSource(picture), chat.pictures, options));
  }
  const content: Part[] = images.map((_, image) => ({ type: 'image', image }));
  content.push({ type: 'text', text: prompt(item) });
  const messages: Message[] = [{ role: 'user', content }];
  if (system !== '') messages.unshift(textMessage('system', system));
  return encodePrompt(chat, messages, images);
}

/** Tells of which question it is where something is wrong with it. */
async function naming<T>({ where }: Item, work: () => Promise<T>): Promise<T> {
  try {
    return await work();
  } catch (cause) {
    if (!(cause instanceof DataError)) throw cause;
    const { code, hint, message } = cause;
    throw new DataError(`${where}: ${message}`, { code, hint, cause });
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
