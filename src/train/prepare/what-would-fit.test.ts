import { expect, test } from 'vitest';

import { EnvironmentError, OutOfMemoryError } from '../../base/errors.js';
import { checkRecipe, type RecipeInput } from '../../config/index.js';
import { RecordTooLargeError, whatWouldFit, withWhatWouldFit } from './what-would-fit.js';

const recipe = (more: Partial<RecipeInput> = {}) =>
  checkRecipe({
    name: 'x',
    model: { from: 'org/model' },
    train: { decoder: 'full' },
    data: { sources: ['org/data'] },
    optimizer: { learningRate: 1 },
    ...more,
  });

test('one process is told of several, and of LoRA', () => {
  const hint = whatWouldFit(recipe(), 1);
  expect(hint).toMatch(
    /^Try, in this order: `precision.states: int8`.*; `parallel.offload: optimizer`.*; several GPUs .*--nproc gpus.*; a LoRA in place of `full`\.$/,
  );
});

test('several are told of what they do not share out yet', () => {
  const hint = whatWouldFit(recipe({ batchSize: 4, memory: { policy: 'keep' } }), 2);
  expect(whatWouldFit(recipe({ batchTokens: 8192, effectiveBatch: 4 }), 1)).toMatch(
    /^Try, in this order: `batchTokens` below 8192; /,
  );
  expect(hint).toMatch(/`batchSize` below 4.*`memory.policy: recompute`.*zero: 2`; .*zero: 3`/);
  const sharing = whatWouldFit(recipe({ parallel: { zero: 3 } }), 2);
  expect(sharing).not.toMatch(/zero/);
  expect(sharing).toContain('more processes than 2');
});

test('moments in 8 bits are not told of themselves, nor of a host that keeps fp32', () => {
  const hint = whatWouldFit(recipe({ precision: { states: 'int8' } }), 1);
  expect(hint).toMatch(/^Try, in this order: several GPUs/);
});

test('a LoRA is not told of itself', () => {
  const lora = recipe({ train: { projector: 'frozen', decoder: { lora: { rank: 8 } } } });
  expect(whatWouldFit(lora, 2)).toMatch(/^Try, in this order: `parallel.zero: 3`; .*smaller rank/);
});

test('smaller micro-batches are no help to one record alone', () => {
  const error = new RecordTooLargeError('40 GiB', { code: 'E_OUT_OF_MEMORY', hint: 'Less.' });
  for (const size of [{ batchSize: 4 }, { batchTokens: 8192, effectiveBatch: 4 }]) {
    expect(whatWouldFit(recipe(size), 1)).toMatch(/`batch/);
    expect(withWhatWouldFit(error, recipe(size), 1)).toHaveProperty(
      'hint',
      expect.stringMatching(/^Try, in this order: `precision/),
    );
  }
});

test('only an error of memory gets it, and keeps its message and code', () => {
  const other = new EnvironmentError('no disk', { code: 'E_DISK_FULL', hint: 'Free some.' });
  expect(withWhatWouldFit(other, recipe(), 1)).toBe(other);
  const error = new OutOfMemoryError('40 GiB', { code: 'E_OUT_OF_MEMORY', hint: 'Less.' });
  expect(withWhatWouldFit(error, recipe(), 1)).toMatchObject({
    ...{ message: '40 GiB', code: 'E_OUT_OF_MEMORY', exitCode: 5, cause: error },
    hint: whatWouldFit(recipe(), 1),
  });
});
