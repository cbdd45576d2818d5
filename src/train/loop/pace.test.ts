/** Updates that something held up say nothing of how long a run's updates take. */
import { describe, expect, test } from 'vitest';
import { microBatchOf, type LoadedSample } from '../../data/index.js';
import type { UpdateEvent } from '../events.js';
import { Pace } from './pace.js';

const record = (tokens: number): LoadedSample =>
  ({ inputIds: new Int32Array(tokens), labels: [], images: [] }) as unknown as LoadedSample;

/** An update of micro-batches of such lengths. */
function see(
  pace: Pace,
  seconds: number,
  more: Partial<UpdateEvent> = {},
  lengths: readonly (readonly number[])[] = [[300, 200], [400]],
): void {
  const tokens = lengths.flat().reduce((sum, each) => sum + each, 0);
  const event = { seconds, tokensPerSecond: tokens / seconds, waiting: 0, skipped: false, ...more };
  const microBatches = lengths.map((each) => microBatchOf(each.map(record)));
  pace.see(event as UpdateEvent, { microBatches });
}

function warm(): Pace {
  const pace = new Pace();
  for (let i = 0; i < 3; i++) see(pace, 60);
  return pace;
}

test('the median of speeds counts, once there are enough', () => {
  const pace = warm();
  for (const seconds of [2, 2.1, 2.2, 1.9, 2, 2.05, 9]) see(pace, seconds);
  expect(pace.typical).toBe(null);
  see(pace, 2.3);
  expect(pace.typical!.seconds).toBe(2.05);
});

test('of updates of many lengths it is the speed, not the time', () => {
  const pace = warm();
  for (let i = 1; i <= 9; i++) see(pace, i * (1 + i / 100), {}, [[i * 100]]);
  expect(pace.typical).toMatchObject({
    seconds: 5 * 1.05,
    batch: [{ tokens: 500 }],
    microBatches: 1,
  });
});

test('it is worth as many of its micro-batches as have its tokens', () => {
  const pace = warm();
  for (let i = 0; i < 8; i++) see(pace, 2, {}, [[100, 300], [900], [], [500]]);
  const { batch, microBatches } = pace.typical!;
  expect(batch.map(({ tokens }) => tokens)).toEqual([500]);
  expect(microBatches).toBe(1800 / 500);
});

describe('left out are updates', () => {
  const ranks = (...speeds: number[]) =>
    speeds.map((tokensPerSecond, rank) => ({ rank, tokensPerSecond, waiting: 0, peakBytes: 0 }));
  test.each<[string, Partial<UpdateEvent>, number[][]?]>([
    ['that waited for data', { waiting: 0.2 }],
    ['that were skipped', { skipped: true }],
    ['in which another rank had more to do', { ranks: ranks(100, 120) }],
    ['of ranks without records', {}, [[], []]],
  ])('%s', (_, more, lengths) => {
    const pace = warm();
    for (let i = 0; i < 20; i++) see(pace, 9, more, lengths);
    expect(pace.typical).toBe(null);
    for (let i = 0; i < 8; i++) see(pace, 2, { ranks: ranks(100, 102) });
    expect(pace.typical!.seconds).toBe(2);
  });

  test('of long ago', () => {
    const pace = warm();
    for (let i = 0; i < 64; i++) see(pace, 9);
    for (let i = 0; i < 64; i++) see(pace, 2);
    see(pace, 9);
    expect(pace.typical!.seconds).toBe(2);
  });
});
