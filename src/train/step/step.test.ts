import { afterEach, describe, expect, test, vi } from 'vitest';
import { Linear } from '../../nn/index.js';
import { finish, makeBatch, type Batch, type Llava, type SegmentBase } from '../../models/index.js';
import { AdamW, Gate } from '../../optim/index.js';
import {
  enableGrad,
  full,
  RandomGenerator,
  grad,
  liveTensors,
  noGrad,
  scope,
  type Tensor,
} from '../../torch/index.js';
import { AccumulatingStore } from './accumulating-store.js';
import { memoryPolicies, type MemoryPolicy } from './memory-policy.js';
import type { ParameterStore, SegmentGradients } from './parameter-store.js';
import { Randomness } from './randomness.js';
import { runMicroBatch } from './step.js';
import { tinyBatch, tinyLlava, tinySample, tinyTextBatch } from './testing.js';

const POLICIES: readonly MemoryPolicy[] = ['keep', 'products', 'attention', 'recompute', 'offload'];
const open: { dispose(): void }[] = [];
afterEach(() => {
  for (const item of open.splice(0)) item.dispose();
});

type SummingStore = ParameterStore & { readonly gradients: ReadonlyMap<string, Tensor> };

const parts = (model: Llava) => {
  const randomness = new Randomness(5);
  return { model, optimizer: new AdamW([]), gate: new Gate('cpu'), randomness };
};

/** A store that sums gradients and optimizes nothing. */
const summing = (model: Llava): AccumulatingStore => new AccumulatingStore(parts(model));

/** Gradients of one micro-batch, as bytes, and its loss. */
function step(
  model: Llava,
  batch: Batch | null,
  policy: MemoryPolicy,
  store: SummingStore = summing(model),
): { loss: number | null; gradients: Record<string, string> } {
  const randomness = new Randomness(5);
  const lossFactor = full([], 0.25, { dtype: 'float32' });
  const policies = memoryPolicies(model.segments, { policy });
  const sum = finish(runMicroBatch({ model, store, policies, lossFactor, randomness }, batch, 3));
  const gradients = Object.fromEntries(
    [...store.gradients].map(([name, g]) => [name, Buffer.from(g.toBytes()).toString('hex')]),
  );
  const loss = sum?.item() ?? null;
  sum?.dispose();
  store.clear();
  lossFactor.dispose();
  return { loss, gradients };
}

function build(tied: boolean, trains: (name: string) => boolean, dropout = 0): Llava {
  const model = tinyLlava({ tied });
  if (dropout > 0) {
    const generator = RandomGenerator.create(9);
    for (const [name, module] of model.namedModules()) {
      if (module instanceof Linear && name.includes('self_attn')) {
        module.attachAdapter({ rank: 2, alpha: 4, dropout });
      }
    }
    model.initialize('cpu', { generator, std: 0.2 });
    for (const [name, parameter] of model.namedParameters()) {
      if (name.includes('lora_')) noGrad(() => parameter.normal_(0, 0.2, { generator }));
    }
    generator.dispose();
  }
  for (const [name, parameter] of model.namedParameters()) {
    if (trains(name)) parameter.requiresGrad_();
  }
  open.push(model);
  return model;
}

/** One graph over all segments and a plain loss: the oracle. */
function whole(model: Llava, batch: Batch): { loss: number; gradients: Record<string, string> } {
  return scope(() => {
    const parameters = [...model.namedParameters()].filter(([, p]) => p.requiresGrad);
    const inputs = noGrad(() => model.inputs(batch));
    const loss = enableGrad(() => {
      let x: Tensor | null = null;
      for (const segment of model.segments) {
        if (segment.visual && batch.images === null) continue;
        x = segment.forward(x, inputs);
      }
      const rows = x!.flatten(0, 1).indexSelect(0, batch.supervised.positions);
      return model.head.logits(rows).crossEntropyLoss(batch.supervised.targets, undefined, 2);
    });
    const all = grad(
      [loss.mul(0.25)],
      parameters.map(([, p]) => p),
    );
    return {
      loss: loss.item(),
      gradients: Object.fromEntries(
        parameters.flatMap(([name], i) =>
          all[i] == null ? [] : [[name, Buffer.from(all[i].toBytes()).toString('hex')]],
        ),
      ),
    };
  });
}

const floats = (hex: string): Float32Array =>
  new Float32Array(new Uint8Array(Buffer.from(hex, 'hex')).buffer);

describe.each([false, true])('tied embeddings: %s', (tied) => {
  test('the gradients of one whole backward, under every policy', () => {
    const model = build(tied, () => true);
    const batch = tinyBatch();
    const expected = whole(model, batch);
    for (const policy of POLICIES) {
      const actual = step(model, batch, policy);
      expect(actual.loss).toBeCloseTo(expected.loss, 4);
      expect(Object.keys(actual.gradients).sort()).toEqual(Object.keys(expected.gradients).sort());
      for (const [name, bytes] of Object.entries(actual.gradients)) {
        const [a, b] = [floats(bytes), floats(expected.gradients[name]!)];
        const norm = Math.hypot(...b);
        const distance = Math.hypot(...a.map((value, i) => value - b[i]!));
        // Biases of keys have a gradient of 0, a shift of all scores changes none of them: what is there is rounding of other gradients.
        const floor = name.endsWith('k_proj.bias') ? 5e-8 : 1e-8;
        // One product for several layers adds in another order than one for each.
        expect(distance, name).toBeLessThanOrEqual(2e-6 * norm + floor);
      }
    }
  });
});

test('all policies agree to the bit, with dropout on', () => {
  const model = build(false, (name) => name.includes('lora_'), 0.3);
  const batch = tinyBatch();
  const kept = step(model, batch, 'keep');
  expect(Object.keys(kept.gradients).length).toBeGreaterThan(10);
  for (const policy of POLICIES) expect(step(model, batch, policy), policy).toEqual(kept);
});

/** The same model, whose blocks are differentiated by autograd, over all rows. */
const recorded = (model: Llava): Llava =>
  Object.create(model, {
    segments: { value: model.segments.map(({ byHand: _none, ...segment }) => segment) },
  }) as Llava;

describe.each([
  ['by half', tinySample(1, 20), true],
  ['but for one', { ...tinySample(0, 20), labels: tinySample(0, 20).inputIds }, false],
  ['nowhere', { ...tinySample(1, 9), labels: new Array<number>(13).fill(-100) }, false],
])('a batch that is supervised %s', (_, sample, leavesOut) => {
  test.each([0, 0.3])('the gradients of all rows, with dropout of %d', (dropout) => {
    const model = build(false, (name) => dropout === 0 || name.includes('lora_'), dropout);
    const batch = makeBatch([tinySample(0, 1), sample], model.input);
    const run = vi.spyOn(model.segments.at(-1)!.byHand!, 'forward');
    const expected = step(recorded(model), batch, 'recompute');
    const actual = step(model, batch, 'recompute');
    expect(run).toHaveBeenCalledOnce();
    expect(run.mock.calls[0]![0].wanted?.shape).toEqual(
      leavesOut ? [batch.counts.supervised] : undefined,
    );
    expect(actual.loss).toBeCloseTo(expected.loss!, 4);
    expect(Object.keys(actual.gradients).sort()).toEqual(Object.keys(expected.gradients).sort());
    for (const [name, bytes] of Object.entries(actual.gradients)) {
      const [a, b] = [floats(bytes), floats(expected.gradients[name]!)];
      const distance = Math.hypot(...a.map((value, i) => value - b[i]!));
      expect(distance, name).toBeLessThanOrEqual(1e-6 * Math.hypot(...b) + 5e-8);
    }
  });
});

test('a store that destroys what is released gives the same gradients', () => {
  /** Frees a storage on release (and fills it with NaN before), restores its values on acquire. */
  class NanStore extends AccumulatingStore {
    private readonly values = new Map<Tensor, Tensor>();
    private readonly held = new Map<Tensor, number>();

    constructor(private readonly model: Llava) {
      super(parts(model));
      for (const segment of [...model.segments, model.head])
        this.drop(segment.parameters().values());
    }

    override readonly acquire = (segment: SegmentBase): void => {
      for (const p of segment.parameters().values()) {
        const count = this.held.get(p) ?? 0;
        this.held.set(p, count + 1);
        const value = this.values.get(p);
        if (count > 0 || value === undefined) continue;
        p.resizeStorage(value.bytes).overwrite(value);
      }
    };

    override readonly release = (segment: SegmentBase): void => {
      this.drop(segment.parameters().values());
    };

    private drop(parameters: Iterable<Tensor>): void {
      for (const p of parameters) {
        const count = Math.max(0, (this.held.get(p) ?? 0) - 1);
        this.held.set(p, count);
        if (count > 0) continue;
        if (!this.values.has(p)) this.values.set(p, noGrad(() => p.detach().clone()).keep());
        if (p.storageBytes === 0) continue;
        const nan = scope(() => p.detach().fullLike(NaN));
        p.overwrite(nan).resizeStorage(0);
        nan.dispose();
      }
    }

    restore(): void {
      for (const segment of [...this.model.segments, this.model.head]) this.acquire(segment);
      for (const value of this.values.values()) value.dispose();
    }
  }

  for (const tied of [false, true]) {
    const model = build(tied, () => true);
    const batch = tinyBatch();
    const expected = step(model, batch, 'recompute');
    for (const policy of POLICIES) {
      const store = new NanStore(model);
      const actual = step(model, batch, policy, store);
      store.restore();
      expect(actual).toEqual(expected);
    }
  }
});

test('the calls to the store depend on the recipe, never on the batch, not even on there being one', () => {
  const record = (batch: Batch | null, trains: (name: string) => boolean): string[] => {
    const model = build(false, trains);
    const calls: string[] = [];
    const inner = summing(model);
    const store = Object.assign(Object.create(inner) as AccumulatingStore, {
      acquire: (segment: SegmentBase, phase: string) =>
        void calls.push(`acquire ${segment.name} ${phase}`),
      prefetch: (segment: SegmentBase) => void calls.push(`prefetch ${segment.name}`),
      release: (segment: SegmentBase) => void calls.push(`release ${segment.name}`),
      accept: (segment: SegmentBase, gradients: SegmentGradients) => {
        calls.push(`accept ${segment.name} ${[...gradients.keys()].join()}`);
        inner.accept(segment, gradients);
      },
    });
    step(model, batch, 'recompute', store);
    return calls;
  };
  for (const trains of [() => true, (name: string) => name.includes('projector')]) {
    const calls = record(tinyBatch(), trains);
    expect(calls).toContain('acquire head forward');
    expect(calls).toContain('acquire projector backward');
    expect(record(tinyTextBatch(), trains)).toEqual(calls);
    expect(record(null, trains)).toEqual(calls);
  }
});

test('each visit prepares the next one, across the turn at the head', () => {
  const model = build(false, () => true);
  const visits: string[] = [];
  const announced: string[] = [];
  const store = Object.assign(Object.create(summing(model)) as AccumulatingStore, {
    acquire: (segment: SegmentBase) => void visits.push(segment.name),
    prefetch: (segment: SegmentBase) => void announced.push(segment.name),
  });
  step(model, tinyBatch(), 'keep', store);
  expect(announced).toEqual(visits.slice(1));
});

test('an empty micro-batch has no loss and no gradient', () => {
  const model = build(false, () => true);
  expect(step(model, null, 'keep')).toEqual({ loss: null, gradients: {} });
});

test('no gradient enters a frozen part', () => {
  const model = build(false, (name) => name.includes('multi_modal_projector'));
  const { gradients } = step(model, tinyBatch(), 'keep');
  expect(Object.keys(gradients).every((name) => name.includes('multi_modal_projector'))).toBe(true);
  expect(Object.keys(gradients)).toHaveLength(4);
});

test('a micro-batch that reaches no trainable parameter has no backward, and its loss counts', () => {
  const model = build(false, (name) => name.includes('multi_modal_projector'));
  const { loss, gradients } = step(model, tinyTextBatch(), 'recompute');
  expect(gradients).toEqual({});
  expect(loss).toBeGreaterThan(1);
});

test('nothing leaks, not even when a step is abandoned', () => {
  const model = build(true, () => true);
  const batch = tinyBatch();
  for (const policy of POLICIES) {
    step(model, batch, policy);
    const before = liveTensors();
    step(model, batch, policy);
    expect(liveTensors()).toBe(before);
    const randomness = new Randomness(1);
    const lossFactor = full([], 1, { dtype: 'float32' });
    for (let stop = 1; stop < 14; stop++) {
      const store = summing(model);
      const policies = memoryPolicies(model.segments, { policy });
      const run = runMicroBatch({ model, store, policies, lossFactor, randomness }, batch, 0);
      for (let i = 0; i < stop; i++) run.next();
      run.return(null);
      store.clear();
    }
    lossFactor.dispose();
    expect(liveTensors()).toBe(before);
  }
});
