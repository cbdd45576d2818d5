import { expect, test } from 'vitest';
import { finish } from '../../models/index.js';
import { AdamW, Gate, schedule, type StateType } from '../../optim/index.js';
import { AccumulatingStore } from './accumulating-store.js';
import { memoryPolicies } from './memory-policy.js';
import { Randomness } from './randomness.js';
import { tinyBatch, tinyLlava } from './testing.js';
import { runUpdate } from './update.js';

const UPDATES = 100;

/** Losses of a model that trains fully, with all moments in a type. */
function lossesWith(states: StateType): number[] {
  const model = tinyLlava();
  for (const parameter of model.parameters()) parameter.requiresGrad_();
  const parameters = new Map(model.namedParameters());
  const optimizer = new AdamW([{ name: 'all', parameters, learningRate: 3e-3 }], { states });
  const randomness = new Randomness(1);
  const store = new AccumulatingStore({ model, optimizer, gate: new Gate('cpu'), randomness });
  const setup = {
    ...{ model, store, randomness, device: 'cpu' as const },
    policies: memoryPolicies(model.segments, { policy: 'keep' }),
    schedule: schedule({ shape: 'cosine', updates: UPDATES }),
  };
  const losses = Array.from({ length: UPDATES }, (_, update) => {
    const { numbers, supervised } = finish(runUpdate(setup, update, [tinyBatch(update % 8)]));
    return numbers.read().lossSum[0]! / supervised;
  });
  store.dispose();
  model.dispose();
  return losses;
}

test('with moments in 8 bits a model learns as with moments in fp32', () => {
  const [expected, actual] = [lossesWith('float32'), lossesWith('int8')];
  const last = (losses: readonly number[]): number =>
    losses.slice(-8).reduce((sum, loss) => sum + loss, 0) / 8;
  expect(last(expected)).toBeLessThan(0.7 * expected[0]!);
  expect(last(actual) / last(expected)).toBeGreaterThan(0.99);
  expect(last(actual) / last(expected)).toBeLessThan(1.01);
});
