import { expect, test } from 'vitest';
import { Random } from '../src/data/sampling/random.js';
import { noisyAnswers, type Conversation } from './noisy-answers.js';

const records = Array.from({ length: 500 }, (_, i): Conversation & { id: number } => ({
  id: i,
  conversations: [
    { from: 'human', value: i % 2 === 0 ? '<image>\nWhich?' : 'Which?' },
    { from: 'gpt', value: `number ${i}` },
    { from: 'human', value: 'Even?' },
    { from: 'gpt', value: i % 2 === 0 ? 'yes' : 'no' },
  ],
}));
const answers = (some: readonly Conversation[], turn: number): string[] =>
  some.map(({ conversations }) => conversations[turn]!.value);

test('so many answers are those of any record to the same question; all else stays', () => {
  const noisy = noisyAnswers(records, { percent: 50, random: new Random(1) });
  for (const kept of [0, 2]) expect(answers(noisy, kept)).toEqual(answers(records, kept));
  expect(noisy.map(({ id }) => id)).toEqual(records.map(({ id }) => id));
  const changed = answers(noisy, 1).filter((answer, i) => answer !== `number ${i}`);
  expect(changed.length).toBeGreaterThan(200);
  expect(changed.length).toBeLessThan(300);
  expect(changed.every((answer) => /^number \d+$/.test(answer))).toBe(true);
  expect(new Set(answers(noisy, 3))).toEqual(new Set(['yes', 'no']));
});

test('none is as it was, and other seeds draw others', () => {
  const of = (percent: number, seed: number) =>
    noisyAnswers(records, { percent, random: new Random(seed) });
  expect(of(0, 1)).toEqual(records);
  expect(of(50, 2)).not.toEqual(of(50, 1));
  expect(of(50, 1)).toEqual(of(50, 1));
});
