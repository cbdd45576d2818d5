/** What the host takes of an update, and that the card takes its time beside it. */
import { expect, test } from 'vitest';
import { DeviceClock, type Work } from './device-clock.js';
import { readGpus } from './devices/cards.js';
import { HOST } from './devices/hosts.js';
import { squaresOf } from './squares.js';

const { card } = readGpus('H200');
const SMALL: Work = {
  ...{ name: 'patina::swiglu', stream: 0, shapes: [[8, 64]], onHost: false },
  ...{ read: 1024, overwritten: 0, made: 512 },
};
const LARGE: Work = { ...SMALL, read: 1e9, made: 1e9 };

interface Given {
  readonly calls: number;
  readonly work?: Work;
  readonly fromGraph?: boolean;
  readonly updates?: number;
}

/** The last of so many updates. */
function updateOf({ calls, work = SMALL, fromGraph = false, updates = 1 }: Given): number {
  const clock = new DeviceClock(card, squaresOf([]));
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
  const { call, launch, update } = HOST;
  expect(updateOf({ calls: 1000 })).toBeCloseTo(1000 * (call + launch) + update, 4);
  const large = updateOf({ calls: 100, work: LARGE });
  expect(large).toBeGreaterThan((100 * 2e9) / card.bandwidth);
  expect(large).toBeLessThan((100 * 2e9) / card.bandwidth + update + 1e-3);
});

test('nodes of a graph take a time of their own', () => {
  const { node, launch, update } = HOST;
  const seconds = updateOf({ calls: 1000, fromGraph: true });
  expect(seconds).toBeCloseTo(1000 * (node + launch) + update, 4);
});

/** Small work first, then large: the host gets ahead with the second half. */
const STARTS = [...Array<Work>(300).fill(SMALL), ...Array<Work>(30).fill(LARGE)];

function updatesOf(count: number, { pauses = false } = {}): readonly number[] {
  const clock = new DeviceClock(card, squaresOf([]));
  for (let update = 0; update < count; update++) {
    clock.beginUpdate();
    for (const work of STARTS) {
      clock.launch({ fromGraph: false });
      clock.run(work);
    }
    clock.endUpdate();
    if (pauses && update === 0) clock.pause();
  }
  return clock.updates;
}

test('an update that follows another has what its host was ahead by then', () => {
  const [first, second, third] = updatesOf(3) as [number, number, number];
  const behind = 300 * (HOST.call + HOST.launch);
  expect(first).toBeGreaterThan(behind);
  expect(second).toBeLessThan(0.8 * first);
  expect(third).toBeGreaterThanOrEqual(second * 0.99);
});

test('what comes between two updates is no part of them', () => {
  const [plain, paused] = [updatesOf(2), updatesOf(2, { pauses: true })];
  expect(paused[1]).toBeCloseTo(plain[1]!, 6);
});

test('kernels beside a collective take longer, those behind it do not', () => {
  const clock = new DeviceClock(card, squaresOf([]));
  const alone = updateOf({ calls: 20, work: LARGE });
  clock.beginUpdate();
  const seconds = 2 * (alone / 20); // the link is busy beside the first two kernels
  clock.call({
    kind: 'call',
    block: 0,
    call: 1,
    name: 'all-gather',
    ranks: 2,
    bytes: 2 * seconds * card.link,
    stream: 7,
  });
  for (let i = 0; i < 20; i++) clock.run(LARGE);
  clock.endUpdate();
  const longer = clock.updates.at(-1)! - alone;
  expect(longer).toBeGreaterThan(0.2 * seconds);
  expect(longer).toBeLessThan(0.3 * seconds);
});
