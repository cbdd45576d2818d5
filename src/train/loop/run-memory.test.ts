import { expect, test } from 'vitest';
import { OutOfMemoryError } from '../../base/errors.js';
import { checkRecipe } from '../../config/index.js';
import { microBatchOf, type LoadedSample, type UpdateData } from '../../data/index.js';
import { peersInMemory } from '../../parallel/testing.js';
import { RunMemory } from './run-memory.js';

const record = (tokens: number): LoadedSample =>
  ({ inputIds: new Int32Array(tokens), labels: [], images: [] }) as unknown as LoadedSample;
const update = (...lengths: readonly (readonly number[])[]): UpdateData =>
  ({
    microBatches: lengths.map((each) => microBatchOf(each.map(record))),
  }) as unknown as UpdateData;

const recipe = checkRecipe({
  ...{ name: 'tiny', model: { from: 'nowhere' }, data: { sources: ['nowhere'] } },
  ...{ optimizer: { learningRate: 1e-3 }, batchTokens: 100, effectiveBatch: 8 },
});
const ranks = (size: number): RunMemory[] =>
  peersInMemory(size).map((peers) => {
    const { rank, gather } = peers;
    const device = { device: 'cpu' } as never;
    return new RunMemory({ recipe, device, ranks: { rank, size, speaks: rank === 0, gather } });
  });

const full = new OutOfMemoryError('no byte is left', { code: 'E_OUT_OF_MEMORY', hint: 'Wait.' });

test('ranks have as many micro-batches each, cut by what held most on those that ran out', async () => {
  const [first, second, third] = ranks(3);
  const data = [
    update([40, 30, 20], [90]),
    update([30, 30], [10]),
    update([20, 20, 20, 20], [5, 5]),
  ];
  const halved = await Promise.all([
    first!.halve(data[0]!, null, 4),
    second!.halve(data[1]!, full, 4),
    third!.halve(data[2]!, full, 4),
  ]);
  const events = await Promise.all(halved.map((each) => each.event()));
  for (const event of events) {
    expect(event).toMatchObject({ microBatch: { before: 80, after: 40 }, ranks: [1, 2] });
  }
  const cut = await Promise.all([first!, second!, third!].map((each, i) => each.applyTo(data[i]!)));
  expect(
    cut.map(({ microBatches }) =>
      microBatches.map(({ samples }) => samples.map(({ inputIds }) => inputIds.length)),
    ),
  ).toEqual([
    [[40], [30], [20], [90]],
    [[30], [30], [10], []],
    [[20, 20], [20, 20], [5, 5], []],
  ]);
});

test('where a rank that ran out has nothing to cut, all end with its error', async () => {
  const [first, second] = ranks(2);
  const outcomes = await Promise.allSettled([
    first!.halve(update([10, 10]), full, 2),
    second!.halve(update([40], []), full, 2),
  ]);
  const message =
    'Update 2 does not fit on rank 1 with one record in each micro-batch: no byte is left';
  for (const each of outcomes) {
    expect(each).toMatchObject({
      status: 'rejected',
      reason: { message, exitCode: 5, hint: 'Wait.' },
    });
  }
});
