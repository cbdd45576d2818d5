/** What the host takes of an update, and that the card takes its time beside it. */
import { expect, test } from 'vitest';
import { DeviceClock, type Work } from './device-clock.js';
import { readGpus } from './devices/cards.js';
import { FRESH, STEADY, type Host } from './devices/hosts.js';
import { squaresOf } from './squares.js';

const { card } = readGpus('H200');
const SMALL: Work = {
  ...{ name: 'patina::swiglu', stream: 0, shapes: [[8, 64]], onHost: false },
  ...{ read: 1024, overwritten: 0, made: 512 },
};
const LARGE: Work = { ...SMALL, read: 1e9, made: 1e9 };

interface Given {
  readonly host?: Host;
  readonly calls: number;
  readonly work?: Work;
  readonly fromGraph?: boolean;
  readonly updates?: number;
}

/** The last of so many updates. */
function updateOf({ host, calls, work = SMALL, fromGraph = false, updates = 1 }: Given): number {
  const clock = new DeviceClock(card, { host, squaresOf: squaresOf([]) });
  for (let update = 0; update < updates; update++) {
    clock.beginUpdate();
    for (let i = 0; i < calls; i++) {
      clock.launch({ fromGraph });
      clock.run(work);
    }
    clock.endUpdate();
  }
  return clock.updates.at(-1)!;
}

test('small operators are held up by the host, large ones by the card', () => {
  const { call, launch, update } = STEADY;
  expect(updateOf({ calls: 1000 })).toBeCloseTo(1000 * (call + launch) + update, 4);
  const large = updateOf({ calls: 100, work: LARGE });
  expect(large).toBeGreaterThan((100 * 2e9) / card.bandwidth);
  expect(large).toBeLessThan((100 * 2e9) / card.bandwidth + update + 1e-3);
});

test('a node of a graph costs less than a call from JavaScript', () => {
  expect(updateOf({ calls: 1000, fromGraph: true })).toBeLessThan(0.7 * updateOf({ calls: 1000 }));
});

test('a process that has only begun takes up to twice as long, but not for long', () => {
  const steady = updateOf({ calls: 1000 });
  const early = updateOf({ calls: 1000, host: FRESH });
  expect(early / steady).toBeGreaterThan(1.8);
  expect(early / steady).toBeLessThan(2);
  expect(updateOf({ calls: 1000, host: FRESH, updates: 300 })).toBeCloseTo(steady, 3);
  expect(updateOf({ calls: 1000, updates: 300 })).toBeCloseTo(steady, 10);
});
