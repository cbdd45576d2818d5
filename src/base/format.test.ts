import { expect, test } from 'vitest';

import { formatBytes, formatCount, formatDuration, formatNumber, formatPace } from './format.js';

test.each([
  [0, '0 B'],
  [1023, '1023 B'],
  [1536, '1.50 KiB'],
  [1024 * 1024 - 1, '1.00 MiB'],
  [16_060_522_496, '15.0 GiB'],
  [-2048, '-2.00 KiB'],
  [Infinity, 'Infinity'],
])('formatBytes(%d) is %s', (bytes, text) => expect(formatBytes(bytes)).toBe(text));

test.each([
  [576, '576'],
  [0.5, '0.5'],
  [4, '4'],
  [78.421, '78.4'],
  [784.21, '784'],
  [999_999, '1.00M'],
  [20_979_712, '21.0M'],
  [8_030_261_248, '8.03B'],
  [128_256, '128K'],
])('formatCount(%d) is %s', (count, text) => expect(formatCount(count)).toBe(text));

test.each([
  [0.04, '0.0s'],
  [59.96, '1m 00s'],
  [185, '3m 05s'],
  [7620, '2h 07m'],
  [273_600, '3d 04h'],
  [NaN, 'NaN'],
])('formatDuration(%d) is %s', (seconds, text) => expect(formatDuration(seconds)).toBe(text));

test.each([
  [0.04821, '48.2 ms'],
  [0.1, '0.1s'],
  [61, '1m 01s'],
])('formatPace(%d) is %s', (seconds, text) => expect(formatPace(seconds)).toBe(text));

test.each([
  [0, '0'],
  [0.0384, '0.038'],
  [101, '100'],
  [960_000, '960000'],
  [999_999, '1e6'],
  [-1_234_567, '-1.2e6'],
  [0.0001, '0.0001'],
  [2e-5, '2e-5'],
  [Infinity, 'Infinity'],
])('formatNumber(%d) is %s', (value, text) => expect(formatNumber(value)).toBe(text));
