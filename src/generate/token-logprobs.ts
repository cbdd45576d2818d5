/** Log probabilities of tokens as the model gives them, before any setting of sampling. */
import { scope, type Tensor } from '../torch/index.js';

export interface TokenLogprob {
  readonly token: number;
  /** Natural logarithm of its probability. */
  readonly logprob: number;
}

export interface TokenLogprobs extends TokenLogprob {
  /** The most probable tokens, best first. */
  readonly top: readonly TokenLogprob[];
}

/** Of a token that was chosen from logits (1, V), and of the `top` best ones. */
export function tokenLogprobs(logits: Tensor, token: number, top: number): TokenLogprobs {
  const scores = scope(() => logits.to('float32').toTypedArray()) as Float32Array;
  const largest = scores.reduce((most, score) => Math.max(most, score), -Infinity);
  const sum = scores.reduce((total, score) => total + Math.exp(score - largest), 0);
  const normaliser = largest + Math.log(sum);
  const of = (id: number): TokenLogprob => ({ token: id, logprob: scores[id]! - normaliser });
  return { ...of(token), top: bestOf(scores, top).map(of) };
}

/** Where the largest scores stand, best first; equal ones in their order. */
function bestOf(scores: Float32Array, count: number): number[] {
  const best: number[] = [];
  for (let id = 0; id < scores.length && count > 0; id++) {
    if (best.length === count && scores[id]! <= scores[best.at(-1)!]!) continue;
    if (best.length === count) best.pop();
    const place = best.findIndex((other) => scores[other]! < scores[id]!);
    best.splice(place < 0 ? best.length : place, 0, id);
  }
  return best;
}
