/** Asks a model the questions of a file of LLaVA records, each on its own, and counts the answers that are right to the letter. */
import { readFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { fitImage } from '../../data/image/fit.js';
import { readImage } from '../../data/image/read-image.js';
import { parseRecord } from '../../data/records/parse-record.js';
import { encodePrompt, generate, type ChatModel } from '../../generate/index.js';
import type { Message } from '../../text/index.js';

export interface ScoredAnswer {
  /** Path of the picture, as the record names it. */
  readonly image: string;
  readonly question: string;
  readonly wanted: string;
  readonly answer: string;
  readonly right: boolean;
}

/** Prompts that are answered at the same time. */
const AT_ONCE = 64;
const LONGEST_ANSWER = 12;

export async function scoreRecords(
  chat: ChatModel,
  file: string,
  signal?: AbortSignal,
): Promise<ScoredAnswer[]> {
  const asked = await questionsOf(chat, file);
  const answers: ScoredAnswer[] = [];
  for (let at = 0; at < asked.length; at += AT_ONCE) {
    const part = asked.slice(at, at + AT_ONCE);
    const texts = part.map(() => '');
    const prompts = part.map(({ messages, pixels }) => encodePrompt(chat, messages, [pixels]));
    for await (const { prompt, text } of generate(chat.model, prompts, {
      maxNewTokens: LONGEST_ANSWER,
      stopTokens: chat.stopTokens,
      tokenizer: chat.format.tokenizer,
      signal,
    })) {
      texts[prompt] = texts[prompt]! + text;
    }
    part.forEach(({ image, question, wanted }, i) => {
      const answer = texts[i]!.trim();
      answers.push({ image, question, wanted, answer, right: answer === wanted });
    });
  }
  return answers;
}

interface Asked extends Pick<ScoredAnswer, 'image' | 'question' | 'wanted'> {
  readonly messages: readonly Message[];
  readonly pixels: Uint8Array;
}

async function questionsOf(chat: ChatModel, file: string): Promise<Asked[]> {
  const records = JSON.parse(await readFile(file, 'utf8')) as unknown[];
  const asked: Asked[] = [];
  for (const json of records) {
    const parsed = parseRecord(json);
    if (!parsed.ok) continue;
    const { images, messages } = parsed.record;
    const image = images[0] as string;
    const decoded = await readImage(join(dirname(file), image), { reading: 'turned' });
    const pixels = fitImage(decoded, chat.pictures!).data;
    for (let i = 0; i + 1 < messages.length; i += 2) {
      const [question, wanted] = [textOf(messages[i]!), textOf(messages[i + 1]!)];
      const content = [
        { type: 'image', image: 0 },
        { type: 'text', text: question },
      ] as const;
      asked.push({ image, question, wanted, pixels, messages: [{ role: 'user', content }] });
    }
  }
  return asked;
}

function textOf({ content }: Message): string {
  return content
    .map((part) => (part.type === 'text' ? part.text : ''))
    .join('')
    .trim();
}
