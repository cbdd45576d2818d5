import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import type { Residency } from '../models/index.js';
import { textMessage } from '../text/index.js';
import { encodePrompt, loadChatModel, type LoadedChatModel } from './chat-model.js';
import { generate } from './generate.js';
import { type Each, generateInStep } from './generate-in-step.js';
import { readPicture } from './picture.js';
import type { Prompt } from './prompt.js';
import { CHAT_FOLDER, PICTURE } from './testing.js';

let chat: LoadedChatModel;
let prompts: Prompt[];
beforeAll(async () => {
  chat = await loadChatModel(CHAT_FOLDER, { device: 'cpu' });
  const picture = await readPicture(PICTURE, chat.pictures, { reading: 'turned' });
  const asked = ['What?', 'What is in the picture?', 'Is it red, or is it blue?', 'Why?', 'No'];
  prompts = asked.map((text, i) =>
    i % 2 === 0
      ? encodePrompt(chat, [textMessage('user', text)])
      : encodePrompt(
          chat,
          [
            {
              role: 'user',
              content: [
                { type: 'image', image: 0 },
                { type: 'text', text },
              ],
            },
          ],
          [picture],
        ),
  );
});
afterAll(() => chat.model.dispose());

/** The segments that it brings, in their order. */
function noting(): { residency: Residency; visits: string[] } {
  const visits: string[] = [];
  const acquire = ({ name }: { name: string }): void => {
    visits.push(name);
  };
  return { visits, residency: { acquire, prefetch: () => undefined, release: () => undefined } };
}

/** So many ranks in this process: what each takes a step with. All of them throw the first error of a step. */
function inMemory(size: number): Each[] {
  const rounds: { said: PromiseSettledResult<unknown>[]; wake: (() => void)[] }[] = [];
  return Array.from({ length: size }, (_, rank): Each => {
    let next = 0;
    return async <T>(step: () => T | Promise<T>): Promise<T[]> => {
      const round = (rounds[next++] ??= { said: [], wake: [] });
      const [own] = await Promise.allSettled([(async () => step())()]);
      round.said[rank] = own;
      const isWhole = Object.keys(round.said).length === size;
      if (isWhole) for (const wake of round.wake) wake();
      else await new Promise<void>((resolve) => round.wake.push(resolve));
      return round.said.map((each) => {
        if (each.status === 'rejected') throw each.reason;
        return each.value as T;
      });
    };
  });
}

describe('ranks that answer in step', () => {
  test.each([[[5]], [[2, 3]], [[1, 4, 0]]])(
    '%j prompts each, as one alone would',
    async (shares) => {
      const { tokenizer } = chat.format;
      const options = { tokenizer, stopTokens: chat.stopTokens, maxNewTokens: 12 };
      const alone: string[] = [];
      for (const prompt of prompts) {
        let said = '';
        for await (const { text } of generate(chat.model, [prompt], options)) said += text;
        alone.push(said);
      }
      const notes = shares.map(noting);
      let from = 0;
      const all = await Promise.all(
        inMemory(shares.length).map(async (each, rank) => {
          const own = prompts.slice(from, (from += shares[rank]!));
          const { residency } = notes[rank]!;
          return generateInStep(chat.model, own, { ...options, residency, each });
        }),
      );
      expect(all.flat()).toEqual(alone);
      expect(alone.every((text) => text !== '')).toBe(true);
      // All bring the same segments as often: else they would wait for each other for ever.
      for (const { visits } of notes) expect(visits).toEqual(notes[0]!.visits);
      expect(notes[0]!.visits.length).toBeGreaterThan(20);
    },
  );

  test('end together: with an error of one of them, and by a signal', async () => {
    const ranks = inMemory(2);
    const { residency } = noting();
    const tooLong = { inputIds: Array.from({ length: 100_000 }, () => 1) };
    const ended = await Promise.allSettled(
      [[prompts[0]!], [tooLong]].map((own, rank) =>
        generateInStep(chat.model, own, { residency, each: ranks[rank]! }),
      ),
    );
    const messages = ended.map((each) => (each as { reason: Error }).reason.message);
    expect(messages[1]).toMatch(/^The prompt has 100000 tokens/);
    expect(messages[0]).toBe(messages[1]);

    const stop = new AbortController();
    const [alone] = inMemory(1) as [Each];
    let steps = 0;
    const each: Each = (step) => {
      if (++steps === 3) stop.abort(new Error('enough'));
      return alone(step);
    };
    const { signal } = stop;
    await expect(
      generateInStep(chat.model, [prompts[0]!], { residency, each, signal, maxNewTokens: 99 }),
    ).rejects.toThrow('enough');
    expect(steps).toBe(3);
  });

  test('leave no tensor behind', async () => {
    const { residency } = noting();
    await expect(async () => {
      const [each] = inMemory(1) as [Each];
      await generateInStep(chat.model, prompts, {
        residency,
        each,
        maxNewTokens: 3,
      });
    }).toLeakNothing();
  });
});
