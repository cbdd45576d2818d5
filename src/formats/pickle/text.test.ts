import { expect, test } from 'vitest';

import {
  decodeLong,
  decodeQuoted,
  decodeRawUnicode,
  decodeText,
  latin1,
  parseFloatText,
  parseInteger,
} from './text.js';

const bytes = (text: string): Uint8Array => Buffer.from(text, 'latin1');

test('UTF-8, with half surrogate pairs as Python writes them', () => {
  expect(decodeText(Buffer.from('\ufeffü🦙한'))).toBe('\ufeffü🦙한');
  expect(decodeText(bytes('a\xed\xa0\x80b\xed\xbf\xbf'))).toBe('a\ud800b\udfff');
  expect(decodeText(bytes('\xed\x9f\xbf'))).toBe('\ud7ff');
  for (const malformed of ['\xff\xfe', '\xed\xa0', '\xc0\x80', '\xed\xa0\x80\xff']) {
    expect(decodeText(bytes(malformed))).toBeUndefined();
  }
});

test('raw-unicode-escape', () => {
  expect(decodeRawUnicode(bytes('a\\u005c\\U0001f999\\n\xfc'))).toBe('a\\🦙\\nü');
  expect(decodeRawUnicode(bytes('\\\\u0041'))).toBe('\\\\u0041');
  for (const malformed of ['\\u12', '\\uxyzw', '\\U00110000']) {
    expect(decodeRawUnicode(bytes(malformed))).toBeUndefined();
  }
});

test('quoted strings', () => {
  expect(latin1(decodeQuoted(bytes(`'a\\'\\x41\\n\\101\\\\'`))!)).toBe(`a'A\nA\\`);
  expect(latin1(decodeQuoted(bytes(`"it's"`))!)).toBe(`it's`);
  for (const malformed of [`'a"`, `a`, `'`, `'\\q'`, `'\\'`]) {
    expect(decodeQuoted(bytes(malformed))).toBeUndefined();
  }
});

test('numbers in text', () => {
  expect(parseInteger('-12')).toBe(-12n);
  expect(parseInteger('9'.repeat(5000))).toBeUndefined();
  expect(parseInteger('0x10')).toBeUndefined();
  expect(parseFloatText('1e+308')).toBe(1e308);
  expect(parseFloatText('-inf')).toBe(-Infinity);
  expect(parseFloatText('nan')).toBeNaN();
  expect(parseFloatText('')).toBeUndefined();
  expect(parseFloatText('1_0')).toBeUndefined();
});

test('integers in two’s complement', () => {
  expect(decodeLong(bytes(''))).toBe(0n);
  expect(decodeLong(bytes('\xff\x00'))).toBe(255n);
  expect(decodeLong(bytes('\x00\xff'))).toBe(-256n);
});
