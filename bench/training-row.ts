/** One row of `bench/train.ts`: updates of a case in one mode and at one memory policy, timed, with nothing left behind. */
import { UsageError } from '../src/base/errors.js';
import { median } from '../src/base/median.js';
import { checkRecipe, type Recipe } from '../src/config/index.js';
import {
  type Batch,
  finish,
  type LanguageModel,
  Llava,
  type LlavaConfig,
  makeBatch,
  TextModel,
} from '../src/models/index.js';
import { Fp8Form, kernelsFor, linearsOf, Nf4, type QuantisedForm } from '../src/nn/index.js';
import { AdamW, Gate, schedule, type StateType } from '../src/optim/index.js';
import {
  emptyCache,
  hold,
  memoryStats,
  noGrad,
  RandomGenerator,
  resetPeak,
  scope,
  type Device,
  type DType,
  type Tensor,
} from '../src/torch/index.js';
import { prepareTrainable } from '../src/train/prepare/trainable.js';
import { AccumulatingStore } from '../src/train/step/accumulating-store.js';
import { memoryPolicies, type MemoryPolicy } from '../src/train/step/memory-policy.js';
import { Randomness } from '../src/train/step/randomness.js';
import { UpdateInBackward } from '../src/train/step/update-in-backward.js';
import { updateRange } from '../src/train/profile/ranges.js';
import { runUpdate, type UpdateResult } from '../src/train/step/update.js';
import { type Case, samplesOf } from './cases.js';
import { namesOf } from './command.js';

/** What trains, and what Adam keeps: moments in the weights' type, or masters and moments in fp32 beside them. */
const MODES = {
  lora: {},
  projector: {},
  full: {},
  'full-ub': { inBackward: true },
  'full-fp32': { master: 'float32' },
  'full-fp32-ub': { master: 'float32', inBackward: true },
  'full-stochastic': { master: 'stochastic' },
  'full-stochastic-ub': { master: 'stochastic', inBackward: true },
} as const satisfies Record<string, ModeFacts>;

interface ModeFacts {
  readonly master?: 'float32' | 'stochastic';
  readonly inBackward?: true;
}

export type Mode = keyof typeof MODES;

const POLICIES = ['keep', 'products', 'attention', 'recompute', 'offload'] as const;

/** @throws UsageError `E_USAGE` for a mode that there is not */
export function readModes(names: string): Mode[] {
  return namesOf('mode', names, Object.keys(MODES) as Mode[]);
}

/** @throws UsageError `E_USAGE` for a policy that there is not */
export function readPolicies(names: string): MemoryPolicy[] {
  return namesOf('policy', names, POLICIES);
}

/** What the frozen matrices of the decoder's blocks are held in. */
const BASES = ['bf16', 'nf4', 'fp8'] as const;
export type Base = (typeof BASES)[number];

/** @throws UsageError `E_USAGE` for a base that there is not */
export function readBases(names: string): Base[] {
  return namesOf('base', names, BASES);
}

/** What Adam's moments may be kept in; `mode`: as the mode has them. */
const STATES = ['mode', 'float32', 'bfloat16', 'int8'] as const;
export type States = (typeof STATES)[number];

/** @throws UsageError `E_USAGE` for a type of states that there is not */
export function readStates(names: string): States[] {
  return namesOf('type of states', names, STATES);
}

export interface CaseOptions {
  readonly of: Case;
  readonly mode: Mode;
  /** @default 'bf16' */
  readonly base?: Base;
  /** @default 'mode' */
  readonly states?: States;
  /** Of the shape that the case wants. */
  readonly config: LlavaConfig;
  readonly device: Device;
  /** Of LoRA. */
  readonly dropout: number;
}

export interface RowOptions extends CaseOptions {
  readonly policy: MemoryPolicy;
  /** Decoder blocks, from the last, that keep `products`. @default 0 */
  readonly products?: number;
  /** Updates that are timed, at least; all of the case's as often as that takes. */
  readonly steps: number;
  readonly say: (line: string) => void;
  /** Records what it is given: one more round, after those that are timed. @default none */
  readonly record?: ((round: () => void) => void) | undefined;
}

/** Medians over the rounds, each of which does all updates of the case: from the end of one round to that of the next; peaks of the warm-up too. */
export interface TrainingRow {
  readonly case: string;
  readonly mode: Mode;
  readonly base: Base;
  readonly states: StateType;
  readonly policy: MemoryPolicy;
  readonly samplesPerSecond: number;
  readonly tokensPerSecond: number;
  readonly peakGiB: number;
  readonly reservedGiB: number;
  readonly weightsGiB: number;
  /** Of an update. */
  readonly stepMs: number;
  /** Until the host had queued an update; where it is far ahead of the device, it waits for room. */
  readonly queuedMs: number;
  /** Slowest round less the fastest, of the median. */
  readonly spread: number;
  /** Of the last update. */
  readonly loss: number;
}

/** An update whose numbers are still to be read. */
interface Queued {
  readonly round: number;
  readonly last: boolean;
  readonly update: number;
  /** Milliseconds until the host had queued it. */
  readonly until: number;
  readonly outcome: UpdateResult;
}

interface Owned {
  dispose(): void;
}

/** @throws OutOfMemoryError; whatever it throws, what it had made is gone */
export function measureRow(options: RowOptions): TrainingRow {
  const owned: Owned[] = [];
  try {
    return measure(options, (each) => {
      owned.push(each);
      return each;
    });
  } finally {
    for (const each of owned.reverse()) each.dispose();
    emptyCache(options.device);
  }
}

/** Keeps what is to be freed at the end. */
type Own = <T extends Owned>(each: T) => T;

/** What trains, with the batches of all updates on the device. */
export function prepareCase(
  { of, mode, config, device, dropout, base = 'bf16', states: wanted = 'mode' }: CaseOptions,
  own: Own,
) {
  const { master, inBackward }: ModeFacts = MODES[mode];
  if (inBackward && of.updates.some((update) => update.length > 1)) {
    throw new UsageError(`an update of ${of.name} has several micro-batches`, {
      code: 'E_USAGE',
      hint: 'Update in backward takes one.',
    });
  }
  const dtype: DType = device === 'cpu' ? 'float32' : 'bfloat16';
  const build = { dtype, kernels: kernelsFor({ device, dtype }) };
  const model = own(of.isText ? new TextModel(config.text, build) : new Llava(config, build));
  const generator = own(RandomGenerator.create(1, device));
  if (base !== 'bf16') {
    const form = base === 'fp8' ? new Fp8Form() : new Nf4({ doubleQuantised: true, type: dtype });
    quantiseBlocks(model, form, { device, generator });
  }
  const trained = { ...recipeOf(mode, dropout), dtype, device, generator };
  const { groups } = prepareTrainable(model, trained);
  const updates = own(hold(() => placed(of, model, device))).value;
  const ofMode = master === undefined ? dtype : 'float32';
  const states = wanted === 'mode' ? ofMode : wanted;
  const optimizer = new AdamW(groups, { master: master ?? 'none', states });
  return { model, optimizer, updates, states, inBackward };
}

function measure(
  { of, mode, policy, config, device, steps, dropout, say, record, ...more }: RowOptions,
  own: Own,
): TrainingRow {
  const { products = 0, base = 'bf16', states: wanted } = more;
  const chosen = { of, mode, config, device, dropout, base, ...(wanted && { states: wanted }) };
  const { model, optimizer, updates, states, inBackward } = prepareCase(chosen, own);
  const randomness = new Randomness(1);
  const parts = { model, optimizer, gate: new Gate(device), randomness };
  const store = own(inBackward ? new UpdateInBackward(parts) : new AccumulatingStore(parts));
  const rounds = Math.ceil(steps / updates.length);
  const setup = {
    ...{ model, device, store, randomness },
    policies: memoryPolicies(model.segments, { policy, keepBlocks: { decoder: { products } } }),
    schedule: schedule({ shape: 'constant', updates: (rounds + 3) * updates.length }),
  };
  emptyCache(device);
  resetPeak(device);
  const weights = memoryStats(device).allocated;
  const seconds: number[] = [];
  const queued: number[] = [];
  let loss = NaN;
  let [before, roundBefore] = [performance.now(), NaN];
  // As the trainer does, an update's numbers are read when the next one is queued, so that the device always has work.
  const read = ({ round, last, update, until, outcome }: Queued): void => {
    loss = outcome.numbers.read().lossSum[0]! / outcome.supervised;
    const now = performance.now();
    if (round > 0) queued.push(until);
    if (last && round > 0) seconds.push((now - roundBefore) / 1000);
    if (last) roundBefore = now;
    say(
      `${of.name} ${mode} ${policy} step ${update} loss ${loss.toFixed(4)} s ${((now - before) / 1000).toFixed(4)} queued ${until.toFixed(0)} ms`,
    );
    before = now;
  };
  let late: Queued | undefined;
  try {
    // The first round, which is not timed, meets every shape.
    for (let round = 0; round <= rounds + 1; round++) {
      // Each round ends with an update queued behind it, the last one too.
      const queuedNow = round > rounds ? updates.slice(0, 1) : updates;
      for (const [i, batches] of queuedNow.entries()) {
        const [update, start] = [round * updates.length + i, performance.now()];
        const outcome = finish(runUpdate(setup, update, batches));
        const [until, last] = [performance.now() - start, i === updates.length - 1];
        const own = { round, last, update, until, outcome };
        if (late !== undefined) read(late);
        late = own;
      }
    }
  } finally {
    late?.outcome.numbers.dispose();
  }
  record?.(() => {
    for (const [i, batches] of updates.entries()) {
      const update = (rounds + 2) * updates.length + i;
      using _ = updateRange(update);
      finish(runUpdate(setup, update, batches)).numbers.dispose();
    }
  });
  const { peakAllocated, peakReserved } = memoryStats(device);
  const count = (what: 'sequences' | 'tokens'): number =>
    updates.flat().reduce((sum, { counts }) => sum + counts[what], 0);
  const round = median(seconds);
  return {
    ...{ case: of.name, mode, base, states, policy },
    samplesPerSecond: rounded(count('sequences') / round, 2),
    tokensPerSecond: rounded(count('tokens') / round, 0),
    peakGiB: rounded(peakAllocated / 2 ** 30, 2),
    reservedGiB: rounded(peakReserved / 2 ** 30, 2),
    weightsGiB: rounded(weights / 2 ** 30, 2),
    stepMs: rounded((round / updates.length) * 1000, 1),
    queuedMs: rounded(median(queued), 1),
    spread: rounded((Math.max(...seconds) - Math.min(...seconds)) / round, 3),
    loss: rounded(loss, 4),
  };
}

/** Matrices of the decoder's blocks are drawn and held in a form of fewer bits, one after another. */
function quantiseBlocks(
  model: LanguageModel,
  form: QuantisedForm,
  { device, generator }: { device: Device; generator: RandomGenerator },
): void {
  const blocks = model.segments.filter(({ part, isBlock }) => part === 'decoder' && isBlock);
  const inBlocks = new Set(blocks.flatMap((block) => [...block.parameters().keys()]));
  for (const [name, layer] of linearsOf(model)) {
    if (!inBlocks.has(`${name}.weight`)) continue;
    noGrad(() =>
      scope(() => {
        const parts = form.quantise(layer.draw('weight', device, { generator }));
        for (const part of Object.values(parts) as Tensor[]) part.keep();
        layer.quantise(form);
        layer.loadParts(parts);
      }),
    );
  }
}

export function recipeOf(mode: Mode, dropout: number): Pick<Recipe, 'train' | 'optimizer'> {
  const decoder = mode === 'lora' ? { lora: { rank: 16, alpha: 32, dropout } } : 'full';
  return checkRecipe({
    name: 'bench',
    model: { from: 'x' },
    data: { sources: ['x'] },
    train: { decoder: mode === 'projector' ? 'frozen' : decoder, projector: 'full' },
    optimizer: { learningRate: 2e-5 },
  });
}

/** The batches of all updates; they share the pixels, so that only those of one batch take room. */
function placed(of: Case, model: LanguageModel, device: Device): Batch[][] {
  return noGrad(() => {
    const updates = of.updates.map((update) =>
      update.map((batch) => makeBatch(samplesOf(batch, model.input), model.input, { device })),
    );
    const all = updates.flat().flatMap(({ images }) => images?.pixelValues ?? []);
    const most = all.reduce((a, b) => (b.size(0) > a.size(0) ? b : a), all[0]!);
    const sharing = ({ images, ...batch }: Batch): Batch => {
      if (images === null) return { ...batch, images };
      const { pixelValues } = images;
      const shared = most.narrow(0, 0, pixelValues.size(0));
      if (pixelValues !== most) pixelValues.dispose();
      return { ...batch, images: { ...images, pixelValues: shared } };
    };
    return updates.map((update) => update.map(sharing));
  });
}

export function rounded(value: number, digits: number): number {
  return Number(value.toFixed(digits));
}
