/**
 * Training against transformers and peft: the loss, gradient norm and learning rate of each update, and the weights after the last,
 * for full training, projector, decoder and adapters. Any folder of the shape of `test/fixtures/llava/llama3`; learning rates and
 * settings are those of its facts, where they say them. `--out DIR` writes all of it, and needs none of the answers.
 *
 * `--ranks N --zero S` trains on N processes of this machine, the records of each micro-batch dealt over them (one rank or the other may
 * have none), and holds the same references with the same tolerances; `--accumulate` lets each rank take its records one at a time,
 * `--offload optimizer|parameters` keeps these in host memory, `--shard-over M` shards among M neighbouring ranks and replicates across,
 * and `--keep-gathered` keeps the weights of stage 3 gathered until their backward.
 *
 * `--policy keep|products|attention|recompute|offload` says what segments keep between forward and backward (`keep`); `--device cuda`
 * trains on a GPU; `--packed` says of each micro-batch that all of its records lie in one row, as batches are always made.
 * Ranks do without these two.
 */

import { existsSync } from 'node:fs';
import { mkdir, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { z } from 'zod';

import { DataError, UsageError } from '../src/base/errors.js';
import { peftName } from '../src/formats/layouts/adapter-names.js';
import { partOf } from '../src/formats/layouts/rename.js';
import { LLAVA_PREFIXES } from '../src/formats/layouts/tables.js';
import {
  drive,
  laySideBySide,
  type Llava,
  loadLlava,
  makeBatch,
  readTensorFile,
  writeTensorFile,
} from '../src/models/index.js';
import { AdamW, Gate, schedule } from '../src/optim/index.js';
import { scope, scopeAsync, setThreads, type Tensor } from '../src/torch/index.js';
import { AccumulatingStore } from '../src/train/step/accumulating-store.js';
import { memoryPolicies } from '../src/train/step/memory-policy.js';
import { Randomness } from '../src/train/step/randomness.js';
import { factsOf, runUpdate } from '../src/train/step/update.js';
import { parityArguments } from './arguments.js';
import {
  COMPUTE_OPTIONS,
  computeChoice,
  type ComputeChoice,
  sayPacked,
} from './compute-options.js';
import { maybe, readFacts } from './facts.js';
import {
  batchOf,
  disposeAll,
  type LlavaFolder,
  microBatchCount,
  readLlavaFolder,
  samplesOf,
} from './llava-folder.js';
import {
  dealSamples,
  joinRanks,
  RANK_OPTIONS,
  type Ranks,
  shardedStore,
  speaks,
  usesRanks,
} from './ranks.js';
import { Report } from './report.js';

const settingsShape = z.object({
  updates: z.number().int().positive().default(50),
  warmup_updates: z.number().int().min(0).default(5),
  accumulate: z.number().int().positive().default(2),
  clip: z.number().nullable().default(1),
  /** Of parameters with two dimensions and more; the words behind the number say so. */
  weight_decay: z
    .union([z.number(), z.string().regex(/^\d/).transform(Number.parseFloat)])
    .default(0.05),
  betas: z.tuple([z.number(), z.number()]).default([0.9, 0.999]),
  eps: z.number().default(1e-8),
});

const runShape = z.object({
  lr: maybe(z.number()),
  losses: maybe(z.array(z.number())),
  gradient_norms: maybe(z.array(z.number())),
  learning_rates: maybe(z.array(z.number())),
  noise_final_relative: maybe(z.number()),
});

const factsShape = z.object({
  trajectories: maybe(
    z.object({ settings: maybe(settingsShape), runs: maybe(z.record(z.string(), runShape)) }),
  ),
});

type Settings = z.infer<typeof settingsShape>;
type Expected = z.infer<typeof runShape>;

interface Run {
  readonly name: string;
  /** Where the facts give none. */
  readonly learningRate: number;
  readonly trains: (parameter: string) => boolean;
  /** Folder of the adapter that it starts from. */
  readonly adapter?: string;
  /** Where the reference keeps its last weights. */
  readonly final?: string;
  /** Of the loss. */
  readonly lossTolerance: number;
}

const isProjector = (name: string): boolean => partOf(name, LLAVA_PREFIXES) === 'projector';
const isAdapted = (name: string): boolean => name.includes('.lora_') || isProjector(name);

const RUNS: readonly Run[] = [
  {
    name: 'full',
    learningRate: 2e-3,
    trains: () => true,
    final: 'final-full.safetensors',
    lossTolerance: 1e-4,
  },
  {
    name: 'projector',
    learningRate: 5e-3,
    trains: isProjector,
    final: 'final-projector.safetensors',
    lossTolerance: 2e-5,
  },
  {
    name: 'decoder',
    learningRate: 2e-3,
    trains: (name) => !name.includes('vision_tower'),
    lossTolerance: 2e-5,
  },
  ...['lora', 'rslora-dora'].map((name) => ({
    name,
    learningRate: 2e-3,
    trains: isAdapted,
    adapter: `adapter-${name}-start`,
    final: `adapter-${name}-final/adapter_model.safetensors`,
    lossTolerance: 2e-5,
  })),
];

/** Losses are compared with respect to at least this. */
const LEAST_LOSS = 0.1;
const NORM_TOLERANCE = 1e-3;
/** Final weights, in relative norm: at least this, or so many times the reference's own noise. */
const FINAL_TOLERANCE = 1e-5;
const FINAL_NOISE_FACTOR = 10;

interface Trajectory {
  readonly losses: number[];
  readonly gradient_norms: number[];
  readonly learning_rates: number[];
}

export function run(argv: string[]): Promise<boolean> {
  return scopeAsync(() => runTrain(argv));
}

async function runTrain(argv: string[]): Promise<boolean> {
  const { path, values } = parityArguments(argv, 'train', {
    out: { type: 'string' },
    ...COMPUTE_OPTIONS,
    ...RANK_OPTIONS,
  });
  const compute = computeChoice('train', values);
  const alone = compute.packed ? '--packed' : compute.device === 'cpu' ? undefined : '--device';
  if (alone !== undefined && usesRanks(values)) {
    throw new UsageError(`parity train cannot run with ${alone} over ranks.`, {
      code: 'E_USAGE',
      hint: 'Leave the options of ranks out: they deal the records of a micro-batch, on the CPU.',
    });
  }
  const ranks = await joinRanks(argv, values);
  if (ranks === 'done') return true;
  if (ranks === 'failed') return false;
  try {
    return await compare(path, { out: values.out, ranks, ...compute });
  } finally {
    await ranks?.world.close();
  }
}

interface Choice extends ComputeChoice {
  readonly out: string | undefined;
  readonly ranks: Ranks | undefined;
}

async function compare(path: string, choice: Choice): Promise<boolean> {
  const { out, ranks } = choice;
  // As the reference: more threads only wait for each other over tensors of this size.
  setThreads(1);
  using folder = await readLlavaFolder(path);
  const facts = (await readFacts(path, factsShape)) ?? { trajectories: undefined };
  const settings = facts.trajectories?.settings ?? settingsShape.parse({});
  const report = new Report();
  const trajectories: Record<string, Trajectory> = {};
  const finals = new Map<string, Map<string, Tensor>>();
  const runs = RUNS.filter(({ name, adapter }) => {
    const there = adapter === undefined || existsSync(join(path, adapter));
    if (!there) console.log(`${name}: ${adapter} is not there: not run.`);
    return there;
  });
  for (const known of runs) {
    const { lr = known.learningRate } = facts.trajectories?.runs?.[known.name] ?? {};
    const each = { ...known, learningRate: lr };
    const { trajectory, final } = await train(folder, each, settings, {
      ...choice,
      packed: choice.packed && known === runs[0],
    });
    trajectories[each.name] = trajectory;
    if (each.final !== undefined) finals.set(each.name, final);
    if (out !== undefined && speaks(ranks)) await write(out, trajectories, each, final);
  }
  if (!speaks(ranks)) return true;
  for (const each of runs) {
    const expected = facts.trajectories?.runs?.[each.name];
    compareTrajectory(report, each, trajectories[each.name]!, expected);
    const final = finals.get(each.name);
    if (final !== undefined) await compareFinal(report, path, each, final, expected);
  }
  // Without answers there is nothing to hold it against, and what was asked for is written.
  return report.print({ mayBeEmpty: out !== undefined });
}

/** One run from its start to its last update. */
async function train(
  folder: LlavaFolder,
  { learningRate, trains, adapter }: Run,
  settings: Settings,
  { device, policy, packed, ranks }: Choice,
): Promise<{ trajectory: Trajectory; final: Map<string, Tensor> }> {
  const adapters = adapter === undefined ? [] : [join(folder.path, adapter)];
  const { model } = await loadLlava(join(folder.path, 'hf'), {
    device,
    dtype: 'float32',
    adapters,
  });
  laySideBySide(model);
  const chosen = [...model.namedParameters()].filter(([name]) => trains(name));
  for (const [, parameter] of chosen) parameter.requiresGrad_();
  const group = (name: string, decays: boolean) => ({
    name,
    parameters: new Map(chosen.filter(([, tensor]) => tensor.ndim > 1 === decays)),
    learningRate,
    weightDecay: decays ? settings.weight_decay : 0,
  });
  const groups = [group('matrices', true), group('vectors', false)];
  const randomness = new Randomness(0);
  const { updates, warmup_updates: warmup, accumulate } = settings;
  const rates = schedule({ updates, warmup });
  const parts = { gate: new Gate(device), randomness, clipNorm: settings.clip };
  const store =
    ranks === undefined
      ? new AccumulatingStore({ model, optimizer: new AdamW(groups, settings), ...parts })
      : await shardedStore(model, groups, settings, ranks, parts);
  const setup = {
    ...{ model, device, store, randomness },
    policies: memoryPolicies(model.segments, { policy }),
    schedule: rates,
  };
  const dealt = microBatches(folder, model, { device, ranks });
  if (packed) for (const [i, { whole }] of dealt.entries()) sayPacked(i, whole);
  const trajectory: Trajectory = { losses: [], gradient_norms: [], learning_rates: [] };
  for (let update = 0; update < updates; update++) {
    const own = Array.from(
      { length: accumulate },
      (_, k) => dealt[(update * accumulate + k) % dealt.length]!,
    );
    const facts = {
      supervised: own.reduce((sum, { facts: { supervised } }) => sum + supervised, 0),
      pictures: own.some(({ facts: { pictures } }) => pictures),
    };
    const batches = own.flatMap((each) => each.batches);
    const { numbers } = await drive(runUpdate(setup, update, batches, facts));
    const { lossSum, norm } = numbers.read();
    trajectory.losses.push(lossSum[0]! / facts.supervised);
    trajectory.gradient_norms.push(norm[0]!);
    trajectory.learning_rates.push(learningRate * rates(update));
  }
  await store.settle();
  for (const segment of [...model.segments, model.head]) await store.acquire(segment, 'forward');
  const trained = new Set(chosen.map(([name]) => name));
  const rename = (name: string): string => (adapter === undefined ? name : peftName(name));
  const final = new Map(
    [...model.namedParameters()]
      .filter(([name]) => trained.has(name))
      .map(([name, tensor]) => [
        rename(name),
        scope(() => tensor.detach().clone().to({ device: 'cpu' })),
      ]),
  );
  setup.store.dispose();
  model.dispose();
  return { trajectory, final };
}

/** What of each micro-batch is this rank's, and what it is as a whole. */
function microBatches(
  folder: LlavaFolder,
  model: Llava,
  { device, ranks }: Pick<Choice, 'device' | 'ranks'>,
) {
  return Array.from({ length: microBatchCount(folder) }, (_, i) => {
    const samples = samplesOf(folder, i, model.input);
    const whole = batchOf(folder, i, model.input, device);
    const facts = factsOf([whole]);
    if (ranks === undefined) return { whole, batches: [whole], facts };
    const shares = dealSamples(samples, ranks);
    return {
      ...{ whole, facts },
      batches: shares.map((share) => (share.length === 0 ? null : makeBatch(share, model.input))),
    };
  });
}

async function write(
  out: string,
  trajectories: Readonly<Record<string, Trajectory>>,
  { final: file }: Run,
  final: ReadonlyMap<string, Tensor>,
): Promise<void> {
  await mkdir(out, { recursive: true });
  await writeFile(join(out, 'trajectories.json'), `${JSON.stringify(trajectories, null, 1)}\n`);
  if (file === undefined) return;
  const target = join(out, file);
  await mkdir(dirname(target), { recursive: true });
  await rm(target, { force: true });
  await writeTensorFile(target, new Map(final));
}

function compareTrajectory(
  report: Report,
  { name, lossTolerance }: Run,
  actual: Trajectory,
  expected: Expected | undefined,
): void {
  const worst = (
    values: readonly number[],
    answers: readonly number[],
    scale: (answer: number) => number,
  ) =>
    values.length === answers.length
      ? Math.max(...values.map((value, i) => Math.abs(value - answers[i]!) / scale(answers[i]!)))
      : NaN;
  const { losses, gradient_norms: norms, learning_rates: rates } = expected ?? {};
  for (const [what, answers] of [
    ['losses', losses],
    ['gradient norms', norms],
    ['learning rates', rates],
  ] as const) {
    if (answers === undefined) console.log(`${name}: the ${what} are not there: not compared.`);
  }
  if (losses !== undefined) {
    const error = worst(actual.losses, losses, (answer) => Math.max(answer, LEAST_LOSS));
    report.add({ quantity: `${name}: losses`, error, tolerance: lossTolerance });
  }
  if (norms !== undefined) {
    const error = worst(actual.gradient_norms, norms, (answer) => answer);
    report.add({ quantity: `${name}: gradient norms`, error, tolerance: NORM_TOLERANCE });
  }
  if (rates !== undefined) {
    const error = worst(actual.learning_rates, rates, () => 1);
    report.add({ quantity: `${name}: learning rates`, error, tolerance: 1e-12 });
  }
}

async function compareFinal(
  report: Report,
  path: string,
  { name, final: file }: Run,
  actual: ReadonlyMap<string, Tensor>,
  expected: Expected | undefined,
): Promise<void> {
  let answers: ReadonlyMap<string, Tensor>;
  try {
    answers = await readTensorFile(join(path, file!));
  } catch (error) {
    if (!(error instanceof DataError) || error.code !== 'E_FILE_MISSING') throw error;
    console.log(`${file!} is not there: not compared.`);
    return;
  }
  const missing = [...answers.keys()].filter((each) => !actual.has(each));
  const error =
    missing.length > 0
      ? NaN
      : scope(() => {
          const distance = [...answers].map(([each, answer]) =>
            actual.get(each)!.sub(answer).linalgVectorNorm(2).item(),
          );
          const norms = [...answers.values()].map((answer) => answer.linalgVectorNorm(2).item());
          return Math.hypot(...distance) / Math.hypot(...norms);
        });
  disposeAll(answers);
  const tolerance = Math.max(
    FINAL_TOLERANCE,
    FINAL_NOISE_FACTOR * (expected?.noise_final_relative ?? 0),
  );
  const note = missing.length > 0 ? `${missing.length} are not there, such as ${missing[0]!}` : '';
  report.add({ quantity: `${name}: final weights`, error, tolerance, note });
}
