import fc from 'fast-check';
import { expect, test } from 'vitest';

import { jsonLine, jsonText } from './json-text.js';

test('a line keeps numbers that JSON lacks visible, however deep, and nulls as they are', () => {
  const value = { loss: NaN, steps: [1, Infinity, { norm: -Infinity }], text: 'null', none: null };
  expect(jsonLine(value)).toBe(
    '{"loss":"NaN","steps":[1,"Infinity",{"norm":"-Infinity"}],"text":"null","none":null}\n',
  );
});

test('any JSON is one line that reads back, and text that reads back', () => {
  fc.assert(
    fc.property(fc.dictionary(fc.string(), fc.jsonValue()), (value) => {
      const same: unknown = JSON.parse(JSON.stringify(value));
      const line = jsonLine(value);
      expect(line.indexOf('\n')).toBe(line.length - 1);
      expect(JSON.parse(line)).toEqual(same);
      expect(jsonText(value)).toMatch(/[^\n]\n$/);
      expect(JSON.parse(jsonText(value))).toEqual(same);
    }),
  );
});
