/** Seconds of operators beside those that a profile of one H200 had (bench/results/2026-11-29-kernels-h200.md), and what they follow from. */
import { expect, test } from 'vitest';
import { costOf, type Traffic } from './costs.js';
import { readGpus } from './devices/cards.js';
import { squaresOf } from './squares.js';

const { card } = readGpus('H200');

function secondsOf(
  name: string,
  shapes: number[][],
  { read = 0, overwritten = 0, made = 0 }: Partial<Traffic>,
  batches: Parameters<typeof squaresOf>[0] = [],
): number {
  return costOf(card, name, shapes, { read, overwritten, made }, squaresOf(batches)).time;
}

const MB = 1e6;
const [T, D, G] = [8192, 4096, 28672];
const QUERIES = [4, 32, 2048, 128];
const KEYS = [4, 8, 2048, 128];

// Names, arguments, bytes that are read, overwritten and made, and what one call took, in us.
test.each<[string, number[][], number, number, number, number]>([
  [
    'aten::mm',
    [
      [T, D],
      [D, G],
    ],
    302 * MB,
    0,
    470 * MB,
    2653,
  ],
  [
    'aten::mm',
    [
      [G, T],
      [T, D],
    ],
    537 * MB,
    0,
    235 * MB,
    2790,
  ],
  [
    'aten::mm',
    [
      [T, D],
      [D, D],
    ],
    101 * MB,
    0,
    67 * MB,
    396,
  ],
  ['aten::addmm_', [[T, D], [T, 14336], [14336, D], [], []], 419 * MB, 67 * MB, 0, 1323],
  ['aten::addmm', [[1024], [2308, 4096], [4096, 1024], [], []], 27 * MB, 0, 4.7 * MB, 32.2],
  ['aten::_scaled_dot_product_cudnn_attention', [QUERIES, KEYS, KEYS], 101 * MB, 0, 67 * MB, 304],
  [
    'aten::_scaled_dot_product_cudnn_attention_backward',
    [QUERIES, QUERIES, KEYS, KEYS],
    236 * MB,
    0,
    101 * MB,
    1066,
  ],
  ['patina::adamw_', [[], [], [], []], 64_414 * MB, 48_311 * MB, 0, 32_066],
  ['patina::swiglu', [[T, G]], 470 * MB, 0, 235 * MB, 188.8],
  [
    'patina::swiglu_backward_',
    [
      [T, G],
      [T, 14336],
    ],
    705 * MB,
    705 * MB,
    0,
    333.4,
  ],
  ['patina::rms_norm_backward_', [[T, D], [T, D], [D], [T, 1], [T, D]], 201 * MB, 67 * MB, 0, 75.7],
  ['patina::cross_entropy_', [[2048, 128_320], [2048], []], 526 * MB, 526 * MB, 0, 492],
  ['aten::_foreach_norm', [[], [], []], 16_104 * MB, 0, 0, 6924],
  // A gradient in 16 bits comes to one in 32.
  ['aten::add_', [[128_320, D], [128_320, D], []], 3154 * MB, 2102 * MB, 0, 2145],
])('%s %j takes what it took', (name, shapes, read, overwritten, made, microseconds) => {
  const seconds = secondsOf(name, shapes, { read, overwritten, made });
  expect(Math.abs((seconds * 1e6) / microseconds - 1)).toBeLessThan(0.16);
});

test('products in fp32 are no tensor cores', () => {
  const square = [
    [4096, 4096],
    [4096, 4096],
  ];
  const time = (bytes: number): number =>
    secondsOf('aten::mm', square, { read: 2 * bytes * 4096 ** 2 });
  expect(time(4) / time(2)).toBeGreaterThan(10);
  expect(time(4) / time(2)).toBeLessThan(989 / 67);
});

test('what fills or picks reads no more than it gives', () => {
  const table = 1000 * MB;
  const picked = secondsOf('aten::index_select', [[128_256, 4096], [], [64]], {
    read: table,
    made: MB,
  });
  expect(picked).toBeLessThan(10e-6);
  const copy = { read: 2 * table, overwritten: table };
  const shapes = [
    [250_000, 2000],
    [250_000, 2000],
  ];
  expect(secondsOf('aten::copy_', shapes, copy)).toBeCloseTo((2 * table) / card.bandwidth, 4);
  expect(secondsOf('aten::add_', shapes, copy)).toBeCloseTo((3 * table) / card.bandwidth, 4);
});

test('masks of adapters cost by their ranks', () => {
  const dropped = (ranks: number): number =>
    secondsOf('patina::dropped_product', [[T, D]], { read: 67 * MB, made: 2 * T * ranks });
  expect(dropped(192) / dropped(64)).toBeCloseTo(3, 1);
  const gradients = secondsOf(
    'patina::dropped_gradients',
    [
      [T, 64],
      [T, D],
    ],
    { read: 68 * MB },
  );
  const added = secondsOf(
    'patina::add_dropped_',
    [
      [T, D],
      [T, 64],
    ],
    { read: 68 * MB },
  );
  expect(gradients).toBeCloseTo(dropped(64), 6);
  expect(added).toBe(gradients);
});

test('packed records cost by the squares of their lengths', () => {
  const record = (tokens: number) => ({ tokens, supervised: 1, images: 0 });
  const batch = [4096, 512, 512].map(record);
  const packed = (batches: (typeof batch)[], sequences = 3): number =>
    secondsOf(
      'aten::_flash_attention_forward',
      [[5120, 32, 128], [5120, 8, 128], [5120, 8, 128], [sequences + 1]],
      { read: 63 * MB, made: 42 * MB },
      batches,
    );
  // Not known, they are of one length, which is what takes least.
  expect(packed([])).toBeLessThan(packed([batch]));
  expect(packed([batch])).toBeLessThan(packed([], 1));
  expect(packed([[record(1000)], batch])).toBe(packed([batch]));
  const backward = secondsOf(
    'aten::_flash_attention_backward',
    [[5120, 32, 128], [5120, 32, 128], [], [], [], [], [4], [4]],
    { read: 63 * MB },
    [batch],
  );
  expect(backward / packed([batch])).toBeGreaterThan(2);
});
