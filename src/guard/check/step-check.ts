/**
 * A few records through the model as it will train: the loss against what a model of its kind begins with, the largest activations
 * against fp16's range, and their gradients. Nothing is kept.
 */
import { OutOfMemoryError, PatinaError, UsageError } from '../../base/errors.js';
import { formatCount } from '../../base/format.js';
import type { HubEvent } from '../../base/hub/resolve.js';
import type { Recipe } from '../../config/index.js';
import type { LoadedSample } from '../../data/index.js';
import { drive, forward, makeBatch } from '../../models/index.js';
import { probe, type ProbedCall } from '../../nn/index.js';
import { hold, noGrad, scope, stack, Tensor, torchFacts } from '../../torch/index.js';
import { prepareRun, type PreparedRun } from '../../train/prepare/prepare-run.js';
import { Ranks } from '../../train/run/ranks.js';
import { finding, type Finding } from './finding.js';
import { gradientFindings } from './gradient-check.js';
import { isVisual, type ModelTraits } from './open-hollow.js';

interface StepCheck {
  readonly findings: readonly Finding[];
  readonly notChecked: readonly string[];
  /** Mean loss of the learned tokens; `null` where it was not computed. */
  readonly loss: number | null;
}

interface StepCheckOptions {
  readonly traits: ModelTraits;
  /** Whether the recipe trains; without it the loss is all. */
  readonly training: boolean;
  /** On the CPU where there is no GPU, and gradients of many parameters too. @default false */
  readonly deep?: boolean | undefined;
  readonly changedBase?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onDownload?: ((event: HubEvent) => void) | undefined;
}

/** Records that are taken, of so many that are looked at. */
const TAKEN = 4;
const LOOKED_AT = 32;
/** Trained parameters whose gradients and optimizer are no matter on any device. */
const FEW = 2e8;

/** What is found where the records do not run: a recipe that cannot be followed, or the reason why they were not tried. */
export async function checkStep(recipe: Recipe, options: StepCheckOptions): Promise<StepCheck> {
  const reason = whyNotHere(recipe, options);
  if (reason !== undefined)
    return { findings: [], notChecked: [`loss and gradients: ${reason}`], loss: null };
  const device = hasGpu() ? recipe.device : 'cpu';
  try {
    return await runStep({ ...recipe, device }, options);
  } catch (error) {
    if (!(error instanceof PatinaError) || options.signal?.aborted === true) throw error;
    const { code, message, hint } = error;
    if (error instanceof UsageError) {
      const refused = finding('unknown', { code, message: message.replace(/\.$/, ''), fix: hint });
      return { findings: [refused], notChecked: [], loss: null };
    }
    return { findings: [], notChecked: [`loss and gradients: ${message} [${code}]`], loss: null };
  }
}

/** Parameters of a model that a CPU computes in moments. */
const SMALL = 1e9;

function whyNotHere(
  { device }: Recipe,
  { deep = false, traits: { parameters } }: StepCheckOptions,
): string | undefined {
  if (deep || hasGpu() || device === 'cpu') return undefined;
  if (device !== 'auto')
    return `there is no GPU here to train on (${device}); --deep runs them on the CPU`;
  if (parameters <= SMALL) return undefined;
  return `${formatCount(parameters)} parameters take the CPU long; --deep runs them`;
}

function hasGpu(): boolean {
  return (torchFacts().cuda?.devices.length ?? 0) > 0;
}

async function runStep(recipe: Recipe, options: StepCheckOptions): Promise<StepCheck> {
  const { traits, training, deep = false, ...opening } = options;
  const steps = prepareRun(trial(recipe), { ...opening, ranks: new Ranks(), groups: null });
  let state = await steps.next();
  while (state.done !== true) state = await steps.next();
  const prepared = state.value;
  try {
    const samples = await someSamples(prepared, opening.signal);
    if (samples.length === 0) {
      const notChecked = ['loss and gradients: none of the first records can be trained on'];
      return { findings: [], notChecked, loss: null };
    }
    const { loss, largest } = await look(prepared, samples);
    const findings = [
      ...lossFindings(loss, traits, samples),
      ...rangeFindings(recipe, prepared, largest),
    ];
    const notChecked: string[] = [];
    const trained = prepared.start.parameters.trained;
    if (!training) return { findings, notChecked, loss };
    if (!Number.isFinite(loss)) notChecked.push('gradients: the loss is not finite');
    else if (trained > FEW && !deep)
      notChecked.push(`gradients of ${formatCount(trained)} parameters (--deep)`);
    else {
      try {
        findings.push(...(await gradientFindings(trial(recipe), prepared, samples)));
      } catch (error) {
        if (!(error instanceof OutOfMemoryError)) throw error;
        notChecked.push(`gradients: ${prepared.device.name} has no room for them here`);
      }
    }
    return { findings, notChecked, loss };
  } finally {
    await prepared.close();
  }
}

/** The recipe on one device, record by record. */
function trial(recipe: Recipe): Recipe {
  const { data, text, parallel, optimizer } = recipe;
  return {
    ...recipe,
    data: {
      ...data,
      sources: data.sources.map((each) => ({
        ...each,
        limit: Math.min(LOOKED_AT, each.limit ?? LOOKED_AT),
      })),
      ...{ limit: undefined, grouping: 'none', workers: 0, badRecords: 'skip' },
    },
    text: { ...text, overlong: text.overlong === 'truncate' ? 'truncate' : 'skip' },
    ...{
      validation: undefined,
      effectiveBatch: undefined,
      batchTokens: undefined,
      batchImages: undefined,
    },
    ...{ batchSize: 1, accumulate: 1 },
    parallel: { ...parallel, zero: 0, offload: 'none' },
    // An epsilon that is 0 in its type spoils weights even at a learning rate of 0.
    optimizer: { ...optimizer, updateInBackward: false, epsilon: 1e-8 },
  };
}

/** Records with pictures and without, where there are both. */
async function someSamples(
  { data }: PreparedRun,
  signal: AbortSignal | undefined,
): Promise<LoadedSample[]> {
  const all: LoadedSample[] = [];
  const count = Math.min(LOOKED_AT, data.recordsPerEpoch);
  for await (const update of data.updates({ batchSize: 1, accumulate: 1, count, signal })) {
    all.push(...update.microBatches.flatMap(({ samples }) => samples));
  }
  const [pictures, texts] = [all.filter(hasPicture), all.filter((each) => !hasPicture(each))];
  const half = TAKEN / 2;
  const first = [...pictures.slice(0, half), ...texts.slice(0, half)];
  const rest = [...pictures.slice(half), ...texts.slice(half)];
  return [...first, ...rest.slice(0, TAKEN - first.length)].map((sample, position) => ({
    ...sample,
    position,
  }));
}

const hasPicture = ({ images }: LoadedSample): boolean => images.length > 0;

type Part = 'vision' | 'decoder';

interface Largest {
  readonly part: Part;
  readonly module: string;
  /** NaN where anything is. */
  readonly value: number;
}

/** The mean loss, and the largest activation of each module. */
async function look(
  { opened: { model }, device }: PreparedRun,
  samples: readonly LoadedSample[],
): Promise<{ loss: number; largest: readonly Largest[] }> {
  const seen: { module: string; value: Tensor }[] = [];
  const watch = ({ name, run }: ProbedCall): unknown => {
    const result = run();
    if (result instanceof Tensor && result.numel > 0) {
      const value = noGrad(() => scope(() => result.abs().amax([]).to('float32').keep()));
      seen.push({ module: name, value });
    }
    return result;
  };
  const { device: at } = device;
  using batch = hold(() => noGrad(() => makeBatch(samples, model.input, { device: at })));
  try {
    using _ = probe(model.namedModules(), watch);
    using inputs = hold(() => noGrad(() => model.inputs(batch.value)));
    using last = await drive(forward(model, inputs.value));
    const { supervised, counts } = batch.value;
    const losses = noGrad(() =>
      scope(() => model.head.losses(last, supervised).losses.sum(null).item()),
    );
    const values =
      seen.length === 0
        ? new Float32Array()
        : scope(() => stack(seen.map(({ value }) => value)).toTypedArray() as Float32Array);
    const largest = seen.map(({ module }, i): Largest => ({
      ...{ module, part: partOf(module), value: values[i]! },
    }));
    return { loss: losses / counts.supervised, largest };
  } finally {
    for (const { value } of seen) value.dispose();
  }
}

function partOf(name: string): Part {
  return isVisual({ name }) ? 'vision' : 'decoder';
}

/** A model that knows nothing loses ln V a token; one that bets on the wrong token loses more. */
function lossFindings(
  loss: number,
  { vocabSize, parameters, isNew }: ModelTraits,
  samples: readonly LoadedSample[],
): Finding[] {
  const guessing = Math.log(vocabSize);
  const most = isNew ? 1.5 * guessing + 0.5 : 1.3 * guessing + 0.5;
  // Small models with random weights are made for trials; none of this size is.
  const knows = !isNew && parameters > 1e8;
  if (loss <= (knows ? 0.8 * guessing : most)) return [];
  const { file, record, line } = samples[0]!.place;
  const value = Number.isFinite(loss) ? String(Number(loss.toPrecision(3))) : 'not finite';
  return [
    {
      ...finding('start-loss-out-of-band', {
        code: Number.isFinite(loss) ? 'start-loss' : 'start-loss-not-finite',
        message: `the loss of the first records is ${value} a token; guessing among ${vocabSize} tokens costs ${guessing.toPrecision(3)}: weights, tokenizer and template do not belong together, or some weights are not those of the model`,
        fix: 'Ask the model a question (`patina chat`), and look at a record as it sees it (`patina show --model`).',
      }),
      ...{ source: file, line, id: samples[0]!.id },
      places: [{ source: file, line, record, id: samples[0]!.id, message: `loss ${value}` }],
    },
  ];
}

const HALF_MAX = 65_504;

/** Where a run computes in fp16, or would on a device that has it. */
function rangeFindings(
  recipe: Recipe,
  { precision }: PreparedRun,
  largest: readonly Largest[],
): Finding[] {
  if (recipe.precision.compute !== 'fp16' && precision.compute !== 'float16') return [];
  // What is large in the tower is so in the decoder behind it.
  return (['vision', 'decoder'] as const).flatMap((part) => {
    const over = largest.find((each) => each.part === part && !(each.value <= HALF_MAX / 2));
    if (over === undefined) return [];
    const value = Number.isFinite(over.value) ? over.value.toPrecision(3) : 'infinite';
    return [
      finding(part === 'decoder' ? 'fp16-overflow-decoder' : 'fp16-overflow-vision', {
        code: 'activations',
        message: `activations of ${over.module} come to ${value} with a few records; fp16 ends at ${HALF_MAX}`,
        fix: '--set precision.compute=bf16 (fp32 where the device has no bf16)',
      }),
    ];
  });
}
