import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { writeLayout } from '../models/testing.js';
import { type ChatModel, loadChatModel } from './chat-model.js';
import { Conversation } from './conversation.js';
import { CHAT_FOLDER, greedyFacts, LLAVA, PICTURE } from './testing.js';

const facts = greedyFacts('llama3');
const plain = (text: string): string => text.replaceAll(/<(\|[a-z_]+\||image|pad)>/g, '');

describe('a conversation', () => {
  let chat: ChatModel;
  beforeAll(async () => {
    chat = await loadChatModel(CHAT_FOLDER);
  });
  afterAll(() => chat.model.dispose());

  async function read(
    pieces: ReturnType<Conversation['ask']>,
  ): Promise<{ text: string; promptTokens: number }> {
    let text = '';
    for (;;) {
      const { done, value } = await pieces.next();
      if (done === true) return { text, promptTokens: value.promptTokens };
      text += value;
    }
  }

  it('knows what ends an answer and how pictures are seen', () => {
    expect(chat.stopTokens).toEqual([509]);
    expect(chat.pictures).toMatchObject({ size: 56, mode: 'crop', background: [122, 116, 104] });
  });

  it('asks as transformers does, with pictures in their order', async () => {
    for (const { user, pictures, text, input_ids } of facts) {
      const conversation = new Conversation(chat);
      for (const file of pictures) await conversation.show(join(LLAVA, 'llama3', file));
      const found = await read(conversation.ask(user, { maxNewTokens: 64 }));
      expect(found).toEqual({ text: plain(text), promptTokens: input_ids.length });
    }
  });

  it('remembers what was said and shown, and forgets it on reset', async () => {
    const conversation = new Conversation(chat, { system: 'Be kind.' });
    await conversation.show(await readFile(PICTURE));
    const first = await read(conversation.ask('What?', { maxNewTokens: 5 }));
    const second = await read(conversation.ask('And now?', { maxNewTokens: 5 }));
    expect(second.promptTokens).toBeGreaterThan(first.promptTokens + 5);
    expect(conversation.messages.map(({ role }) => role)).toEqual([
      ...['system', 'user', 'assistant', 'user', 'assistant'],
    ]);
    conversation.reset();
    expect(conversation.messages).toHaveLength(1);
    await conversation.show(PICTURE);
    expect(await read(conversation.ask('What?', { maxNewTokens: 5 }))).toEqual(first);
  });

  it('shows a LLaVA-OneVision its pictures otherwise once there are several', async () => {
    const folder = join(LLAVA, 'onevision-qwen2');
    const seer = await loadChatModel(join(folder, 'hf'));
    const [alone, both] = greedyFacts('onevision-qwen2');
    const ask = { maxNewTokens: 4 };
    try {
      const conversation = new Conversation(seer);
      await conversation.show(join(folder, alone!.pictures[0]!));
      const { promptTokens } = await read(conversation.ask(alone!.user, ask));
      expect(promptTokens).toBe(alone!.input_ids.length);
      conversation.reset();
      for (const file of both!.pictures) await conversation.show(join(folder, file));
      expect((await read(conversation.ask(both!.user, ask))).promptTokens).toBe(
        both!.input_ids.length,
      );
      // One more beside those of an earlier question is a view, its end, and a line of the template.
      const { promptTokens: without } = await read(conversation.ask('And?', ask));
      conversation.reset();
      for (const file of both!.pictures) await conversation.show(join(folder, file));
      await read(conversation.ask(both!.user, ask));
      await conversation.show(join(folder, alone!.pictures[0]!));
      const { promptTokens: third } = await read(conversation.ask('And?', ask));
      expect(third - without).toBe(4 ** 2 + 1 + 1);
    } finally {
      seer.model.dispose();
    }
  });

  it('keeps an answer as far as it came, and a question without one not at all', async () => {
    const conversation = new Conversation(chat);
    for await (const piece of conversation.ask('Speak.')) {
      expect(conversation.messages).toEqual([]);
      expect(piece).not.toBe('');
      break;
    }
    const said = conversation.messages;
    expect(said).toHaveLength(2);
    await conversation.show(PICTURE);
    const stop = AbortSignal.abort();
    await expect(read(conversation.ask('More.', { signal: stop }))).rejects.toThrow();
    await expect(read(conversation.ask('word '.repeat(900)))).rejects.toMatchObject({
      code: 'E_CONTEXT',
    });
    expect(conversation.messages).toEqual(said);
    expect(conversation.waiting).toBe(1);
  });
});

describe('a decoder alone', () => {
  it('speaks, and takes no pictures', async () => {
    const folder = await writeLayout('llama3', 'llama');
    const chat = await loadChatModel(folder, { tokenizer: CHAT_FOLDER, template: 'llama3_chat' });
    const conversation = new Conversation(chat);
    await expect(conversation.show(PICTURE)).rejects.toMatchObject({ code: 'E_NO_VISION' });
    let pieces = 0;
    for await (const piece of conversation.ask('Hello?', { maxNewTokens: 4 }))
      pieces += piece.length;
    expect(pieces).toBeGreaterThan(0);
    chat.model.dispose();
    await rm(folder, { recursive: true });
  });
});
