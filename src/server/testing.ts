/** For tests: the models of `test/fixtures/llava` served on a free port. */
import { join } from 'node:path';

import { type ChatModel, loadChatModel } from '../generate/index.js';
import { CHAT_FOLDER, LLAVA } from '../generate/testing.js';
import { serve, type ServeOptions, type Serving } from './serve.js';

const SMALL = join(LLAVA, 'llama31-tied-small');

/** `llava` is one that takes no time, `small` another, `tuned` the same with an adapter. */
export async function testModels(): Promise<Map<string, ChatModel>> {
  const small = await loadChatModel(join(SMALL, 'hf'), { tokenizer: CHAT_FOLDER });
  return new Map<string, ChatModel>([
    ['llava', await loadChatModel(CHAT_FOLDER)],
    ['small', small],
    [
      'tuned',
      await loadChatModel(join(SMALL, 'hf'), {
        ...{ tokenizer: CHAT_FOLDER, adapters: [join(SMALL, 'adapter-lora-start')] },
        beside: small.loaded,
      }),
    ],
  ]);
}

/** Serves while `use` runs. */
export async function whileServing<T>(
  chats: ReadonlyMap<string, ChatModel>,
  options: ServeOptions,
  use: (serving: Serving) => Promise<T>,
): Promise<T> {
  const serving = await serve(chats, { port: 0, ...options });
  try {
    return await use(serving);
  } finally {
    await serving.close();
  }
}
