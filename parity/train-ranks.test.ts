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

test('parameters in host memory follow the reference in a world of one', () => {
  const { code, text } = trainParity('--zero', '3', '--offload', 'parameters');
  expect(text).toContain('All 15 quantities are within tolerance.');
  expect(code).toBe(0);
}, 250_000);

test.each([
  ['--ranks 0', ['--ranks', '0']],
  ['--ranks two', ['--ranks', 'two']],
  ['--zero 4', ['--zero', '4']],
  ['--offload everything', ['--offload', 'everything']],
  ['--offload parameters', ['--zero', '2', '--offload', 'parameters']],
  ['--shard-over 3', ['--ranks', '4', '--shard-over', '3']],
])('%s is refused where there is no such thing', (what, args) => {
  const { code, text } = trainParity(...args);
  expect(code).toBe(2);
  expect(text).toMatch(/parity train cannot run with/);
  expect(text).toContain(what);
});
