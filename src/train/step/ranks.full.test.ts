import { describe, expect, test } from 'vitest';
import { onRanks, trainCase, type RankCase } from './testing-ranks.js';

const FIELDS = {
  stage: [0, 1, 2, 3],
  trains: ['full', 'LoRA', 'projector'],
  packed: [true, false],
  policy: ['keep', 'recompute', 'offload'],
  offload: ['none', 'optimizer', 'parameters'],
  shardOver: [4, 2],
  reshardAfterForward: [true, false],
  updateInBackward: [false, true],
} as const;

type Field = keyof typeof FIELDS;

function product(fields: readonly Field[] = Object.keys(FIELDS) as Field[]): Partial<RankCase>[] {
  const [field, ...rest] = fields;
  if (field === undefined) return [{}];
  return FIELDS[field].flatMap((value) =>
    product(rest).map((more) => ({ [field]: value, ...more })),
  );
}

const possible = (product() as RankCase[]).filter(
  ({ stage, packed, offload, updateInBackward }) =>
    (offload !== 'parameters' || stage === 3) && (packed || !updateInBackward),
);

/** Cases in which each pair of values of two fields occurs that can occur. */
function pairs(): RankCase[] {
  const pairsOf = (each: RankCase): string[] => {
    const values = Object.entries(each).map(([field, value]) => `${field} ${value}`);
    return values.flatMap((a, i) => values.slice(i + 1).map((b) => `${a}, ${b}`));
  };
  const missing = new Set(possible.flatMap(pairsOf));
  const chosen: RankCase[] = [];
  while (missing.size > 0) {
    const count = (each: RankCase): number =>
      pairsOf(each).filter((pair) => missing.has(pair)).length;
    const best = possible.reduce((a, b) => (count(b) > count(a) ? b : a));
    for (const pair of pairsOf(best)) missing.delete(pair);
    chosen.push(best);
  }
  return chosen;
}

/** `PATINA_PRODUCT=1`: all cases, which takes an hour or two. */
const cases = process.env['PATINA_PRODUCT'] === '1' ? possible : pairs();

describe('4 ranks train as one process does', () => {
  const groups = Array.from({ length: Math.ceil(cases.length / 10) }, (_, i) =>
    cases.slice(10 * i, 10 * i + 10),
  );
  test.each(groups.map((group, i) => [i, group] as const))(
    'cases of group %i',
    async (_, group) => {
      const courses = await onRanks(4, group);
      for (const [i, each] of group.entries()) {
        const expected = await trainCase(null, each);
        for (const { losses, norms } of courses[i]!) {
          losses.forEach((loss, update) => {
            const near = (value: number, other: number): void => {
              const error = Math.abs(value - other) / Math.max(Math.abs(other), 1e-6);
              expect([each, update, error < 1e-4]).toEqual([each, update, true]);
            };
            near(loss, expected.losses[update]!);
            near(norms[update]!, expected.norms[update]!);
          });
        }
      }
    },
    600_000,
  );
});

test.each([
  { stage: 0, offload: 'none' },
  { stage: 2, offload: 'optimizer' },
  { stage: 3, offload: 'parameters' },
] as const)(
  'memory stays flat over 200 updates on 4 ranks, %j',
  async (how) => {
    const more = { trains: 'full', policy: 'recompute', packed: false } as const;
    const given = { ...how, ...more, reshardAfterForward: true, updateInBackward: false };
    const [courses] = await onRanks(4, [given], 200);
    for (const { live, bytes } of courses!) {
      // Lengths and pictures repeat every 33 updates; the same ones are to leave the same behind.
      expect(live.at(-1)).toBe(live.at(-1 - 33));
      expect(live.at(-1)).toBe(live.at(-1 - 4 * 33));
      // The least, since a call that has just ended may still hold its tensors.
      const [early, late] = [bytes.slice(33, 66), bytes.slice(-33)].map((all) => Math.min(...all));
      expect(late! / early!).toBeLessThan(1.01);
    }
  },
  600_000,
);
