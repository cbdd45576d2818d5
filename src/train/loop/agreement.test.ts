import { describe, expect, test } from 'vitest';

import { DataError } from '../../base/errors.js';
import { isCommon, type World } from '../../parallel/index.js';
import { Ranks } from '../run/ranks.js';
import { Agreement } from './agreement.js';

/** Something that two ranks tell each other. */
class Round {
  private readonly told = new Map<number, unknown>();
  private come!: () => void;
  private readonly both = new Promise<void>((resolve) => (this.come = resolve));

  constructor(readonly label: string) {}

  async tell(rank: number, value: unknown): Promise<unknown[]> {
    this.told.set(rank, value);
    if (this.told.size === 2) this.come();
    await this.both;
    return [this.told.get(0), this.told.get(1)];
  }
}

/** Two ranks in one process, each with a signal by which it alone is told to stop. */
function twoRanks() {
  const rounds: Round[] = [];
  return [0, 1].map((rank) => {
    let next = 0;
    const exchange = (label: string, own: unknown): Promise<unknown[]> => {
      const round = (rounds[next++] ??= new Round(label));
      expect(label).toBe(round.label);
      return round.tell(rank, structuredClone(own));
    };
    const stop = new AbortController();
    const ranks = new Ranks({ rank, size: 2, exchange } as unknown as World);
    const facts = { signal: stop.signal, peakBytes: () => 0, saved: () => 0 };
    return { stop, agreement: new Agreement(ranks, facts) };
  });
}

describe('what ranks do together in an answer', () => {
  test('is what the first one did', async () => {
    const both = twoRanks();
    const given = both.map(({ agreement }, rank) => agreement.agree(() => [rank, 5]));
    expect(await Promise.all(given)).toEqual([
      [0, 5],
      [0, 5],
    ]);
  });

  test('fails on all where it fails on one, whichever it is', async () => {
    for (const failing of [0, 1]) {
      const both = twoRanks();
      const outcomes = await Promise.allSettled(
        both.map(({ agreement }, rank) =>
          agreement.agree(() => {
            if (rank !== failing) return rank;
            throw new DataError('no picture', { code: 'E_IMAGE', hint: 'Bring it.' });
          }),
        ),
      );
      for (const [rank, outcome] of outcomes.entries()) {
        const reason: unknown = outcome.status === 'rejected' ? outcome.reason : undefined;
        const message = rank === failing ? 'no picture' : `rank ${failing}: no picture`;
        expect(reason).toMatchObject({ code: 'E_IMAGE', message });
        expect(isCommon(reason)).toBe(true);
      }
    }
  });

  test('stops on all once one was told to, after the same step', async () => {
    const both = twoRanks();
    const step = () => Promise.all(both.map(({ agreement }) => agreement.agree(() => 1)));
    const stopped = () => both.map(({ agreement }) => agreement.signal!.aborted);
    await step();
    expect(stopped()).toEqual([false, false]);
    both[1]!.stop.abort();
    await step();
    expect(stopped()).toEqual([true, true]);
  });
});

test('a process alone does what it would do, and fails as it fails', async () => {
  const { signal } = new AbortController();
  const alone = new Agreement(new Ranks(), { signal, peakBytes: () => 0, saved: () => 0 });
  expect(await alone.agree(() => Promise.resolve('done'))).toBe('done');
  await expect(alone.agree(() => Promise.reject(new RangeError('no')))).rejects.toThrow('no');
  expect(alone.signal).toBe(signal);
});
