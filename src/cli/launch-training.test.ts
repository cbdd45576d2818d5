import { expect, test } from 'vitest';

import { ranksHere } from './launch-training.js';

test('more processes than memory holds are refused before any is started', () => {
  expect(ranksHere(4)).toBe(4);
  expect(() => ranksHere(1_000_000)).toThrow(
    expect.objectContaining({
      code: 'E_LAUNCH',
      message: expect.stringMatching(
        /^--nproc 1000000: so many processes take \d.* and this machine has \d/,
      ) as unknown,
    }),
  );
});
