import { expect, test } from 'vitest';
import type { EndEvent, MemoryEvent, StartEvent, UpdateEvent } from '../../train/index.js';
import { eventLines, figures, speedLine, updateLine } from './event-lines.js';

test.each([
  [0, '0.000'],
  [0.00012345, '1.23e-4'],
  [0.0012345, '0.00123'],
  [1.23456, '1.235'],
  [123.456, '123.5'],
  [9999.4, '9999'],
  [9999.6, '1.00e+4'],
  [12_345.678, '1.23e+4'],
  [NaN, 'NaN'],
])('figures(%d) is %s', (value, text) => expect(figures(value)).toBe(text));

test.each([
  [100, 1, '100 epochs'],
  [1200, 1, '1200 epochs'],
  [15, 10, '1.5 epochs'],
  [1, 3, '0.333 epochs'],
])('%d updates of which %d make an epoch are %s', (planned, perEpoch, epochs) => {
  const event: StartEvent = {
    type: 'start',
    recipe: 'mine',
    run: null,
    resumedFrom: 0,
    device: 'CPU',
    statements: [],
    table: [],
    choices: [],
    parameters: { trained: 1, total: 2 },
    data: { sources: [], recordsPerEpoch: 1, validationRecords: 0 },
    updates: { planned, perEpoch, warmup: 0, epochs: planned / perEpoch },
  };
  expect(eventLines(event).join('\n')).toContain(`(${epochs})`);
});

test('how full micro-batches are stands beside the speed, where they have a budget', () => {
  const update = (tokens: number, filled?: number): UpdateEvent => ({
    ...{ type: 'update', update: 1, epoch: 0, loss: 1, gradientNorm: 1, learningRate: 1e-4 },
    counts: { sequences: 2, tokens, imageTokens: 0, images: 0, supervised: 9, truncated: 0 },
    ...(filled !== undefined && { filled }),
    ...{ seconds: 1, tokensPerSecond: tokens, samplesPerSecond: 2, waiting: 0 },
    memory: { peakBytes: 2 ** 30, totalBytes: 2 ** 32 },
    ...{ skipped: false, skippedSegments: null, lossScale: null },
  });
  expect(updateLine(update(100, 0.926), 1)).toMatch(/100 tok\/s \(0 image\) {2}filled 93 %$/);
  expect(updateLine(update(100), 1)).not.toContain('filled');
  // 400 tokens where there was room for 600.
  const recent = [update(300, 0.75), update(100, 0.5)];
  expect(speedLine(recent, 9)).toContain('tok/s (0 image)  filled 67 %  2 samples/s');
  expect(speedLine([update(100)], 9)).not.toContain('filled');
});

test.each<[string, Pick<MemoryEvent, 'predicted' | 'seconds' | 'note'>, string]>([
  [
    'with the plan beside it',
    { predicted: { allocated: 2 ** 30, reserved: 2 ** 31 } },
    'at most 1.50 GiB (planned 1.00 GiB) in tensors, 3.00 GiB (planned 2.00 GiB) reserved',
  ],
  [
    'with time beside the plan',
    {
      predicted: { allocated: 2 ** 30, reserved: 2 ** 31 },
      seconds: { predicted: 0.0512, measured: 3 },
    },
    'at most 1.50 GiB (planned 1.00 GiB) in tensors, 3.00 GiB (planned 2.00 GiB) reserved, 3.0s an update (planned 51.2 ms)',
  ],
  [
    'or beside what earlier runs say',
    {
      predicted: { allocated: 2 ** 30, reserved: 2 ** 31 },
      seconds: { predicted: 2, measured: 3, earlierRuns: 5 },
    },
    'at most 1.50 GiB (planned 1.00 GiB) in tensors, 3.00 GiB (planned 2.00 GiB) reserved, 3.0s an update (planned 2.0s by 5 runs before it)',
  ],
  [
    'or why there is none',
    { predicted: null, note: 'no such card' },
    'at most 1.50 GiB in tensors, 3.00 GiB reserved, no plan: no such card',
  ],
])('the last line has the memory of a run, %s', (_name, more, text) => {
  const measured = { allocated: 1.5 * 2 ** 30, reserved: 3 * 2 ** 30 };
  const memory: MemoryEvent = { type: 'memory', measured, ...more };
  const end: EndEvent = {
    ...{ type: 'end', reason: 'finished', update: 3, run: null, checkpoint: null, loss: 1.5 },
    ...{ validationLoss: null, scores: {}, skipped: 0, badRecords: 0, warnings: {}, seconds: 1 },
  };
  expect(eventLines(memory)).toEqual([]);
  expect(eventLines(end, { memory })).toEqual([expect.stringContaining(`, loss 1.500, ${text}`)]);
  expect(eventLines(end)[0]).not.toContain('at most');
});

test('the score of a task is told with its interval, and what asking took', () => {
  const lines = eventLines({
    ...{ type: 'score', update: 200, name: 'pope', task: 'pope', harness: 'llava', score: 0.8512 },
    ...{
      interval: [0.8301, 0.87],
      intervalMethod: 'bootstrap',
      n: 500,
      metrics: {},
      categories: {},
    },
    ...{ best: true, answers: 'a.jsonl', rows: 16, seconds: 75, peakBytes: 3 * 2 ** 30 },
  });
  expect(lines).toEqual([
    'update 200: pope 0.8512 (0.8301 to 0.8700, n 500, llava), the highest since the first update (1m 15s, 3.00 GiB)',
  ]);
});

test.each([
  [null, '(1.00 GiB in tensors)'],
  [2 ** 29, '(1.00 GiB in tensors, planned 512 MiB)'],
])(
  'micro-batches that are cut are told with what was in tensors, planned %s',
  (predicted, text) => {
    const lines = eventLines({
      ...{ type: 'recovery', update: 7, action: 'halve', message: 'in halves', overshot: null },
      microBatch: { unit: 'records', before: 4, after: 2 },
      memory: { allocated: 2 ** 30, predicted },
    });
    expect(lines).toEqual([`update 7: in halves ${text}`]);
  },
);
