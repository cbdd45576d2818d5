import fc from 'fast-check';
import { describe, expect, it } from 'vitest';

import type { LoadedSample } from './record-loader.js';
import { overBudget, pack } from './pack.js';

function sample(tokens: number, images = 0): LoadedSample {
  const inputIds = new Int32Array(tokens);
  return {
    ...{ inputIds, labels: inputIds, images: Array<Uint8Array>(images).fill(new Uint8Array()) },
    ...{ place: { file: 'a.jsonl', record: 3, line: 3 }, id: 'x' },
    ...{ supervised: 1, imageTokens: 0, truncated: 0 },
  };
}

const sizes = (bins: readonly (readonly LoadedSample[])[]): number[][] =>
  bins.map((bin) => bin.map(({ inputIds }) => inputIds.length));
const total = (list: readonly number[]): number => list.reduce((sum, each) => sum + each, 0);

describe('samples that are packed', () => {
  it('come once, in micro-batches within the budget that leave no two of them together', () => {
    const some = fc.record({ tokens: fc.integer({ min: 1, max: 100 }), images: fc.nat(3) });
    const arbitrary = fc.record({
      given: fc.array(some, { maxLength: 60 }),
      tokens: fc.integer({ min: 100, max: 400 }),
      images: fc.option(fc.integer({ min: 3, max: 9 }), { nil: undefined }),
    });
    fc.assert(
      fc.property(arbitrary, ({ given, tokens, images }) => {
        const samples = given.map((each) => sample(each.tokens, each.images));
        const bins = pack(samples, { tokens, images });
        expect(new Set(bins.flat())).toEqual(new Set(samples));
        expect(bins.flat()).toHaveLength(samples.length);
        const loads = bins.map((bin) => ({
          tokens: total(bin.map(({ inputIds }) => inputIds.length)),
          images: total(bin.map((each) => each.images.length)),
        }));
        for (const [i, load] of loads.entries()) {
          expect(load.tokens).toBeLessThanOrEqual(tokens);
          expect(load.images).toBeLessThanOrEqual(images ?? Infinity);
          for (const other of loads.slice(0, i)) {
            const fits =
              load.tokens + other.tokens <= tokens &&
              load.images + other.images <= (images ?? Infinity);
            expect(fits).toBe(false);
          }
        }
        expect(pack(samples, { tokens, images })).toEqual(bins);
      }),
    );
  });

  it('fill what is fullest first, in their order, the largest micro-batch first', () => {
    const samples = [3, 6, 5, 4, 1].map((tokens) => sample(tokens));
    expect(sizes(pack(samples, { tokens: 10 }))).toEqual([
      [6, 4],
      [3, 5, 1],
    ]);
    expect(pack([], { tokens: 10 })).toEqual([]);
  });

  it('share pictures out too', () => {
    const samples = [sample(1, 2), sample(1, 1), sample(1, 2)];
    expect(pack(samples, { tokens: 10, images: 3 }).map((bin) => bin.length)).toEqual([2, 1]);
  });
});

describe('a sample larger than a micro-batch', () => {
  it('is refused by its place, exactly where it does not fit', () => {
    expect(overBudget(sample(10, 2), { tokens: 10, images: 2 })).toBeNull();
    expect(overBudget(sample(11), { tokens: 10 })).toMatchObject({
      ...{ code: 'E_OVER_BUDGET', file: 'a.jsonl', line: 3, id: 'x', kind: 'bad' },
      reason: 'it has 11 tokens, more than a micro-batch may (batchTokens: 10)',
      hint: 'Raise `batchTokens`, or cut longer records by `text.maxLength`.',
    });
    expect(overBudget(sample(1, 3), { tokens: 10, images: 2 })).toMatchObject({
      reason: 'it has 3 pictures, more than a micro-batch may (batchImages: 2)',
      hint: 'Raise `batchImages`.',
    });
  });
});
