/** The measurement of `bench/host.ts`: micro-batches of one update on meta tensors. */
import { finish, type Batch, Llava, makeBatch, TextModel } from '../src/models/index.js';
import { AdamW, Gate } from '../src/optim/index.js';
import { full, hold, noGrad, RandomGenerator, scope, Tensor } from '../src/torch/index.js';
import { prepareTrainable } from '../src/train/prepare/trainable.js';
import { AccumulatingStore } from '../src/train/step/accumulating-store.js';
import { memoryPolicies } from '../src/train/step/memory-policy.js';
import { Randomness } from '../src/train/step/randomness.js';
import { runMicroBatch, trainableIn } from '../src/train/step/step.js';
import { type Case, readCases, samplesOf } from './cases.js';
import { llava15, llava8b } from './shapes.js';
import { readModes, readPolicies, recipeOf } from './training-row.js';

export interface HostOptions {
  readonly case: string;
  readonly mode: string;
  readonly policy: string;
  readonly dropout: number;
  readonly layers: number;
  readonly rounds: number;
  /** Before what is measured. */
  readonly begin: () => void;
}

const BUILD = { dtype: 'bfloat16', kernels: { attention: 'cudnn', patches: 'product' } } as const;

export interface HostRow {
  /** Of a micro-batch, by the clock. */
  readonly medianMs: number;
  readonly leastMs: number;
  /** Of the processor, garbage collection included: what other programs on the machine do not change much. */
  readonly processorMs: number;
}

export function measureHost(options: HostOptions): HostRow {
  const { dropout, layers, rounds, begin } = options;
  const [of] = readCases(options.case);
  const [mode] = readModes(options.mode);
  const [policy] = readPolicies(options.policy);
  const device = 'meta';
  const shape = of!.shape === 'vicuna' ? llava15 : llava8b;
  const config = shape({ layers });
  const model = of!.isText ? new TextModel(config.text, BUILD) : new Llava(config, BUILD);
  using generator = RandomGenerator.create(1);
  const trained = { ...recipeOf(mode!, dropout), dtype: BUILD.dtype, device, generator } as const;
  prepareTrainable(model, trained);
  const randomness = new Randomness(1);
  const store = new AccumulatingStore({
    model,
    optimizer: new AdamW([]),
    gate: new Gate('cpu'),
    randomness,
  });
  using held = hold(() => ({
    batch: ghost(of!, model.input),
    lossFactor: full([], 1, { dtype: 'float32', device }),
    tokens: full([], 1, { dtype: 'float32', device }),
  }));
  const { batch, lossFactor, tokens } = held.value;
  const policies = memoryPolicies(model.segments, { policy: policy! });
  const trainable = trainableIn(model);
  const step = { model, store, policies, lossFactor, randomness, trainable };
  const facts = { update: 0, microBatches: 16, scheduleFactor: 1, pictures: batch.images !== null };
  const times: number[] = [];
  let before = process.cpuUsage();
  for (let round = -3; round < rounds; round++) {
    if (round === 0) {
      begin();
      before = process.cpuUsage();
    }
    store.begin({ ...facts, tokens, lossFactor });
    const start = performance.now();
    finish(runMicroBatch(step, batch, 0))?.dispose();
    if (round >= 0) times.push(performance.now() - start);
  }
  const { user, system } = process.cpuUsage(before);
  store.clear();
  model.dispose();
  times.sort((a, b) => a - b);
  return {
    medianMs: times[Math.floor(rounds / 2)]!,
    leastMs: times[0]!,
    processorMs: (user + system) / 1000 / rounds,
  };
}

/** The first micro-batch of a case, without its values. */
function ghost(of: Case, input: Llava['input']): Batch {
  return scope(() => asGhost(makeBatch(samplesOf(of.updates[0]![0]!, input), input)));
}

/** A value with its tensors on meta. */
function asGhost<T>(value: T): T {
  if (value instanceof Tensor) return noGrad(() => value.to('meta')) as T;
  if (Array.isArray(value) || typeof value !== 'object' || value === null) return value;
  return Object.fromEntries(Object.entries(value).map(([key, each]) => [key, asGhost(each)])) as T;
}
