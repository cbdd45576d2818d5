import { afterEach, describe, expect, test } from 'vitest';
import { pack } from '../../data/loading/pack.js';
import { finish, makeBatch, type Batch, type Llava, type Sample } from '../../models/index.js';
import { Linear } from '../../nn/index.js';
import { AdamW, Gate, LossScale, schedule } from '../../optim/index.js';
import { liveTensors, noGrad, RandomGenerator, tensor, type Tensor } from '../../torch/index.js';
import { AccumulatingStore } from './accumulating-store.js';
import { memoryPolicies } from './memory-policy.js';
import { Randomness } from './randomness.js';
import {
  ghostBatch,
  ghostLlava,
  tinyBatch,
  tinyLlava,
  tinySample,
  tinyTextBatch,
} from './testing.js';
import { UpdateInBackward } from './update-in-backward.js';
import { runUpdate, type UpdateSetup } from './update.js';

const open: { dispose(): void }[] = [];
afterEach(() => {
  for (const item of open.splice(0)) item.dispose();
});

interface More extends Partial<UpdateSetup> {
  clipNorm?: number;
  updateInBackward?: boolean;
  gate?: Gate;
}

function setup(
  model: Llava,
  { clipNorm, updateInBackward = false, gate, ...more }: More = {},
): UpdateSetup {
  if (!model.parameters().some(({ requiresGrad }) => requiresGrad)) {
    RECIPES['all of it']!(model);
  }
  const parameters = new Map([...model.namedParameters()].filter(([, p]) => p.requiresGrad));
  // A large epsilon: Adam would turn the rounding of gradients that are nearly 0 into whole steps.
  const optimizer = new AdamW([{ name: 'all', parameters, learningRate: 1e-2, weightDecay: 0.1 }], {
    eps: 1e-2,
  });
  const randomness = new Randomness(1);
  const parts = { model, optimizer, gate: gate ?? new Gate(more.device ?? 'cpu'), randomness };
  const store = updateInBackward
    ? new UpdateInBackward(parts)
    : new AccumulatingStore({ ...parts, clipNorm });
  open.push(model, store);
  return {
    ...{ model, store },
    device: 'cpu',
    policies: memoryPolicies(model.segments, { policy: 'keep' }),
    schedule: schedule({ shape: 'constant', updates: 100 }),
    randomness,
    ...more,
  };
}

function run(given: UpdateSetup, update: number, batches: readonly (Batch | null)[]) {
  const { numbers, supervised, tensorNames } = finish(runUpdate(given, update, batches));
  const { lossSum, norm, foundInf, tensorNorms } = numbers.read();
  return {
    lossSum: lossSum[0]!,
    gradientNorm: norm[0]!,
    foundInf: [...foundInf],
    norms: new Map(tensorNames.map((name, i) => [name, tensorNorms[i]!])),
    supervised,
  };
}

const bytesOf = (tensors: Iterable<Tensor>): string[] =>
  [...tensors].map((t) => Buffer.from(t.toBytes()).toString('base64'));

function distance({ model: a }: UpdateSetup, { model: b }: UpdateSetup): number {
  const [p, q] = [a, b].map((model) =>
    model.parameters().map((t) => t.toTypedArray() as Float32Array),
  );
  const square = (f: (i: number, j: number) => number) =>
    p!.reduce((sum, values, i) => sum + values.reduce((s, _, j) => s + f(i, j) ** 2, 0), 0);
  return Math.sqrt(square((i, j) => p![i]![j]! - q![i]![j]!) / square((i, j) => q![i]![j]!));
}

test('two micro-batches with other numbers of tokens are one batch of both', () => {
  const [together, apart] = [setup(tinyLlava()), setup(tinyLlava())];
  const samples = [
    tinySample(1, 4),
    tinySample(2, 14, 1),
    tinySample(0, 9, 2),
    tinySample(1, 3, 3),
  ];
  const input = together.model.input;
  const whole = makeBatch(samples, input);
  const parts = [makeBatch(samples.slice(0, 1), input), makeBatch(samples.slice(1), input)];
  for (let update = 0; update < 3; update++) {
    const a = run(together, update, [whole]);
    const b = run(apart, update, parts);
    expect(b.supervised).toBe(a.supervised);
    expect(Math.abs(b.lossSum / a.lossSum - 1)).toBeLessThan(1e-6);
    expect(Math.abs(b.gradientNorm / a.gradientNorm - 1)).toBeLessThan(1e-6);
  }
  expect(distance(together, apart)).toBeLessThan(1e-6);
});

/** A LLaVA whose adapters learn, with dropout in front of them. */
function dropping(dropout = 0.3): UpdateSetup {
  const model = tinyLlava();
  const generator = RandomGenerator.create(2);
  for (const [name, module] of model.namedModules()) {
    if (module instanceof Linear && /layers|projector/.test(name)) {
      const adapter = module.attachAdapter({ rank: 2, alpha: 4, dropout });
      adapter.initialize('cpu', { generator, std: 0.2 });
      noGrad(() => adapter.b.normal_(0, 0.2, { generator }));
    }
  }
  for (const [name, parameter] of model.namedParameters()) {
    parameter.requiresGrad_(name.includes('lora_'));
  }
  generator.dispose();
  return setup(model);
}

test('with dropout an update does not depend on how its records are packed, grouped, ordered or dealt', () => {
  const samples = [
    tinySample(1, 4),
    tinySample(2, 14, 1),
    tinySample(0, 9, 2),
    tinySample(1, 3, 3),
  ].map((sample, position) => ({ ...sample, position }));
  const [a, b, c, d] = samples as [Sample, Sample, Sample, Sample];
  const compositions: Sample[][][] = [
    [[a], [b], [c], [d]],
    [[a, b, c], [d]],
    [
      [c, a],
      [d, b],
    ],
  ];
  const whole = dropping();
  const { input } = whole.model;
  const unplaced = samples.map(({ position: _, ...sample }) => sample);
  const expected = run(whole, 4, [makeBatch(unplaced, input)]);
  for (const composition of compositions) {
    const other = dropping();
    const actual = run(
      other,
      4,
      composition.map((part) => makeBatch(part, input)),
    );
    expect(Math.abs(actual.lossSum / expected.lossSum - 1)).toBeLessThan(1e-6);
    expect(Math.abs(actual.gradientNorm / expected.gradientNorm - 1)).toBeLessThan(1e-5);
    expect(distance(other, whole)).toBeLessThan(1e-6);
  }
  // Other positions and other updates have other masks.
  const swapped = [{ ...a, position: 1 }, { ...b, position: 0 }, c, d];
  for (const [update, batch] of [
    [4, makeBatch(swapped, input)],
    [5, makeBatch(samples, input)],
  ] as const) {
    const { lossSum } = run(dropping(), update, [batch]);
    expect(Math.abs(lossSum / expected.lossSum - 1)).toBeGreaterThan(1e-4);
  }
});

test('an update is the same one by one and packed by tokens and pictures, whatever the budget', () => {
  // Words alone and pictures, many of them too; one of a single token, which has nothing to predict; the longest has 40 tokens.
  const samples = [
    tinySample(6, 16),
    tinySample(0, 1, 1),
    tinySample(0, 9, 2),
    tinySample(1, 3, 3),
    tinySample(0, 1, 4),
    tinySample(2, 14, 5),
    tinySample(1, 30, 6),
  ].map((sample, position) => ({ ...sample, position }));
  const sizes = samples.map(({ inputIds, images }) => ({
    tokens: inputIds.length,
    images: images.length,
  }));
  const single = dropping(0.1);
  const { input } = single.model;
  const alone = samples.map((sample) => makeBatch([sample], input));
  const expected = run(single, 4, alone);
  const numbers = [
    { tokens: 40 },
    { tokens: 64 },
    { tokens: 64, images: 6 },
    { tokens: 1000, images: 6 },
    { tokens: 1000 },
  ].map((budget) => {
    const other = dropping(0.1);
    const packed = pack(sizes, budget).map((places) => places.map((place) => samples[place]!));
    const batches = packed.map((part) => makeBatch(part, input));
    const actual = run(other, 4, batches);
    expect(actual.supervised).toBe(expected.supervised);
    expect(Math.abs(actual.lossSum / expected.lossSum - 1)).toBeLessThan(1e-6);
    expect(Math.abs(actual.gradientNorm / expected.gradientNorm - 1)).toBeLessThan(1e-6);
    expect(distance(other, single)).toBeLessThan(1e-6);
    return batches.length;
  });
  expect(numbers).toEqual([3, 2, 2, 2, 1]);
});

test('the power of two on the losses changes nothing but rounding', () => {
  const [plain, scaled] = [setup(tinyLlava()), setup(tinyLlava(), { power: -9 })];
  const batches = [tinyBatch(), tinyBatch(4)];
  for (let update = 0; update < 2; update++) {
    expect(run(scaled, update, batches)).toMatchObject({
      supervised: run(plain, update, batches).supervised,
    });
  }
  expect(distance(plain, scaled)).toBeLessThan(1e-6);
});

test.each([false, true])('update-in-backward is the plain update (tied embeddings: %s)', (tied) => {
  const [plain, immediate] = [
    setup(tinyLlava({ tied })),
    setup(tinyLlava({ tied }), { updateInBackward: true }),
  ];
  for (let update = 0; update < 3; update++) {
    const a = run(plain, update, [tinyBatch(update)]);
    const b = run(immediate, update, [tinyBatch(update)]);
    expect(b.gradientNorm).toBeCloseTo(a.gradientNorm, 4);
  }
  expect(distance(plain, immediate)).toBeLessThan(1e-6);
});

test('a non-finite update leaves weights, moments and steps to the bit, and backs the loss scale off', () => {
  const lossScale = new LossScale('cpu', { initial: 4, hysteresis: 1 });
  open.push(lossScale);
  const given = setup(tinyLlava(), { lossScale });
  run(given, 0, [tinyBatch()]);
  const norm = given.model.namedParameters().get('model.language_model.norm.weight')!;
  noGrad(() => norm.fill_(Infinity));
  const state = () =>
    bytesOf([...given.model.parameters(), ...given.store.state().map(({ tensor }) => tensor)]);
  const before = state();
  expect(run(given, 1, [tinyBatch()]).foundInf).toEqual([1]);
  expect(state()).toEqual(before);
  expect(lossScale.scale.item()).toBe(2);
});

test('clipping limits the norm that is applied, not the one that is reported', () => {
  const limit = 1e-3;
  const [free, clipped] = [setup(tinyLlava()), setup(tinyLlava(), { clipNorm: limit })];
  const [a, b] = [run(free, 0, [tinyBatch()]), run(clipped, 0, [tinyBatch()])];
  expect(b.gradientNorm).toBe(a.gradientNorm);
  expect(a.gradientNorm).toBeGreaterThan(10 * limit);
  // After one update Adam's first moment is (1 - beta1) times the gradient that was applied.
  const applied = (given: UpdateSetup): number =>
    Math.hypot(
      ...given.store
        .state()
        .filter(({ name }) => name.endsWith('.exp_avg'))
        .flatMap(({ tensor }) => [...(tensor.toTypedArray() as Float32Array)]),
    ) / 0.1;
  expect(applied(free) / a.gradientNorm).toBeCloseTo(1, 4);
  expect(applied(clipped) / limit).toBeCloseTo(1, 4);
});

test.each([false, true])(
  'each tensor has its norm, and they make the global one (update in backward: %s)',
  (updateInBackward) => {
    const given = setup(tinyLlava({ tied: true }), { updateInBackward });
    const { gradientNorm, norms } = run(given, 0, [tinyBatch()]);
    const read = [...given.model.segments, given.model.head].flatMap((segment) => [
      ...segment.parameters().keys(),
    ]);
    expect([...norms.keys()].sort()).toEqual([...new Set(read)].sort());
    expect(Math.hypot(...norms.values()) / gradientNorm).toBeCloseTo(1, 5);
  },
);

test('micro-batches without records change nothing', () => {
  const [plain, padded] = [setup(tinyLlava()), setup(tinyLlava())];
  const a = run(plain, 0, [tinyBatch(), tinyBatch(4)]);
  const b = run(padded, 0, [null, tinyBatch(), null, tinyBatch(4)]);
  expect(b.supervised).toBe(a.supervised);
  expect(b.lossSum).toBe(a.lossSum);
  expect(bytesOf(padded.model.parameters())).toEqual(bytesOf(plain.model.parameters()));
});

test.each([false, true])(
  'a gate that holds lets nothing through after a bad update until it is opened (update in backward: %s)',
  (updateInBackward) => {
    const gate = new Gate('cpu', { holds: true });
    const given = setup(tinyLlava(), { gate, updateInBackward });
    run(given, 0, [tinyBatch()]);
    const norm = given.model.namedParameters().get('model.language_model.norm.weight')!;
    const kept = norm.toTypedArray() as Float32Array;
    noGrad(() => norm.fill_(Infinity));
    run(given, 1, [tinyBatch()]);
    noGrad(() => norm.overwrite(tensor(kept)));
    const state = () =>
      bytesOf([...given.model.parameters(), ...given.store.state().map(({ tensor }) => tensor)]);
    const before = state();
    expect(Math.max(...run(given, 2, [tinyBatch(2)]).foundInf)).toBe(1);
    expect(state()).toEqual(before);
    gate.open();
    expect(Math.max(...run(given, 2, [tinyBatch(2)]).foundInf)).toBe(0);
    expect(state()).not.toEqual(before);
  },
);

test('others add numbers that are read late with those of the update', () => {
  const given = setup(tinyLlava(), {
    measure: ({ tensorNorms }) => ({ largest: noGrad(() => tensorNorms.amax([])) }),
  });
  const { numbers } = finish(runUpdate(given, 0, [tinyBatch()]));
  const read = numbers.read() as Record<string, Float32Array>;
  expect(read['largest']![0]).toBe(Math.max(...read['tensorNorms']!));
});

/** What trains, each on the ghost of a model. */
const RECIPES: Record<string, (model: Llava) => void> = {
  'all of it': (model) => {
    for (const parameter of model.parameters()) parameter.requiresGrad_();
  },
  'LoRA with dropout, and the projector': (model) => {
    for (const [name, module] of model.namedModules()) {
      if (module instanceof Linear && name.includes('layers')) {
        module.attachAdapter({ rank: 2, alpha: 4, dropout: 0.2, dora: name.includes('mlp') });
      }
    }
    for (const [name, parameter] of model.namedParameters()) {
      parameter.requiresGrad_(/lora_|projector/.test(name));
    }
  },
  'the projector': (model) => {
    for (const [name, parameter] of model.namedParameters()) {
      parameter.requiresGrad_(name.includes('projector'));
    }
  },
};

describe('one whole update runs on meta tensors, optimizer included', () => {
  const policies = ['keep', 'recompute', 'offload'] as const;
  test.each(
    Object.keys(RECIPES).flatMap((trains) => policies.map((policy) => [trains, policy] as const)),
  )('%s, %s: pictures, mixed, text alone', (trains, policy) => {
    const [pictures, text] = [ghostBatch(tinyBatch()), ghostBatch(tinyTextBatch())];
    for (const batches of [[pictures], [pictures, text], [text]]) {
      const model = ghostLlava();
      RECIPES[trains]!(model);
      const given = setup(model, {
        policies: memoryPolicies(model.segments, { policy }),
        device: 'meta',
        clipNorm: 1,
      });
      finish(runUpdate(given, 0, batches)).numbers.dispose();
    }
  });
});

test('the tokens of a micro-batch that reaches nothing that trains count', () => {
  const [alone, both] = [tinyLlava(), tinyLlava()].map((model) => {
    RECIPES['the projector']!(model);
    return setup(model);
  });
  const [pictures, text] = [tinyBatch(), tinyTextBatch()];
  const a = run(alone!, 0, [pictures]);
  const b = run(both!, 0, [pictures, text]);
  const [tokens, more] = [pictures.counts.supervised, text.counts.supervised];
  expect(b.supervised).toBe(tokens + more);
  expect(b.lossSum).toBeGreaterThan(a.lossSum);
  const ratio = b.gradientNorm / (a.gradientNorm * (tokens / (tokens + more)));
  expect(Math.abs(ratio - 1)).toBeLessThan(1e-6);
});

test('nothing leaks', () => {
  const given = setup(tinyLlava());
  const batches = [tinyBatch(), tinyTextBatch()];
  run(given, 0, batches);
  const before = liveTensors();
  run(given, 1, batches);
  expect(liveTensors()).toBe(before);
});
