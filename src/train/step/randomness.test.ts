import { expect, test } from 'vitest';
import { Randomness } from './randomness.js';

test('a key is a function of seed, update, purpose and name alone', () => {
  const key = (seed: number, update: number, name = 'decoder.3'): string =>
    new Randomness(seed).ofMasks(update, name).join();
  const randomness = new Randomness(1);
  expect(randomness.ofMasks(2, 'decoder.3').join()).toBe(key(1, 2));
  expect(randomness.ofMasks(2, 'decoder.3').join()).toBe(key(1, 2));
  expect(randomness.ofMasks(3, 'decoder.3').join()).toBe(key(1, 3));
  expect(randomness.ofMasks(2, 'decoder.3').join()).toBe(key(1, 2));
  const others = [
    ...[key(2, 1), key(2, 2), key(1, 3), key(-1, 2), key(1, 2, 'decoder.4')],
    randomness.ofRounding(2, 'decoder.3').join(),
  ];
  expect(new Set([key(1, 2), ...others]).size).toBe(7);
  for (const word of randomness.ofRounding(0, 'w')) {
    expect(Number.isInteger(word) && word >= 0 && word < 2 ** 32).toBe(true);
  }
});
