import { expect, test } from 'vitest';
import { trainParity } from './testing.js';

// Some micro-batches have records without pictures.
test.each(['0', '1', '2', '3'])(
  '2 ranks in stage %s follow the reference',
  (zero) => {
    const { code, text } = trainParity('--ranks', '2', '--zero', zero);
    expect(text).toContain('All 15 quantities are within tolerance.');
    expect(code).toBe(0);
  },
  250_000,
);

test('a number of ranks or a stage that there is not is refused', () => {
  for (const args of [
    ['--ranks', '0'],
    ['--ranks', 'two'],
    ['--zero', '4'],
  ]) {
    const { code, text } = trainParity(...args);
    expect(code).toBe(2);
    expect(text).toMatch(/parity train cannot run with --ranks/);
  }
});
