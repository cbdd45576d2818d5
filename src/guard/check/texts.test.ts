import fc from 'fast-check';
import { expect, test } from 'vitest';

import { isEmptyText, repetitionIn } from './texts.js';

test.each([
  ['no more ', 40, 'no more'],
  ['a', 40, 'a'],
  ['哈', 32, '哈'],
  ['0 ', 32, '0'],
  ['one two three four five six ', 33, 'one two three four five six'],
])('%j, %i times, is a repetition', (unit, times, named) => {
  expect(repetitionIn(`It goes: ${unit.repeat(times)}`)).toEqual({ unit: named, times });
});

test.each([
  ['31 times', 'no more '.repeat(31)],
  ['a line of dashes', '-'.repeat(200)],
  ['a table', '| --- | --- |\n'.repeat(3) + '.'.repeat(90)],
  ['counting', Array.from({ length: 200 }, (_, i) => `item ${i}`).join(', ')],
  ['a span of more than 13 words', 'a b c d e f g h i j k l m n '.repeat(40)],
  ['nothing', ''],
])('%s is none', (_, text) => {
  expect(repetitionIn(text)).toBeUndefined();
});

test('wherever it stands, a repetition is found with its count', () => {
  const word = fc.stringMatching(/^[a-z]{2,8}$/);
  fc.assert(
    fc.property(
      fc.uniqueArray(word, { minLength: 1, maxLength: 13 }),
      fc.integer({ min: 32, max: 60 }),
      (words, times) => {
        const unit = words.join(' ');
        const found = repetitionIn(`Here: ${`${unit} `.repeat(times)}! The end.`);
        expect(found).toEqual({ unit, times });
      },
    ),
  );
});

test('a text of blanks and of what takes no room is empty; any letter, dot or emoji is not', () => {
  for (const text of ['', ' \n\t', '\u200b', '\ufeff ']) expect(isEmptyText(text)).toBe(true);
  for (const text of ['.', ' 7', '🙂', '\u200b0']) expect(isEmptyText(text)).toBe(false);
});
