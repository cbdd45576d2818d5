/** Several runs say what one of them could not. */
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { cases } from '../../base/testing.js';
import type { RecipeInput } from '../../config/index.js';
import { readGpus } from '../devices/cards.js';
import { Calibration, kindOf, type MeasuredRun } from './calibration.js';
import { fullRecipe, measuredRun, VERSIONS } from './testing.js';

const { card } = readGpus('A100-40GB');
const of = (runs: readonly MeasuredRun[], ranks = 1, more: Partial<RecipeInput> = {}) =>
  new Calibration(runs, VERSIONS).of(card, fullRecipe(more), ranks);
const timed = (...times: number[]) => times.map((time) => measuredRun({ time }));

test('fewer than three runs say nothing', () => {
  expect(of(timed(1.2, 1.2))).toEqual({ context: null, time: null });
});

test('the median of times counts, and within what two thirds of the runs lie', () => {
  const found = of(timed(1.0, 1.1, 4, 1.21, 1.15)).time!;
  expect(found).toMatchObject({ factor: 1.15, runs: 5, sameKind: true });
  // 0, 4.3, 5.2, 13.0 and 248 %.
  expect(found.interval).toBeCloseTo(0.15 / 1.15, 10);
  expect(of(timed(1, 1.2, 1.4, 9)).time!.factor).toBeCloseTo(1.3, 10);
});

test('of contexts the least: what others hold of a card only adds', () => {
  const contexts = [700, 600, 30_000].map((mib) => measuredRun({ context: mib * 2 ** 20 }));
  expect(of(contexts).context).toBe(600 * 2 ** 20);
  // Ranks hold buffers for each other.
  expect(of(contexts, 8).context).toBe(null);
});

describe('runs count', () => {
  const three = (more: Partial<MeasuredRun>) => Array<MeasuredRun>(3).fill(measuredRun(more));

  test('of the same kind, where there are enough; else all of the card', () => {
    const runs = [...three({ time: 1.5 }), ...three({ time: 2, kind: 'lora, nf4, bf16' })];
    const lora = (base?: 'nf4' | 'fp8') => ({
      train: { decoder: { lora: {}, ...(base && { base }) } },
    });
    expect(of(runs).time).toMatchObject({ factor: 1.5, sameKind: true });
    expect(of(runs, 1, lora('nf4')).time).toMatchObject({ factor: 2, sameKind: true });
    expect(of(runs, 1, lora('fp8')).time).toMatchObject({ factor: 1.75, runs: 6, sameKind: false });
    expect(of(runs, 2).time).toMatchObject({ factor: 1.75, sameKind: false });
  });

  test.each<[string, Partial<MeasuredRun>]>([
    ['another card', { card: 'NVIDIA H200' }],
    ['another card of nearly that name', { card: 'NVIDIA A100-SXM4-80GB' }],
    ['another libtorch', { libtorch: '2.12.0' }],
    ['another Patina', { patina: '0.2.0' }],
  ])('not on %s', (_, more) => {
    expect(of(three(more))).toEqual({ context: null, time: null });
  });

  test('on a card as its driver calls it, of that one alone', () => {
    const here = { ...card, name: 'NVIDIA A100-PCIE-40GB' };
    const calibration = new Calibration(
      [...three({ time: 2 }), ...three({ time: 3, card: here.name })],
      VERSIONS,
    );
    expect(calibration.of(here, fullRecipe(), 1).time!.factor).toBe(3);
    expect(calibration.of(card, fullRecipe(), 1).time).toMatchObject({ factor: 2.5, runs: 6 });
  });

  test('where they told no time or no context, for the other', () => {
    expect(of(three({ time: null }))).toEqual({ context: 600 * 2 ** 20, time: null });
    expect(of(three({ context: null }))).toMatchObject({ context: null, time: { factor: 1 } });
  });
});

test('in whatever order they came, and one that was disturbed moves nothing beyond the others', () => {
  const times = fc.array(fc.double({ min: 0.8, max: 1.3, noNaN: true }), {
    minLength: 2,
    maxLength: 12,
  });
  const odd = fc.double({ min: 1e-3, max: 1e3, noNaN: true });
  fc.assert(
    fc.property(times, odd, fc.infiniteStream(fc.nat()), (sound, disturbed, order) => {
      const runs = timed(...sound, disturbed);
      const keys = new Map(runs.map((run) => [run, order.next().value as number]));
      const shuffled = runs.toSorted((a, b) => keys.get(a)! - keys.get(b)!);
      expect(of(shuffled)).toEqual(of(runs));
      const { factor } = of(runs).time!;
      expect(factor).toBeGreaterThanOrEqual(Math.min(...sound));
      expect(factor).toBeLessThanOrEqual(Math.max(...sound));
    }),
    { numRuns: cases(200) },
  );
});

test.each<[Partial<RecipeInput>, string]>([
  [{}, 'full, bf16'],
  [{ train: { decoder: 'frozen', projector: 'full' } }, 'frozen, bf16'],
  [{ train: { decoder: { lora: {}, base: 'fp8' } } }, 'lora, fp8, bf16'],
  [{ parallel: { offload: 'optimizer' } }, 'full, bf16, optimizer in host memory'],
  [{ precision: { compute: 'fp32' } }, 'full, fp32'],
])('%j is of kind %s', (more, kind) => {
  expect(kindOf(fullRecipe(more))).toBe(kind);
});
