import { expect, test } from 'vitest';
import { type Case } from './cases.js';
import { measureGuard } from './guard-row.js';
import { TINY } from './testing.js';

const of: Case = {
  ...{ name: 'small', shape: 'llama3', isText: false },
  updates: [
    [[{ text: 12, question: 2 }], [{ text: 9, question: 0 }]],
    [[{ text: 8, question: 1 }]],
  ],
};

test.each(['lora', 'full', 'full-fp32'] as const)(
  'with %s as many updates are watched as not, all of them well, and nothing is left',
  (mode) => {
    expect(() => {
      const common = { config: TINY, device: 'cpu', dropout: 0, policy: 'keep' } as const;
      const row = measureGuard({ ...common, of, mode, pairs: 3 });
      expect(row).toMatchObject({ case: 'small', mode, policy: 'keep', pairs: 3 });
      // Two updates, once to meet the shapes and three times on the clock.
      expect([row.watched, row.examined]).toEqual([8, 0]);
      const { bareMs, watchedMs, overhead, quartiles } = row;
      expect(Math.min(bareMs, watchedMs)).toBeGreaterThan(0);
      expect(quartiles[0]).toBeLessThanOrEqual(overhead);
      expect(overhead).toBeLessThanOrEqual(quartiles[1]);
    }).toLeakNothing();
  },
);

test('what cannot be measured is said', () => {
  const common = { config: TINY, device: 'cpu', dropout: 0, policy: 'keep', of } as const;
  expect(() => {
    expect(() => measureGuard({ ...common, mode: 'lora', pairs: 0 })).toThrow(/no number of pairs/);
    const alone = { ...of, updates: of.updates.map((update) => [update[0]!]) };
    expect(() => measureGuard({ ...common, of: alone, mode: 'full-ub', pairs: 1 })).toThrow(
      /updates in backward/,
    );
  }).toLeakNothing();
});
