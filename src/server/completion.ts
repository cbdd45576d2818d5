/** One request on its way: messages to a prompt, the prompt to answers, as `patina chat` does it. */
import { randomInt } from 'node:crypto';

import {
  type AnswerToken,
  type BatchedGenerator,
  Channel,
  type ChatModel,
  encodePrompt,
  type Prompt,
  type RequestOptions,
} from '../generate/index.js';
import type { ImagePixels } from '../models/index.js';
import { type Message, type Part, textMessage } from '../text/index.js';
import { ApiError } from './api-error.js';
import type { ChatRequest, RequestMessage } from './chat-request.js';
import { type PictureSource, requestPicture } from './request-pictures.js';

/** A model under the name that requests give. */
export interface ServedModel {
  readonly name: string;
  readonly chat: ChatModel;
  readonly generator: BatchedGenerator;
}

/** A token of one of the answers to a request. */
export interface ChoiceToken extends AnswerToken {
  readonly choice: number;
}

export interface PromptOptions extends PictureSource {
  /** Most pictures of a request. */
  readonly pictures: number;
  /** Ends the reading of pictures between two of them. */
  readonly signal: AbortSignal;
}

/** @throws ApiError; those of `encodePrompt` and `readPicture` */
export async function requestPrompt(
  { chat }: ServedModel,
  { messages }: ChatRequest,
  options: PromptOptions,
): Promise<Prompt> {
  const shown = messages.flatMap(({ content }) => content.filter(({ type }) => type !== 'text'));
  const reading = {
    pictures: chat.pictures,
    reading: chat.reading ?? 'turned',
    count: shown.length,
  };
  const images: ImagePixels[] = [];
  const read: Message[] = [];
  for (const [i, { role, content }] of messages.entries()) {
    const parts: Part[] = [];
    for (const [j, part] of content.entries()) {
      if (part.type === 'text') {
        parts.push(part);
        continue;
      }
      const param = `messages[${i}].content[${j}].image_url.url`;
      if (images.length === options.pictures) {
        throw new ApiError(`There are more than ${options.pictures} pictures.`, {
          ...{ param, code: 'too_many_images', hint: 'Show fewer of them.' },
        });
      }
      options.signal.throwIfAborted();
      parts.push({ type: 'image', image: images.length });
      images.push(await requestPicture(part.image_url.url, param, reading, options));
    }
    read.push({ role: roleOf(role), content: parts });
  }
  const begins = read[0]!.role === 'system';
  // A system message of no text says that there is to be none.
  if (begins && read[0]!.content.every((part) => part.type === 'text' && part.text === '')) {
    read.shift();
  } else if (!begins && (chat.system ?? '') !== '') {
    read.unshift(textMessage('system', chat.system!));
  }
  if (read.at(-1)?.role !== 'user') {
    throw new ApiError('The last message is not one of the user.', {
      ...{ param: 'messages', code: 'invalid_value', hint: 'End with a question.' },
    });
  }
  return encodePrompt(chat, read, images);
}

function roleOf(role: RequestMessage['role']): Message['role'] {
  return role === 'developer' ? 'system' : role;
}

/**
 * The answers to a prompt, token by token. All wait for their turn as soon as this returns.
 *
 * @throws at once those of `BatchedGenerator.ask`; while reading too
 */
export function answers(
  { chat, generator }: ServedModel,
  prompt: Prompt,
  request: ChatRequest,
  { maxNewTokens, signal }: { maxNewTokens: number; signal: AbortSignal },
): AsyncIterable<ChoiceToken> {
  const { n = 1, seed = randomInt(2 ** 32), logprobs, top_logprobs = 0 } = request;
  const options: RequestOptions = {
    maxNewTokens: request.max_completion_tokens ?? request.max_tokens ?? maxNewTokens,
    stopStrings: request.stop,
    stopTokens: chat.stopTokens,
    tokenizer: chat.format.tokenizer,
    temperature: request.temperature,
    topP: request.top_p,
    topK: request.top_k,
    minP: request.min_p,
    repetitionPenalty: request.repetition_penalty,
    ...(logprobs === true && { logprobs: top_logprobs }),
    signal,
  };
  const together = new Channel<ChoiceToken>();
  let open = n;
  const hand = async (answer: AsyncIterable<AnswerToken>, choice: number): Promise<void> => {
    try {
      for await (const token of answer) together.push({ choice, ...token });
      if (--open === 0) together.end();
    } catch (error) {
      together.end(error);
    }
  };
  const asked = Array.from({ length: n }, (_, choice) =>
    generator.ask(prompt, { ...options, seed: seed + choice }),
  );
  asked.forEach((answer, choice) => void hand(answer, choice));
  return together;
}
