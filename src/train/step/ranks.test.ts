import { expect, test } from 'vitest';
import { onRanks, trainCase, type RankCase } from './testing-ranks.js';

const TRAINS = ['full', 'LoRA', 'projector'] as const;
const STAGES = [0, 1, 2, 3] as const;

const COMMON = { policy: 'keep', offload: 'none', reshardAfterForward: true } as const;
const cases: RankCase[] = [
  ...STAGES.flatMap((stage) =>
    TRAINS.map((trains, i) => ({
      ...{ ...COMMON, stage, trains, updateInBackward: false },
      packed: (stage + i) % 2 === 0,
    })),
  ),
  ...STAGES.map((stage) => ({
    ...{ ...COMMON, stage, packed: true, updateInBackward: true },
    ...({ trains: 'full', offload: stage % 2 === 0 ? 'optimizer' : 'none' } as const),
  })),
  {
    ...{ ...COMMON, stage: 3, trains: 'full', packed: false, updateInBackward: false },
    ...({ policy: 'recompute', offload: 'parameters', reshardAfterForward: false } as const),
  },
];

// With dropout, and with records and whole updates without pictures.
test('2 ranks train as one process does, whatever they share', async () => {
  const courses = await onRanks(2, cases);
  for (const [i, each] of cases.entries()) {
    const expected = await trainCase(null, each);
    const [first, second] = courses[i]!;
    expect([each, second!.losses, second!.norms]).toEqual([each, first!.losses, first!.norms]);
    expected.losses.forEach((loss, update) => {
      expect([each, update, first!.losses[update]! / loss]).toEqual([
        each,
        update,
        expect.closeTo(1, 5),
      ]);
      const ratio = first!.norms[update]! / expected.norms[update]!;
      // Nothing reaches a projector in updates without pictures.
      const norm = expected.norms[update] === 0 ? first!.norms[update]! + 1 : ratio;
      expect([each, update, norm]).toEqual([each, update, expect.closeTo(1, 4)]);
    });
  }
}, 120_000);
