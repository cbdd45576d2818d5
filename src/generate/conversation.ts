/** A conversation with a model: questions with pictures, answers as streams, all of it remembered. */
import type { Reading, RgbImage } from '../data/image/rgb-image.js';
import { fitPicture } from '../data/image/tile.js';
import { type Message, type Part, textMessage } from '../text/index.js';
import type { FinishReason } from './answer.js';
import { type ChatModel, encodePrompt } from './chat-model.js';
import { generate, type GenerateOptions } from './generate.js';
import { decodePicture, noPictures } from './picture.js';

/** How an answer went. */
export interface AnswerSummary {
  readonly promptTokens: number;
  /** Tokens of the answer, a stop token included. */
  readonly newTokens: number;
  readonly finish: FinishReason;
  /** Seconds until the first token, and from then on until the last. */
  readonly seconds: { readonly first: number; readonly rest: number };
}

export interface ConversationOptions {
  /** What the model is told before everything else, `''` for nothing. @default what it was trained with */
  system?: string | undefined;
  /** How the pixels of a file are read. @default as it was trained, else 'turned' */
  reading?: Reading | undefined;
}

export type AskOptions = Omit<GenerateOptions, 'tokenizer' | 'stopTokens' | 'onLogits'>;

export class Conversation {
  readonly #chat: ChatModel;
  readonly #system: Message[];
  readonly #reading: Reading;
  #messages: Message[] = [];
  /** Pictures of all questions, then those that wait for the next one, as they are: how they are seen can depend on their number. */
  #pictures: RgbImage[] = [];
  #shown = 0;

  constructor(
    chat: ChatModel,
    { system = chat.system ?? '', reading = chat.reading ?? 'turned' }: ConversationOptions = {},
  ) {
    this.#chat = chat;
    this.#system = system === '' ? [] : [textMessage('system', system)];
    this.#reading = reading;
  }

  /** Everything said so far. */
  get messages(): readonly Message[] {
    return [...this.#system, ...this.#messages];
  }

  /** Pictures that the next question will show. */
  get waiting(): number {
    return this.#pictures.length - this.#shown;
  }

  /**
   * Shows a picture with the next question.
   *
   * @param picture a path, or the bytes of a file
   * @throws ImageError; DataError `E_NO_VISION` for a model without a vision tower
   */
  async show(picture: string | Uint8Array): Promise<void> {
    if (this.#chat.pictures === null) throw noPictures();
    this.#pictures.push(await decodePicture(picture, { reading: this.#reading }));
  }

  /**
   * Asks, and streams the answer. It is remembered as far as it came, also when the reader leaves; a question that got no
   * answer is forgotten, and its pictures wait for the next one.
   *
   * @throws those of `generate`
   */
  async *ask(
    question: string,
    options: AskOptions = {},
  ): AsyncGenerator<string, AnswerSummary, undefined> {
    const { model, format, stopTokens } = this.#chat;
    const pictures = this.#pictures.slice(this.#shown).map((_, i) => this.#shown + i);
    const asked: Message[] = [...this.#messages, questionOf(question, pictures)];
    const shown = this.#pictures.length;
    const prompt = encodePrompt(
      this.#chat,
      [...this.#system, ...asked],
      this.#pictures.map((image) => fitPicture(image, this.#chat.pictures!, shown)),
    );
    const start = performance.now();
    let first = start;
    let answer = '';
    let newTokens = 0;
    let finish: FinishReason = 'length';
    try {
      for await (const token of generate(model, [prompt], {
        ...options,
        tokenizer: format.tokenizer,
        stopTokens,
      })) {
        if (newTokens++ === 0) first = performance.now();
        answer += token.text;
        finish = token.finish ?? finish;
        if (token.text !== '') yield token.text;
      }
    } finally {
      if (newTokens > 0) {
        this.#messages = [...asked, textMessage('assistant', answer)];
        this.#shown = shown;
      }
    }
    const seconds = { first: (first - start) / 1000, rest: (performance.now() - first) / 1000 };
    return { promptTokens: prompt.inputIds.length, newTokens, finish, seconds };
  }

  /** Forgets everything but the system message. */
  reset(): void {
    this.#messages = [];
    this.#pictures = [];
    this.#shown = 0;
  }
}

/** A question behind its pictures, by their numbers in the conversation. */
export function questionOf(text: string, pictures: readonly number[]): Message {
  const shown = pictures.map((image): Part => ({ type: 'image', image }));
  return { role: 'user', content: [...shown, { type: 'text', text }] };
}
