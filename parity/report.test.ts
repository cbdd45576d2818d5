import { expect, it, vi } from 'vitest';

import { Report } from './report.js';

it('prints aligned rows and counts', () => {
  const report = new Report();
  report.add({ quantity: 'logits', error: 1.25e-6, tolerance: 1e-4 });
  report.add({ quantity: 'ids', error: 0, note: '12 cases' });
  expect(report.ok).toBe(true);
  expect(report.toString().split('\n')).toEqual([
    'quantity    error  tolerance  ok',
    'logits    1.25e-6    1.00e-4  ok',
    'ids             0          0  ok  12 cases',
    'All 2 quantities are within tolerance.',
  ]);
});

it('fails on what is off, not a number, or nothing at all', () => {
  const report = new Report();
  expect(report.ok).toBe(false);
  expect(report.toString()).toBe('Nothing was compared.');
  report.add({ quantity: 'good', error: 0 });
  report.add({ quantity: 'loss', error: NaN, tolerance: 1 });
  report.add({ quantity: 'norm', error: 2, tolerance: 1 });
  expect(report.ok).toBe(false);
  expect(report.toString({ brief: true }).split('\n')).toEqual([
    'quantity  error  tolerance  ok',
    'loss        NaN          1  FAIL',
    'norm          2          1  FAIL',
    '2 of 3 quantities are out of tolerance.',
  ]);
});

it('prints to stdout and returns the verdict', () => {
  const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
  const report = new Report();
  report.add({ quantity: 'a', error: 0 });
  expect(report.print()).toBe(true);
  expect(log).toHaveBeenCalledOnce();
  expect(new Report().print()).toBe(false);
  expect(new Report().print({ mayBeEmpty: true })).toBe(true);
  report.add({ quantity: 'b', error: 1 });
  expect(report.print({ mayBeEmpty: true })).toBe(false);
  log.mockRestore();
});
