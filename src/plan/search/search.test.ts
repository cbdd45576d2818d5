/** Searches on a small model: what they suggest is what plans say, and what they leave out does not fit. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { plan, planIfFits, type Plan } from '../plan.js';
import { NUMERICS } from './changes.js';
import { suggest, type Suggestion } from './search.js';
import { cardsOf, smallRecipe } from './testing.js';

const MANY = 2 ** 40;

async function searched(bytes: number, set: readonly string[] = [], count = 4) {
  const recipe = smallRecipe(set);
  const gpus = cardsOf(bytes, count);
  const planned = await plan(recipe, { gpus });
  return { planned, rows: await suggest(recipe, planned, { gpus, most: 40 }) };
}

const keepsMethod = ({ numerics }: Suggestion): boolean => numerics !== 'another method';
const rankOf = ({ perRank }: Plan) => perRank[0]!;

describe('a small space, all of it', async () => {
  const space: string[][] = [];
  for (const zero of [0, 1, 2, 3]) {
    for (const states of ['fp32', 'bf16', 'int8']) {
      for (const batch of [1, 2]) {
        space.push([`parallel.zero=${zero}`, `precision.states=${states}`, `batchSize=${batch}`]);
      }
    }
  }
  const gpus = cardsOf(MANY);
  const all: { set: string[]; allocated: number; reserved: number; seconds: number }[] = [];
  for (const set of space) {
    const planned = await plan(smallRecipe(set), { gpus });
    const { allocated, reserved } = rankOf(planned);
    all.push({ set, allocated, reserved, seconds: planned.seconds.update });
  }
  const sizes = all.map(({ reserved }) => reserved).sort((a, b) => a - b);
  const [least, most] = [sizes[0]!, sizes.at(-1)!];

  test('takes more or less', () => {
    expect(most / least).toBeGreaterThan(1.5);
  });

  test('is given up by a plan only where it does not fit', async () => {
    const bytes = sizes[sizes.length >> 1]!;
    for (const { set, allocated, reserved } of all) {
      const planned = await planIfFits(smallRecipe(set), { gpus: cardsOf(bytes) });
      if (reserved <= bytes) expect(planned?.perRank[0]).toMatchObject({ allocated, reserved });
      if (allocated > bytes) expect(planned).toBeNull();
    }
  });

  test.each([0, 0.1, 0.25, 0.5, 0.75])('has a row wherever something fits: %d', async (share) => {
    const bytes = least + share * (most - least);
    const { rows, planned } = await searched(bytes);
    if (!planned.fits) expect(rows.filter(keepsMethod)).not.toHaveLength(0);
    for (const { reserved } of rows) expect(reserved).toBeLessThanOrEqual(bytes);
    // Nothing of the space that fits for sure is faster by more than a plan could tell.
    const best = Math.min(
      planned.fits ? planned.seconds.update : Infinity,
      ...rows.filter(keepsMethod).map(({ secondsPerUpdate }) => secondsPerUpdate),
    );
    for (const { set, seconds } of all.filter(({ reserved }) => reserved <= bytes)) {
      expect(seconds, set.join(' ')).toBeGreaterThan(0.95 * best);
    }
  });
});

test('each row is a recipe, and its plan alone has the same numbers', async () => {
  const whole = rankOf(await plan(smallRecipe(), { gpus: cardsOf(MANY) })).reserved;
  await fc.assert(
    fc.asyncProperty(
      fc.double({ min: 0.3, max: 1.3, noNaN: true }),
      fc.constantFrom([], ['batchTokens=2048'], ['parallel.zero=2'], ['memory.policy=keep']),
      fc.constantFrom(1, 2, 4),
      async (share, set, count) => {
        const { rows } = await searched(share * whole, set, count);
        for (const row of rows) {
          const recipe = smallRecipe([...set, ...row.set]);
          const again = await plan(recipe, { gpus: cardsOf(share * whole, count) });
          expect(again.fits).toBe(true);
          const { allocated, reserved, total } = rankOf(again);
          expect({ allocated, reserved, total }).toEqual({
            ...{ allocated: row.allocated, reserved: row.reserved, total: row.total },
          });
          // The optimizer on the host goes on beside the program, so that its place in the trace varies.
          if (recipe.parallel.offload === 'none') {
            expect(again.seconds.update).toBe(row.secondsPerUpdate);
          }
        }
      },
    ),
    { numRuns: 4 },
  );
}, 120_000);

test('ways that are hopeless leave plans for those that are not', async () => {
  const least = ['parallel.zero=3', 'parallel.offload=parameters'];
  const { reserved } = rankOf(await plan(smallRecipe(least), { gpus: cardsOf(MANY) }));
  const gpus = cardsOf(reserved);
  const recipe = smallRecipe();
  const rows = await suggest(recipe, await plan(recipe, { gpus }), { gpus });
  expect(rows.filter(keepsMethod)).not.toHaveLength(0);
});

test('what is as fast stands behind what changes less', async () => {
  const set = ['train.decoder=frozen'];
  const shared = smallRecipe([...set, 'parallel.zero=3']);
  const { reserved } = rankOf(await plan(shared, { gpus: cardsOf(MANY) }));
  const { rows, planned } = await searched(reserved, set);
  expect(planned.fits).toBe(false);
  const [simple, offloaded] = [
    ['parallel.zero=3'],
    ['parallel.zero=3', 'parallel.offload=parameters'],
  ].map((lines) => rows.find((row) => row.set.join() === lines.join())!) as [
    Suggestion,
    Suggestion,
  ];
  // By less than a plan could tell.
  expect(offloaded.secondsPerUpdate).toBeLessThan(simple.secondsPerUpdate);
  expect(rows.indexOf(simple)).toBeLessThan(rows.indexOf(offloaded));
});

test('what keeps the method comes first, then the fastest', async () => {
  const { rows } = await searched(MANY);
  const methods = rows.map((row) => (keepsMethod(row) ? 0 : 1));
  expect(methods).toEqual(methods.toSorted());
  expect(methods).toContain(1);
  const kept = rows.filter(keepsMethod).map(({ secondsPerUpdate }) => secondsPerUpdate);
  // None is faster than one before it by more than a plan could tell.
  kept.forEach((seconds, i) => {
    expect(seconds).toBeGreaterThanOrEqual(0.99 * Math.max(...kept.slice(0, i + 1)));
  });
  for (const { numerics } of rows) expect(NUMERICS).toContain(numerics);
});

test('what keeps everything costs no numerics, smaller moments rounding, adapters the method', async () => {
  const { rows } = await searched(MANY);
  const numericsOf = (line: string) =>
    rows.find(({ set }) => set.length === 1 && set[0] === line)?.numerics;
  expect(numericsOf('memory.policy=keep')).toBe('none');
  expect(numericsOf('train.decoder.lora={}')).toBe('another method');
  for (const { set, numerics } of rows) {
    if (set.some((line) => line.startsWith('train.'))) expect(numerics).toBe('another method');
    else if (set.some((line) => /^batchSize|states/.test(line))) expect(numerics).toBe('rounding');
  }
});

test('larger micro-batches keep the records of an update', async () => {
  const { rows } = await searched(MANY, ['batchSize=1', 'effectiveBatch=32']);
  for (const { set, batch } of rows) {
    expect(batch).toBeUndefined();
    const size = set.find((line) => line.startsWith('batchSize='));
    if (size !== undefined) expect(32 % (4 * Number(size.split('=')[1]))).toBe(0);
  }
});

test('where nothing fits there is no row', async () => {
  const { rows, planned } = await searched(2 ** 20);
  expect(planned.fits).toBe(false);
  expect(rows).toEqual([]);
});
