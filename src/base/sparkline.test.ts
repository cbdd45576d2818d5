import fc from 'fast-check';
import { describe, expect, test } from 'vitest';

import { lineChart, resample, sparkline } from './sparkline.js';

describe('sparkline', () => {
  test('goes from the smallest to the largest value', () => {
    expect(sparkline([0, 1, 2, 3, 4, 5, 6, 7])).toBe('▁▂▃▄▅▆▇█');
    expect(sparkline([3, 3, 3])).toBe('▁▁▁');
    expect(sparkline([])).toBe('');
  });

  test('shows what is not finite, and clips to a given scale', () => {
    expect(sparkline([1, NaN, 2, Infinity])).toBe('▁×█×');
    expect(sparkline([NaN])).toBe('×');
    expect(sparkline([-5, 0.5, 9], { min: 0, max: 1 })).toBe('▁▅█');
  });

  test('averages long series and never hides a NaN', () => {
    const values = Array.from({ length: 1000 }, (_, i) => i);
    expect(sparkline(values, { width: 8 })).toBe('▁▂▃▄▅▆▇█');
    values[500] = NaN;
    expect(sparkline(values, { width: 8 })).toBe('▁▂▃▄×▆▇█');
  });
});

test('resample keeps the mean and the length', () => {
  fc.assert(
    fc.property(
      fc.array(fc.integer({ min: -100, max: 100 }), { minLength: 1, maxLength: 200 }),
      fc.integer({ min: 1, max: 50 }),
      (values, width) => {
        const columns = resample(values, width);
        expect(columns).toHaveLength(Math.min(values.length, width));
        expect(Math.min(...columns)).toBeGreaterThanOrEqual(Math.min(...values));
        expect(Math.max(...columns)).toBeLessThanOrEqual(Math.max(...values));
      },
    ),
  );
});

describe('lineChart', () => {
  test('draws a falling curve with its scale', () => {
    const points = Array.from({ length: 21 }, (_, i) => ({ x: i, y: 4 - i / 10 }));
    expect(lineChart(points, { width: 26, height: 4, title: 'loss', xLabel: 'update' })).toBe(
      `loss
   4 ┤⠑⠢⠤⢄⡀
     │    ⠈⠑⠒⠢⢄⡀
2.75 ┤         ⠈⠉⠒⠤⣀⣀
   2 ┤               ⠉⠒⠒⠤⣀
     └────────────────────
      0          20 update`,
    );
  });

  test('marks what is not finite, and survives odd input', () => {
    expect(lineChart([{ x: 0, y: NaN }], { title: 'loss' })).toBe('loss\n(nothing to draw)');
    const chart = lineChart([
      { x: 0, y: 1 },
      { x: 1, y: NaN },
      { x: 2, y: 1 },
    ]);
    expect(chart).toContain('×');
    expect(lineChart([{ x: 5, y: 2 }], { width: 1, height: 1 })).toContain('2');
  });

  test('never exceeds its width and has one line per row', () => {
    const point = fc.record({
      x: fc.nat(1000),
      y: fc.double({ noNaN: false, min: -1e9, max: 1e9 }),
    });
    fc.assert(
      fc.property(fc.array(point, { minLength: 1, maxLength: 60 }), (points) => {
        points.sort((a, b) => a.x - b.x);
        const lines = lineChart(points, { width: 50, height: 5 }).split('\n');
        if (points.every(({ y }) => Number.isNaN(y))) return;
        expect(lines).toHaveLength(7);
        expect(Math.max(...lines.map((line) => line.length))).toBeLessThanOrEqual(50);
      }),
    );
  });
});
