/** Gradients that products add to their sums, against gradients that are handed in and added. */
import { afterEach, describe, expect, test } from 'vitest';
import { finish, type Llava, type SegmentBase } from '../../models/index.js';
import { Linear } from '../../nn/index.js';
import { AdamW, Gate } from '../../optim/index.js';
import {
  full,
  noGrad,
  RandomGenerator,
  scope,
  type DType,
  type Tensor,
} from '../../torch/index.js';
import { AccumulatingStore } from './accumulating-store.js';
import { memoryPolicies } from './memory-policy.js';
import { Randomness } from './randomness.js';
import { runMicroBatch } from './step.js';
import { tinyBatch, tinyLlava, tinyTextBatch } from './testing.js';

/** Every gradient is handed in. */
class AddingStore extends AccumulatingStore {
  override place(): null {
    return null;
  }
}

const open: { dispose(): void }[] = [];
afterEach(() => {
  for (const item of open.splice(0)) item.dispose();
});

interface Options {
  tied?: boolean;
  lora?: boolean;
  dtype?: DType;
}

function build({ tied = false, lora = false, dtype = 'float32' }: Options = {}): Llava {
  const model = tinyLlava({ tied, dtype });
  if (lora) {
    const generator = RandomGenerator.create(9);
    for (const [name, module] of model.namedModules()) {
      if (!(module instanceof Linear) || !name.includes('language_model')) continue;
      module.attachAdapter({ rank: 2, alpha: 4, dropout: 0.2, dtype });
    }
    model.initialize('cpu', { generator, std: 0.2 });
    for (const [name, parameter] of model.namedParameters()) {
      if (name.includes('lora_')) noGrad(() => parameter.normal_(0, 0.2, { generator }));
    }
    generator.dispose();
  }
  for (const [name, parameter] of model.namedParameters()) {
    if (!lora || name.includes('lora_')) parameter.requiresGrad_();
  }
  open.push(model);
  return model;
}

/** The store after micro-batches of an update, of which one is empty. */
function accumulate(model: Llava, Store: typeof AccumulatingStore): AccumulatingStore {
  const randomness = new Randomness(5);
  const parts = { model, optimizer: new AdamW([]), gate: new Gate('cpu'), randomness };
  const store = new Store(parts);
  open.push(store);
  const batches = [null, tinyBatch(), tinyTextBatch(1), tinyBatch(2)];
  const scalar = (value: number): Tensor => full([], value, { dtype: 'float32' });
  const [tokens, lossFactor] = [scalar(9), scalar(0.25)];
  const update = { update: 3, scheduleFactor: 1, tokens, pictures: true, lossFactor };
  store.begin({ ...update, microBatches: batches.length });
  const policies = memoryPolicies(model.segments, { policy: 'recompute' });
  for (const batch of batches) {
    const step = { model, store, policies, lossFactor, randomness };
    finish(runMicroBatch(step, batch, 3))?.dispose();
  }
  for (const each of [tokens, lossFactor]) each.dispose();
  return store;
}

const distance = (actual: Tensor, expected: Tensor): number =>
  scope(() => actual.sub(expected).linalgVectorNorm(2).item());
const size = (x: Tensor): number => scope(() => x.linalgVectorNorm(2).item());

describe.each([{ tied: false }, { tied: true }, { lora: true }, { dtype: 'bfloat16' as const }])(
  '%o',
  (options) => {
    test('micro-batches, of which one is empty, sum to the same', () => {
      const model = build(options);
      const placed = accumulate(model, AccumulatingStore).gradients;
      const added = accumulate(model, AddingStore).gradients;
      expect([...placed.keys()].sort()).toEqual([...added.keys()].sort());
      for (const [name, sum] of placed) {
        const other = added.get(name)!;
        expect([sum.shape, sum.dtype], name).toEqual([other.shape, other.dtype]);
        expect(sum.isContiguous, name).toBe(true);
        // A product in another type than its sum is rounded to its own first, with or without a place.
        const tolerance = options.dtype === 'bfloat16' ? 0 : 1e-6 * size(other) + 1e-9;
        expect(distance(sum, other), name).toBeLessThanOrEqual(tolerance);
      }
    });
  },
);

test('what one product gives lies together, and is where a product of the next micro-batch adds', () => {
  const model = build();
  const sums = accumulate(model, AccumulatingStore).gradients;
  const storages = (block: string, names: readonly string[]): number =>
    new Set(
      names.map((name) =>
        sums.get(`model.language_model.layers.0.${block}.${name}.weight`)!.storageId(),
      ),
    ).size;
  expect(storages('self_attn', ['q_proj', 'k_proj', 'v_proj'])).toBe(1);
  expect(storages('mlp', ['gate_proj', 'up_proj'])).toBe(1);
  expect(storages('mlp', ['up_proj', 'down_proj'])).toBe(2);
});

test('an update of one micro-batch has nothing to sum, and no place', () => {
  const model = build();
  const asked: boolean[] = [];
  class Watched extends AccumulatingStore {
    override place(segment: SegmentBase, parameters: ReadonlyMap<string, Tensor>) {
      const place = super.place(segment, parameters);
      asked.push(place === null);
      return place;
    }
  }
  const randomness = new Randomness(5);
  const store = new Watched({ model, optimizer: new AdamW([]), gate: new Gate('cpu'), randomness });
  open.push(store);
  const one = full([], 1, { dtype: 'float32' });
  const start = { update: 0, scheduleFactor: 1, tokens: one, pictures: true, lossFactor: one };
  store.begin({ ...start, microBatches: 1 });
  const policies = memoryPolicies(model.segments, { policy: 'keep' });
  const step = { model, store, policies, lossFactor: one, randomness };
  finish(runMicroBatch(step, tinyBatch(), 0))?.dispose();
  expect(asked.length).toBeGreaterThan(0);
  expect(asked.every((none) => none)).toBe(true);
  one.dispose();
});
