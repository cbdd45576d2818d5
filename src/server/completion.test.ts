import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

import { BatchedGenerator, loadChatModel } from '../generate/index.js';
import { greedyFacts, LLAVA } from '../generate/testing.js';
import { readChatRequest } from './chat-request.js';
import { requestPrompt } from './completion.js';

test('pictures of all messages count together where a model asks how many there are', async () => {
  const folder = join(LLAVA, 'onevision-qwen2');
  const chat = await loadChatModel(join(folder, 'hf'));
  try {
    const { pictures, user, input_ids } = greedyFacts('onevision-qwen2')[1]!;
    const part = (file: string): object => ({
      type: 'image_url',
      image_url: {
        url: `data:image/png;base64,${readFileSync(join(folder, file)).toString('base64')}`,
      },
    });
    const served = { name: 'tiny', chat, generator: new BatchedGenerator(chat.model) };
    const promptOf = (...contents: object[][]): ReturnType<typeof requestPrompt> =>
      requestPrompt(
        served,
        readChatRequest(
          JSON.stringify({
            model: 'tiny',
            messages: contents.map((content, i) => ({
              role: i % 2 === 0 ? 'user' : 'assistant',
              content,
            })),
          }),
        ),
        { files: undefined, limits: {}, pictures: 4, signal: new AbortController().signal },
      );
    const text = { type: 'text', text: user };
    const [first, second] = pictures.map(part) as [object, object];
    const together = await promptOf([first, second, text]);
    expect(Array.from(together.inputIds)).toEqual(input_ids);
    const later = await promptOf([first, text], [text], [second, text]);
    for (const { images } of [together, later]) {
      expect(images!.map((each) => ('views' in each ? each.views.length : 0))).toEqual(
        Array(2).fill(3 * 18 ** 2),
      );
    }
  } finally {
    chat.model.dispose();
  }
});
