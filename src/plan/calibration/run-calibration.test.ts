/** A run that came to a good end says what it measured beside its plan. */
import { describe, expect, test } from 'vitest';
import type { EndEvent, MemoryEvent, PlannedFor, TrainEvent } from '../../train/index.js';
import type { TimedPrediction } from '../predict.js';
import { Calibration, type MeasuredRun } from './calibration.js';
import { RunCalibration } from './run-calibration.js';
import { fullRecipe, measuredRun, VERSIONS } from './testing.js';

const MIB = 2 ** 20;
const run = {
  recipe: fullRecipe(),
  device: {
    ...{ device: 'cuda:0', name: 'NVIDIA A100-SXM4-40GB', capability: 8 },
    totalBytes: 2 ** 35,
  },
  ranks: 1,
} as unknown as PlannedFor;
const plain: TimedPrediction = {
  ...{ allocated: 900 * MIB, reserved: 1000 * MIB, total: 1560 * MIB, atPeak: {} },
  ...{ seconds: 2, time: { seconds: 2, busy: 0.99 } },
};
const untimed: MemoryEvent = {
  type: 'memory',
  predicted: null,
  measured: { allocated: 910 * MIB, reserved: 1010 * MIB, total: 1610 * MIB },
};
const memory: MemoryEvent = { ...untimed, seconds: { predicted: 2, measured: 2.2 } };
const end = (reason: EndEvent['reason'] = 'finished') => ({ type: 'end', reason }) as TrainEvent;

async function told(
  events: readonly TrainEvent[],
  { prediction = plain, runs = [] }: { prediction?: TimedPrediction; runs?: MeasuredRun[] } = {},
) {
  const earlier = new Calibration(runs, VERSIONS);
  const calibration = new RunCalibration(earlier, () => Promise.resolve(prediction));
  const predicted = await calibration.predict(run);
  for (const event of events) calibration.see(event);
  return { predicted, result: calibration.result(VERSIONS, new Date(0)) };
}

test('its time beside the plan, and what the card held beside the allocator', async () => {
  expect((await told([memory, end()])).result).toEqual({
    ...{ at: '1970-01-01T00:00:00.000Z', card: 'NVIDIA A100-SXM4-40GB', ...VERSIONS, ranks: 1 },
    ...{ kind: 'full, bf16', time: 1.1, context: 600 * MIB },
  });
});

describe('it is predicted as earlier runs say', () => {
  const runs = [1.3, 1.3, 1.3].map((time) => measuredRun({ time, context: 700 * MIB }));

  test('but for its tensors, and measured against the plan without them', async () => {
    const { predicted, result } = await told([memory, end()], { runs });
    expect(predicted).toEqual({
      ...{ allocated: 900 * MIB, reserved: 1000 * MIB, total: 1700 * MIB, atPeak: {} },
      ...{ seconds: 2.6, earlierRuns: 3 },
    });
    expect(result!.time).toBe(1.1);
  });

  test('but for its time where the host holds it up, and this says nothing of a card', async () => {
    const prediction = { ...plain, time: { seconds: 2, busy: 0.4 } };
    const { predicted, result } = await told([memory, end()], { runs, prediction });
    expect(predicted).toMatchObject({ seconds: 2, total: 1700 * MIB });
    expect(predicted).not.toHaveProperty('earlierRuns');
    expect(result).toMatchObject({ time: null, context: 600 * MIB });
  });
});

describe('nothing is kept of a run', () => {
  const recovery = { type: 'recovery', action: 'halve' } as TrainEvent;
  const diagnosis = { type: 'diagnosis' } as TrainEvent;
  test.each<[string, TrainEvent[]]>([
    ['that did not end', [memory]],
    ['that trained nothing', [memory, end('dry-run')]],
    ['that was interrupted, and tells no memory', [end('interrupted')]],
    ['whose memory did not suffice', [recovery, memory, end()]],
    ['in which something broke', [diagnosis, memory, end()]],
  ])('%s', async (_, events) => {
    expect((await told(events)).result).toBe(null);
  });

  test('on the CPU', async () => {
    const cpu: MemoryEvent = { ...untimed, measured: { allocated: 9, reserved: 9 } };
    expect((await told([cpu, end()])).result).toBe(null);
  });
});

test('too few sound updates tell no time, but what the card held', async () => {
  const { result } = await told([untimed, end('max-updates')]);
  expect(result).toMatchObject({ time: null, context: 600 * MIB });
});
