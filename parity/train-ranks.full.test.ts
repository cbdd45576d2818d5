import { expect, test } from 'vitest';
import { trainParity } from './testing.js';

const stages = ['0', '1', '2', '3'];
// With four ranks some have no record of a micro-batch.
const cases = ['1', '3', '4'].flatMap((ranks) =>
  stages.flatMap((zero) => [[], ['--accumulate']].map((more) => [ranks, zero, more] as const)),
);
const offload = (what: string): string[] => ['--offload', what];
const hybrid = ['--shard-over', '2'];
const further = [
  ...stages.map((zero) => ['2', zero, offload('optimizer')] as const),
  ['2', '3', [...offload('parameters'), '--accumulate']] as const,
  ['2', '3', ['--keep-gathered', '--accumulate']] as const,
  ['4', '1', [...hybrid, '--accumulate']] as const,
  ['4', '2', [...hybrid, ...offload('optimizer')]] as const,
  ['4', '3', [...hybrid, '--accumulate', '--keep-gathered']] as const,
];
test.each([...cases, ...further])(
  '%s ranks in stage %s follow the reference (%s)',
  (ranks, zero, more) => {
    const { code, text } = trainParity('--ranks', ranks, '--zero', zero, ...more);
    expect(text).toContain('All 15 quantities are within tolerance.');
    expect(code).toBe(0);
  },
  600_000,
);
