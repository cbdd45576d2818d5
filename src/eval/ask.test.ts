import { join } from 'node:path';
import { expect, test } from 'vitest';

import { Conversation, loadChatModel } from '../generate/index.js';
import { greedyFacts, LLAVA } from '../generate/testing.js';
import { askAll } from './ask.js';
import type { Item } from './item.js';

test('questions on one and on several pictures are asked as a conversation asks them', async () => {
  const folder = join(LLAVA, 'onevision-qwen2');
  const chat = await loadChatModel(join(folder, 'hf'));
  try {
    const facts = greedyFacts('onevision-qwen2');
    const items = facts.map(({ user, pictures }, id): Item => ({
      ...{ id, question: user, options: new Map(), answers: [], categories: [] },
      pictures: pictures.map((file) => ({ path: join(folder, file) })),
      ...{ scene: String(id), group: String(id), where: `question ${id}` },
    }));
    const options = { prompt: ({ question }: Item) => question, maxNewTokens: 6 };
    const answers: string[] = [];
    for await (const answer of askAll(chat, items, options)) answers.push(answer);
    const said: string[] = [];
    for (const { user, pictures } of facts) {
      const conversation = new Conversation(chat);
      for (const file of pictures) await conversation.show(join(folder, file));
      let text = '';
      for await (const piece of conversation.ask(user, { maxNewTokens: 6 })) text += piece;
      said.push(text.trim());
    }
    expect(answers).toEqual(said);
  } finally {
    chat.model.dispose();
  }
});
