import { expect, it } from 'vitest';

import { shortText } from './short-text.js';

it('leaves ordinary names alone', () => {
  for (const name of ['a b.png', 'Übung/日本語 😀.jsonl', '', '"quoted"\\']) {
    expect(shortText(name)).toBe(name);
  }
});

it('leaves out the middle of a long name', () => {
  const short = shortText(`begin${'x'.repeat(1e6)}end.png`, 40);
  expect(short).toMatch(/^begin.*\.\.\..*end\.png$/);
  expect(short.length).toBeLessThanOrEqual(40);
});

it('writes what does not print by its number', () => {
  expect(shortText('a\nb\u001b[31m\u202ec\ud800')).toBe('a\\u{a}b\\u{1b}[31m\\u{202e}c\\u{d800}');
});
