/**
 * Choosing the next token from logits as transformers' `generate` does, step by step and in its order: repetition penalty
 * (Keskar et al. 2019), temperature, top-k (Fan et al. 2018), top-p (Holtzman et al. 2020), min-p (Nguyen et al. 2024), all in
 * fp32; then the largest, or a draw.
 *
 * B: rows, V: vocabulary.
 */
import { NonFiniteError, UsageError } from '../base/errors.js';
import {
  type Device,
  fromTypedArray,
  RandomGenerator,
  scope,
  stack,
  type Tensor,
  where,
} from '../torch/index.js';

export interface SamplingOptions {
  /** Divides the logits; 0 takes the largest. @default 0, or 1 where `topK`, `topP` or `minP` is given */
  temperature?: number | undefined;
  /** Only so many of the best. @default all */
  topK?: number | undefined;
  /** The fewest best tokens whose probabilities reach this sum. @default 1, all */
  topP?: number | undefined;
  /** Only tokens at least this fraction as probable as the best. @default 0, all */
  minP?: number | undefined;
  /**
   * Logits of tokens that stand in the prompt or the answer are divided by it, negative ones multiplied. @default 1, none
   */
  repetitionPenalty?: number | undefined;
  /** Of the draws. @default 0 */
  seed?: number | undefined;
}

/** Settings after their defaults. */
export type Sampling = Readonly<
  Record<Exclude<keyof SamplingOptions, 'topK'>, number> & { topK: number | undefined }
>;

interface Limit {
  readonly holds: (value: number) => boolean;
  readonly wanted: string;
}

const LIMITS: Readonly<Record<keyof SamplingOptions, Limit>> = {
  temperature: { holds: (x) => x >= 0 && x < Infinity, wanted: 'a number from 0' },
  topK: { holds: (x) => Number.isSafeInteger(x) && x >= 1, wanted: 'a whole number from 1' },
  topP: { holds: (x) => x > 0 && x <= 1, wanted: 'a number above 0 and at most 1' },
  minP: { holds: (x) => x >= 0 && x <= 1, wanted: 'a number from 0 to 1' },
  repetitionPenalty: { holds: (x) => x > 0 && x < Infinity, wanted: 'a number above 0' },
  seed: { holds: (x) => Number.isSafeInteger(x), wanted: 'a whole number' },
};

/** Fills in the defaults. @throws UsageError `E_SAMPLING` for numbers that mean nothing */
export function readSampling(options: SamplingOptions): Sampling {
  for (const name of Object.keys(LIMITS) as (keyof SamplingOptions)[]) {
    const value = options[name];
    if (value === undefined || LIMITS[name].holds(value)) continue;
    throw new UsageError(`${name} is ${value}, which is not ${LIMITS[name].wanted}.`, {
      code: 'E_SAMPLING',
      hint: `Give ${name} as ${LIMITS[name].wanted}.`,
    });
  }
  const { topK, topP = 1, minP = 0, repetitionPenalty = 1, seed = 0 } = options;
  const draws = [options.topK, options.topP, options.minP].some((value) => value !== undefined);
  const { temperature = draws ? 1 : 0 } = options;
  return { temperature, topK, topP, minP, repetitionPenalty, seed };
}

/** Chooses token after token for a batch, and remembers what a penalty needs. */
export class Sampler {
  readonly #sampling: Sampling;
  readonly #generator: RandomGenerator | undefined;
  /** (B, V): what stands in the prompt or the answer. */
  readonly #seen: Tensor | undefined;

  constructor(
    sampling: Sampling,
    {
      prompts,
      vocabSize,
      device,
    }: { prompts: readonly ArrayLike<number>[]; vocabSize: number; device: Device },
  ) {
    this.#sampling = sampling;
    if (sampling.temperature > 0) this.#generator = RandomGenerator.create(sampling.seed, device);
    if (sampling.repetitionPenalty !== 1) {
      this.#seen = scope(() => seenTokens(prompts, vocabSize).to({ device }).keep());
    }
  }

  /** logits (B, V) -> tokens (B), int64 */
  choose(logits: Tensor): Tensor {
    return scope(() => {
      const { temperature, repetitionPenalty } = this.#sampling;
      let scores = logits.to('float32');
      if (this.#seen !== undefined) scores = penalised(scores, this.#seen, repetitionPenalty);
      const tokens =
        temperature === 0
          ? scores.argmax(-1)
          : warped(drawable(scores), this.#sampling)
              .softmax(-1)
              .multinomial(1, false, { generator: this.#generator! })
              .squeeze(1);
      this.#seen?.scatter_(1, tokens.unsqueeze(1), true);
      return tokens;
    });
  }

  dispose(): void {
    this.#generator?.dispose();
    this.#seen?.dispose();
  }
}

/**
 * Reads chosen tokens (B), the only wait for the device; `null` for rows whose logits (B, V) are not finite. On the meta device, where
 * nothing is chosen, every token is 0.
 */
export function readTokens(tokens: Tensor, logits: Tensor): (number | null)[] {
  return scope(() => {
    const finite = logits.amax([-1]).isfinite().to('int64');
    const both = stack([tokens, finite]);
    const rows = tokens.numel;
    if (both.device === 'meta') return Array<number>(rows).fill(0);
    const read = Array.from(both.toTypedArray(), Number);
    return read.slice(0, rows).map((token, row) => (read[rows + row] === 1 ? token : null));
  });
}

export function notFinite(where: string): NonFiniteError {
  return new NonFiniteError(`The logits after ${where} are not finite.`, {
    code: 'E_LOGITS',
    hint: 'Compute in bfloat16 or float32; float16 overflows in some models.',
  });
}

/** Ids outside of the vocabulary, as an image token's may be, have no logit to penalise. */
function seenTokens(prompts: readonly ArrayLike<number>[], vocabSize: number): Tensor {
  const seen = new Uint8Array(prompts.length * vocabSize);
  prompts.forEach((ids, row) => {
    for (const id of Array.from(ids)) if (id >= 0 && id < vocabSize) seen[row * vocabSize + id] = 1;
  });
  return fromTypedArray(seen, [prompts.length, vocabSize]).to('bool');
}

/** Rows that are not finite, of which a draw would end the program on a GPU, made equal; `readTokens` tells of them. */
function drawable(scores: Tensor): Tensor {
  return where(scores.amax([-1], true).isfinite(), scores, scores.zerosLike());
}

function penalised(scores: Tensor, seen: Tensor, penalty: number): Tensor {
  const lowered = where(scores.lt(0), scores.mul(penalty), scores.div(penalty));
  return where(seen, lowered, scores);
}

/** The smallest that is a normal number in fp32; by what lies below it some kernels divide as by 0. */
const COLDEST = 2 ** -126;
/** Below it a score may overflow by the division. */
const COLD = 1e-30;

/** The scores with what is not to be drawn at -Infinity. */
function warped(scores: Tensor, { temperature, topK, topP, minP }: Sampling): Tensor {
  // Beside the best one, which stays 0, nothing becomes NaN, of which a draw would end the program on a GPU.
  if (temperature < COLD) scores = scores.sub(scores.amax([-1], true));
  if (temperature !== 1) scores = scores.div(Math.max(temperature, COLDEST));
  if (topK !== undefined) {
    const [best] = scores.topk(Math.min(topK, scores.size(-1)));
    scores = without(scores, scores.lt(best.narrow(-1, best.size(-1) - 1, 1)));
  }
  if (topP < 1) {
    const [ascending, order] = scores.sort(-1);
    const rare = ascending
      .softmax(-1)
      .cumsum(-1)
      .le(1 - topP);
    rare.narrow(-1, scores.size(-1) - 1, 1).fill_(false); // the best one stays
    scores = without(scores, rare.scatter(1, order, rare));
  }
  if (minP > 0) {
    const probabilities = scores.softmax(-1);
    scores = without(scores, probabilities.lt(probabilities.amax([-1], true).mul(minP)));
  }
  return scores;
}

function without(scores: Tensor, mask: Tensor): Tensor {
  return scores.maskedFill(mask, -Infinity);
}
