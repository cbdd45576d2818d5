/**
 * What a recipe asks for, against what is known to work: learning rate, batch and warm-up, clipping, number types. Rules of thumb,
 * so that all but what cannot work is a warning.
 */
import { formatNumber, plural } from '../../base/format.js';
import { effectiveBatch, type EffectiveBatch, type Recipe } from '../../config/index.js';
import { planRun, type RunPlan } from '../../train/index.js';
import { highRate, tooHighRate, usualRate } from '../usual-rate.js';
import { finding, type Finding } from './finding.js';
import { isVisual, type ModelTensor, type ModelTraits } from './open-hollow.js';

/** Times the rate that the batch bears. */
const BEYOND_BATCH = 8;
/** Updates from which a run is no trial. */
const LONG_RUN = 50;

export interface RecipeFacts {
  readonly batching: EffectiveBatch;
  readonly plan: RunPlan;
  readonly traits: ModelTraits;
  readonly tensors: readonly ModelTensor[];
}

export interface RunSize extends Pick<RecipeFacts, 'traits' | 'tensors'> {
  /** Of an epoch. */
  readonly records: number;
  /** Devices that will train together. */
  readonly worldSize: number;
}

/** Of a run that is not prepared. @throws UsageError E_BATCH */
export function checkTraining(
  recipe: Recipe,
  { records, worldSize, ...facts }: RunSize,
): Finding[] {
  const batching = effectiveBatch(recipe, worldSize);
  const plan = planRun(recipe, batching, { recordsPerEpoch: records });
  return checkPlan(recipe, { batching, plan, ...facts });
}

export function checkPlan(
  recipe: Recipe,
  { batching, plan, traits, tensors }: RecipeFacts,
): Finding[] {
  const rate = recipe.optimizer.learningRate * batching.learningRateScale;
  return [
    ...checkRate(recipe, rate, batching.records, traits),
    ...checkWarmup(plan),
    ...checkClipping(recipe),
    ...checkTypes(recipe, tensors),
  ];
}

function checkRate(
  recipe: Recipe,
  rate: number,
  records: number,
  { hiddenSize, isNew }: ModelTraits,
): Finding[] {
  const { rate: fit, ...known } = usualRate(recipe, hiddenSize);
  const findings: Finding[] = [];
  const high = tooHighRate(recipe, hiddenSize, rate / recipe.optimizer.learningRate);
  if (high !== null) {
    findings.push(
      finding('learning-rate-too-high', {
        code: 'high-rate',
        severity: 'warning',
        message: highRate(high),
        fix: `--set ${high.field}=${formatNumber(high.fit)}`,
      }),
    );
  }
  const { effectiveBatch: meant, learningRateRule } = recipe;
  const bears = fit * Math.min(1, Math.sqrt(records / known.records));
  if (meant !== undefined && meant / records >= 2 && learningRateRule === 'keep') {
    findings.push(
      finding('batch-without-lr-rule', {
        code: 'batch-changed',
        severity: 'warning',
        message: `an update has ${records} records, the recipe is meant for ${meant}, and the learning rate stays at ${formatNumber(rate)}: each update is noisier, at the same size`,
        fix: `--set learningRateRule=sqrt, or --set accumulate=${Math.ceil(meant / (records / (recipe.accumulate ?? 1)))} for the batch that it is meant for`,
      }),
    );
  } else if (!isNew && rate > BEYOND_BATCH * bears) {
    const times = Math.round(known.records / records);
    findings.push(
      finding('batch-without-lr-rule', {
        code: 'small-batch',
        severity: 'warning',
        message: `a learning rate of ${formatNumber(rate)} with ${plural(records, 'record')} an update; it is known to work with ${known.records} (${known.trains}), and by the square root of the batch this one bears ${formatNumber(bears)}`,
        fix: `--set optimizer.learningRate=${formatNumber(bears)}, or --set accumulate=${(recipe.accumulate ?? 1) * times}`,
      }),
    );
  }
  return findings;
}

function checkWarmup({ planned, warmup }: RunPlan): Finding[] {
  if (warmup > 0 || planned < LONG_RUN) return [];
  return [
    finding('learning-rate-too-high', {
      code: 'no-warm-up',
      severity: 'warning',
      message: `there is no warm-up: the first of ${planned} updates has the full learning rate, when Adam knows one gradient`,
      fix: '--set schedule.warmupRatio=0.03',
    }),
  ];
}

function checkClipping({ optimizer: { clipNorm, updateInBackward } }: Recipe): Finding[] {
  if (clipNorm !== null || updateInBackward) return [];
  return [
    finding('no-clipping', {
      code: 'no-clipping',
      severity: 'warning',
      message: 'gradients are not clipped: one odd batch moves the weights as far as it likes',
      fix: '--set optimizer.clipNorm=1',
    }),
  ];
}

/** Smallest number that keeps all its digits in fp32 and bf16. */
const SMALLEST = 2 ** -126;

function checkTypes({ precision, optimizer }: Recipe, tensors: readonly ModelTensor[]): Finding[] {
  const findings: Finding[] = [];
  if (optimizer.epsilon < SMALLEST) {
    findings.push(
      finding('low-precision-weights', {
        code: 'epsilon-underflows',
        message: `optimizer.epsilon ${optimizer.epsilon} is 0 in the type of Adam's states (${precision.states}): a gradient of 0 becomes 0 / 0`,
        fix: '--set optimizer.epsilon=1e-8',
      }),
    );
  }
  const adapters = tensors.filter(({ isAdapter }) => isAdapter);
  const types = new Set(
    tensors.filter(({ isAdapter }) => !isAdapter).map(({ stored }) => stored.dtype),
  );
  const half = adapters.filter(({ stored }) => stored.dtype === 'F16');
  if (half.length > 0 && types.has('BF16')) {
    findings.push(
      finding('adapter-dtype', {
        code: 'fp16-adapter',
        severity: 'warning',
        source: half[0]!.stored.file,
        message: `the adapter is kept in fp16, the model in bf16: updates below 6e-8 were lost in it, and it had a range of 65,504`,
        fix: 'Go on from the checkpoint that it was exported from, in fp32 or bf16.',
        count: half.length,
      }),
    );
  }
  return findings;
}

/** Parts whose numbers may leave fp16's range: computed in fp16, and kept in a type of larger range. For where none were computed. */
export function checkHalf({ precision }: Recipe, tensors: readonly ModelTensor[]): Finding[] {
  if (precision.compute !== 'fp16') return [];
  const wide = tensors.filter(({ stored, isAdapter }) => !isAdapter && stored.dtype === 'BF16');
  const parts = [
    ['fp16-overflow-decoder', 'decoder', wide.filter((each) => !isVisual(each))],
    ['fp16-overflow-vision', 'vision tower or projector', wide.filter(isVisual)],
  ] as const;
  return parts.flatMap(([cause, part, [first]]) =>
    first === undefined
      ? []
      : [
          finding(cause, {
            ...{ code: 'bf16-weights', severity: 'warning', source: first.stored.file },
            message: `the run computes in fp16, and the ${part} is kept in bf16: its activations may be beyond 65,504, where fp16 ends`,
            fix: '--set precision.compute=bf16 (fp32 where the device has no bf16)',
          }),
        ],
  );
}
