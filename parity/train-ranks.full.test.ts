import { expect, test } from 'vitest';
import { trainParity } from './testing.js';

const stages = ['0', '1', '2', '3'];
// With four ranks some have no record of a micro-batch.
const cases = ['1', '3', '4'].flatMap((ranks) =>
  stages.flatMap((zero) => [[], ['--accumulate']].map((more) => [ranks, zero, more] as const)),
);
test.each(cases)(
  '%s ranks in stage %s follow the reference (%s)',
  (ranks, zero, more) => {
    const { code, text } = trainParity('--ranks', ranks, '--zero', zero, ...more);
    expect(text).toContain('All 15 quantities are within tolerance.');
    expect(code).toBe(0);
  },
  600_000,
);
