/** Learning rates that are known to work, carried over to models of other widths. */
import { formatNumber } from '../base/format.js';
import { matchesName } from '../base/name-pattern.js';
import { isFrozen, loraOf, type Recipe } from '../config/index.js';

/** Published ones for 7B and 8B models, with the records of their updates. */
const KNOWN = {
  /** LLaVA-1.5 and LLaVA-Llama-3, stage 2 (arXiv 2310.03744; XTuner 0.1.23). */
  full: { rate: 2e-5, records: 128, trains: 'all weights train' },
  /** The same by LoRA. */
  lora: { rate: 2e-4, records: 128, trains: 'the decoder trains by LoRA' },
  /** Stage 1: the projector alone. */
  projector: { rate: 1e-3, records: 256, trains: 'the projector trains alone' },
} as const;
/** Width of those models: the best rate of Adam goes with 1 / width (Yang et al. 2022, arXiv 2203.03466). */
const KNOWN_WIDTH = 4096;
/** What random weights bear beside trained ones. */
const NEW_MODEL = 30;
/** Times the known rate from which one is too high whatever the batch. */
const TOO_HIGH = 10;
/** How many times as fast LoRA+ lets the second factors learn (Hayou et al. 2024, arXiv 2402.12354). */
const LORA_PLUS = 16;

export interface UsualRate {
  readonly rate: number;
  /** Records of an update for which that is. */
  readonly records: number;
  /** What trains in such a recipe. */
  readonly trains: string;
}

export interface HighRate {
  /** Of the recipe. */
  readonly field: string;
  readonly value: number;
  /** What the field would be by such a rate. */
  readonly fit: number;
  readonly trains: string;
}

/** @param hiddenSize of the decoder */
export function usualRate(recipe: Recipe, hiddenSize: number): UsualRate {
  const { rate, ...known } = KNOWN[kindOf(recipe)];
  return { rate: rate * bearing(recipe, hiddenSize), ...known };
}

/**
 * A learning rate that is far above what such models are trained at: of the recipe, of one of its groups, of the second factors of
 * LoRA; `null` where none is.
 *
 * @param scale of all of them
 */
export function tooHighRate(recipe: Recipe, hiddenSize: number, scale = 1): HighRate | null {
  const { optimizer, train } = recipe;
  const { rate: fit, trains } = usualRate(recipe, hiddenSize);
  // A group may be of the projector.
  const ofGroup = Math.max(fit, KNOWN.projector.rate * bearing(recipe, hiddenSize));
  const fields: Omit<HighRate, 'trains'>[] = [
    { field: 'optimizer.learningRate', value: optimizer.learningRate, fit },
    ...optimizer.groups.flatMap(({ learningRate }, i) =>
      learningRate === undefined
        ? []
        : [{ field: `optimizer.groups.${i}.learningRate`, value: learningRate, fit: ofGroup }],
    ),
  ];
  const high = fields.find((each) => each.value * scale > TOO_HIGH * each.fit);
  if (high !== undefined) return { ...high, value: high.value * scale, trains };
  const part = (['vision', 'projector', 'decoder'] as const).find((each) => {
    const ratio = loraOf(train[each])?.loraPlusRatio ?? 1;
    return (optimizer.learningRate * scale * ratio) / LORA_PLUS > TOO_HIGH * fit;
  });
  if (part === undefined) return null;
  const { loraPlusRatio: value } = loraOf(train[part])!;
  return { field: `train.${part}.lora.loraPlusRatio`, value, fit: LORA_PLUS, trains };
}

/** What the recipe's learning rate is multiplied by for a parameter: that of the first group that it belongs to. */
export function groupFactor({ optimizer }: Recipe, tensor: string): number {
  const group = optimizer.groups.find(({ parameters }) => matchesName(parameters, tensor));
  return (group?.learningRate ?? optimizer.learningRate) / optimizer.learningRate;
}

/** A rate that is too high, in words. */
export function highRate({ field, value, fit, trains }: HighRate): string {
  const what = field === 'optimizer.learningRate' ? 'the learning rate' : field;
  return `${what} is ${formatNumber(value, 3)}; models of this width are trained (${trains}) at about ${formatNumber(fit)}`;
}

/** What of the known rates such a model bears. */
function bearing({ model }: Recipe, hiddenSize: number): number {
  const width = Math.max(1, KNOWN_WIDTH / hiddenSize);
  return width * (model.config === undefined ? 1 : NEW_MODEL);
}

function kindOf({ train }: Recipe): keyof typeof KNOWN {
  if (train.decoder === 'full' || train.vision === 'full') return 'full';
  return loraOf(train.decoder) !== undefined || !isFrozen(train.vision) ? 'lora' : 'projector';
}
