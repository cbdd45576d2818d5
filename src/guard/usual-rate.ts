/** Learning rates that are known to work, carried over to models of other widths. */
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
export const TOO_HIGH = 10;

export interface UsualRate {
  readonly rate: number;
  /** Records of an update for which that is. */
  readonly records: number;
  /** What trains in such a recipe. */
  readonly trains: string;
}

/** @param hiddenSize of the decoder */
export function usualRate(recipe: Recipe, hiddenSize: number): UsualRate {
  const { rate, ...known } = KNOWN[kindOf(recipe)];
  const isNew = recipe.model.config !== undefined;
  return {
    rate: rate * Math.max(1, KNOWN_WIDTH / hiddenSize) * (isNew ? NEW_MODEL : 1),
    ...known,
  };
}

function kindOf({ train }: Recipe): keyof typeof KNOWN {
  if (train.decoder === 'full' || train.vision === 'full') return 'full';
  return loraOf(train.decoder) !== undefined || !isFrozen(train.vision) ? 'lora' : 'projector';
}
