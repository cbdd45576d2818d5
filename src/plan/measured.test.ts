/** A ghost run gives the peaks that were measured on cards. */
import { expect, test } from 'vitest';
import { readGpus } from './devices/cards.js';
import { ghostRun } from './ghost-run.js';
import { replay } from './replay.js';
import { MEASURED } from './testing-measured.js';

const { card } = readGpus('H200');

// Rates are those of a profile of a later program (2026-11-29-kernels-h200.md), and of the rows of bench/plan-measured.test.ts; neither they nor
// peaks had anything fitted to these.
// Those of several ranks ran with expandable segments (bench/gpu/ranks.sh).
test.each(MEASURED.map((row) => [row.name, row] as const))(
  '%s: memory and time of what was measured',
  async (_, { tolerance = 0.03, peakGiB, ...row }) => {
    const { lines, known } = await ghostRun({ ...row, card });
    const run = replay(lines, known, { card, expandable: row.ranks > 1 });
    expect(Math.abs(run.allocated / 2 ** 30 / peakGiB - 1)).toBeLessThan(tolerance);
    if (row.seconds === undefined) return;
    expect(Math.abs(run.updates.at(-1)! / row.seconds - 1)).toBeLessThan(0.1);
  },
  300_000,
);
