import { describe, expect, it } from 'vitest';

import { measureRecord } from './measure.js';

const turns = (...values: unknown[]): unknown => ({
  conversations: values.map((value, i) => ({ from: i % 2 ? 'gpt' : 'human', value })),
});
const messages = (...contents: unknown[]): unknown => ({
  messages: contents.map((content) => ({ role: 'user', content })),
});

describe('the estimated length of a record', () => {
  it.each([
    ['text', turns('a'.repeat(40), 'b'.repeat(41)), -21],
    ['bytes, not letters', turns('漢漢漢漢'), -3],
    ['an image', turns('<image>abcd', 'abcd'), 2 + 576],
    ['two images', turns('<image><image>', 'abcd'), 1 + 2 * 576],
    ['parts', messages([{ type: 'text', text: 'abcd' }, { type: 'image_url' }], 'abcd'), 2 + 576],
    ['a text of parts', messages(['abcd', { type: 'text', text: 'abcd' }]), -2],
    ['nothing', turns(), -1],
    ['no record', 7, -1],
    ['an unreadable record', undefined, -1],
    ['odd messages', { conversations: [null, 3, { value: {} }] }, 576],
  ])('counts %s', (_, json, tokens) => {
    expect(measureRecord(json, () => 576)).toBe(tokens);
  });

  it('counts images as each of so many counts', () => {
    const each = (images: number): number => (images === 1 ? 1000 : 10);
    expect(measureRecord(turns('<image>'), each)).toBe(1000);
    expect(measureRecord(turns('<image><image>', '<image>'), each)).toBe(30);
  });
});
