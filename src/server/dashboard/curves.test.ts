import fc from 'fast-check';
import { describe, expect, it, test } from 'vitest';

import { cases } from '../../base/testing.js';
import { Columns } from './columns.js';
import { curvesOf } from './curves.js';

function columnsOf(values: readonly (number | null)[], skipped: readonly number[] = []): Columns {
  const columns = new Columns();
  values.forEach((loss, i) => columns.add(i + 1, { loss }, skipped.includes(i + 1)));
  return columns;
}

const finite = fc.double({ noNaN: true, noDefaultInfinity: true, min: -1e6, max: 1e6 });
const lists = fc.array(fc.oneof(finite, fc.constantFrom(null, NaN, Infinity)), { maxLength: 200 });

test('no extreme is lost, and every update is in one span', () => {
  fc.assert(
    fc.property(lists, fc.integer({ min: 1, max: 60 }), (values, points) => {
      const { updates, series } = curvesOf(columnsOf(values), { keys: ['loss'], points });
      expect(updates.length).toBeLessThanOrEqual(points);
      expect(updates.at(-1)).toBe(values.length || undefined);
      const { mean, low = mean, high = mean } = series['loss']!;
      const numbers = values.filter(
        (value) => value !== null && Number.isFinite(value),
      ) as number[];
      const shown = (all: readonly (number | null)[]): number[] =>
        all.filter((each) => each !== null);
      // `+ 0`: which of two zeros is the smaller is of no interest.
      expect(Math.min(...shown(low)) + 0).toBe(Math.min(...numbers) + 0);
      expect(Math.max(...shown(high)) + 0).toBe(Math.max(...numbers) + 0);
    }),
    { numRuns: cases(200) },
  );
});

describe('curves', () => {
  it('are the values themselves where there is room', () => {
    const { updates, series } = curvesOf(columnsOf([3, null, 1]), { keys: ['loss'] });
    expect(updates).toEqual([1, 2, 3]);
    expect(series['loss']).toEqual({ mean: [3, null, 1] });
  });

  it('of a part have as many points as the whole', () => {
    const columns = columnsOf(Array.from({ length: 1000 }, (_, i) => i));
    const { updates } = curvesOf(columns, { keys: ['loss'], from: 101, to: 150, points: 50 });
    expect(updates).toEqual(Array.from({ length: 50 }, (_, i) => i + 101));
  });

  it('are smoothed from the first update on, whatever part is shown', () => {
    const columns = columnsOf([4, NaN, 2, 0]);
    const smooth = (from?: number) =>
      curvesOf(columns, { keys: ['loss'], smoothing: 0.5, from }).series['loss']!.smooth;
    // 4; (4/4 + 2/2) / (1 - 1/4); (4/8 + 2/4 + 0) / (1 - 1/8)
    expect(smooth()).toEqual([4, 4, 8 / 3, 8 / 7]);
    expect(smooth(3)).toEqual([8 / 3, 8 / 7]);
  });

  it('of a name that nobody measured have no value', () => {
    expect(curvesOf(columnsOf([1]), { keys: ['nothing'] }).series['nothing']!.mean).toEqual([null]);
  });
});

describe('gaps', () => {
  const gaps = (values: readonly (number | null)[], skipped: number[] = [], points?: number) =>
    curvesOf(columnsOf(values, skipped), { keys: ['loss'], points }).gaps;

  it('join neighbours and tell kinds apart', () => {
    expect(gaps([1, NaN, Infinity, 1, NaN], [3])).toEqual([
      { kind: 'not-finite', from: 2, to: 3, updates: 2 },
      { kind: 'skipped', from: 3, to: 3, updates: 1 },
      { kind: 'not-finite', from: 5, to: 5, updates: 1 },
    ]);
  });

  it('are not what was not measured', () => {
    expect(gaps([1, null, 2])).toEqual([]);
  });

  it('are few, however many updates were bad', () => {
    const values = Array.from({ length: 10_000 }, (_, i) => (i % 2 === 0 ? NaN : 1));
    const found = gaps(values, [], 100);
    expect(found).toEqual([{ kind: 'not-finite', from: 1, to: 9999, updates: 5000 }]);
  });
});

test('what comes again takes the place of what lay beyond', () => {
  const columns = columnsOf([1, NaN, 3]);
  columns.add(2, { loss: 7, norm: 1 });
  expect([...columns.updates]).toEqual([1, 2]);
  expect([...columns.column('loss')]).toEqual([1, 7]);
  expect([...columns.column('norm')]).toEqual([NaN, 1]);
  expect(columns.marks).toEqual([]);
  columns.add(3, { loss: 8 });
  expect([...columns.column('norm')]).toEqual([NaN, 1, NaN]);
});
