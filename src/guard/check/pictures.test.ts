import { expect, test } from 'vitest';

import { isConstant } from './pictures.js';

/** A picture of some size whose pixels a function says. */
function picture(side: number, level: (i: number) => number) {
  const data = new Uint8Array(3 * side * side);
  for (let i = 0; i < data.length; i++) data[i] = level(Math.floor(i / 3));
  return { width: side, height: side, data };
}

test.each<[string, boolean, ReturnType<typeof picture>]>([
  ['one colour', true, picture(8, () => 255)],
  ['noise of 8 levels', true, picture(200, (i) => 100 + (i % 9))],
  ['noise of 10 levels', false, picture(200, (i) => 100 + (i % 11))],
  ['a single stray pixel of 2,500', true, picture(50, (i) => (i === 7 ? 255 : 0))],
  ['two of them', false, picture(50, (i) => (i < 2 ? 255 : 0))],
  ['a small thing on white', false, picture(400, (i) => (i < 200 ? 0 : 255))],
  ['a slow change', false, picture(300, (i) => Math.floor(i / 300) % 64)],
  ['one stray pixel of 64', false, picture(8, (i) => (i === 3 ? 255 : 0))],
])('%s: constant is %s', (_, expected, image) => {
  expect(isConstant(image)).toBe(expected);
});

test('one channel that changes is enough', () => {
  const image = picture(20, () => 10);
  for (let i = 2; i < image.data.length; i += 3) image.data[i] = i % 256;
  expect(isConstant(image)).toBe(false);
});
