import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { microBatchOf, type LoadedSample } from '../../data/index.js';
import { BatchCut, type CutUnit } from './batch-cut.js';

let made = 0;
const record = (tokens: number): LoadedSample =>
  ({
    ...{ inputIds: new Int32Array(tokens), images: [], imageTokens: 0 },
    ...{ supervised: 1, truncated: 0, position: made++ },
  }) as unknown as LoadedSample;

const batches = (...lengths: readonly (readonly number[])[]) =>
  lengths.map((each) => microBatchOf(each.map(record)));

function halve(cut: BatchCut, whole: ReturnType<BatchCut['applyTo']>) {
  const largest = cut.largest(whole);
  return largest === null ? null : cut.halve(largest);
}

const lengthsOf = (cut: ReturnType<BatchCut['applyTo']>): number[][] =>
  cut.map(({ samples }) => samples.map(({ inputIds }) => inputIds.length));

test('micro-batches are left alone until memory does not suffice', () => {
  const cut = new BatchCut('records', 4);
  const whole = batches([1, 2, 3, 4], []);
  expect(cut.isCut).toBe(false);
  expect(cut.applyTo(whole)).toEqual(whole);
  expect(cut.state).toBeUndefined();
});

test('records are halved in their order, from the most that there are', () => {
  const cut = new BatchCut('records', 8);
  const whole = batches([1, 2, 3, 4, 5], [6], []);
  expect(halve(cut, whole)).toEqual({ before: 5, after: 3 });
  expect(lengthsOf(cut.applyTo(whole))).toEqual([[1, 2, 3], [4, 5], [6], []]);
  expect(halve(cut, cut.applyTo(whole))).toEqual({ before: 3, after: 2 });
  expect(halve(cut, cut.applyTo(whole))).toEqual({ before: 2, after: 1 });
  expect(lengthsOf(cut.applyTo(whole))).toEqual([[1], [2], [3], [4], [5], [6], []]);
  expect(halve(cut, cut.applyTo(whole))).toBeNull();
});

test('tokens are halved; a record that is longer goes alone', () => {
  const cut = new BatchCut('tokens', 100);
  const whole = batches([60, 20, 10], [50, 50]);
  expect(halve(cut, whole)).toEqual({ before: 100, after: 50 });
  expect(lengthsOf(cut.applyTo(whole))).toEqual([[60], [20, 10], [50], [50]]);
  // What is one record cannot be cut, and does not count.
  expect(halve(cut, cut.applyTo(whole))).toEqual({ before: 30, after: 15 });
  expect(lengthsOf(cut.applyTo(whole))).toEqual([[60], [20], [10], [50], [50]]);
});

test.each<CutUnit>(['records', 'tokens'])(
  'cut by %s, each record comes once and halving ends with one in each micro-batch',
  (unit) => {
    const lengths = fc.array(fc.array(fc.integer({ min: 1, max: 50 }), { maxLength: 9 }), {
      maxLength: 4,
    });
    fc.assert(
      fc.property(lengths, (given) => {
        const cut = new BatchCut(unit, 9);
        const whole = batches(...given);
        const records = whole.flatMap(({ samples }) => samples);
        let most = Infinity;
        for (;;) {
          const now = cut.applyTo(whole);
          const cutRecords = now.flatMap(({ samples }) => samples);
          expect(cutRecords).toHaveLength(records.length);
          expect(new Set(cutRecords)).toEqual(new Set(records));
          const largest = Math.max(0, ...now.map(({ samples }) => samples.length));
          const halved = halve(cut, now);
          if (halved === null) {
            expect(largest).toBeLessThan(2);
            return;
          }
          expect(halved.after).toBeLessThan(most);
          most = halved.after;
        }
      }),
    );
  },
);

describe('a run that goes on', () => {
  test('keeps the cut, and says so', () => {
    const cut = new BatchCut('records', 4);
    halve(cut, batches([1, 2, 3, 4]));
    const next = new BatchCut('records', 4);
    expect(next.restore(cut.state!)).toEqual([
      'micro-batches stay cut to 2 records, as memory did not suffice for more; another `batchSize` than 4 begins anew',
    ]);
    expect(lengthsOf(next.applyTo(batches([1, 2, 3])))).toEqual([[1, 2], [3]]);
  });

  test('with another size begins anew', () => {
    const next = new BatchCut('records', 8);
    expect(next.restore({ asked: 4, most: 2 })).toEqual([]);
    expect(next.state).toBeUndefined();
  });
});
