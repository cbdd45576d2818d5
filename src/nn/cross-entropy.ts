/**
 * Cross entropy of a language model's head over the supervised positions, in chunks: the logits of all positions, as wide as
 * the vocabulary, are never held at once, neither forward nor backward, and their gradient takes the place of theirs.
 *
 * Each chunk is a graph of its own, walked backward as soon as its losses are known. So the function returns gradients beside
 * the losses, and a training step continues from the gradient of the hidden states.
 */
import { UsageError } from '../base/errors.js';
import { type DType, empty, enableGrad, grad, noGrad, scope, type Tensor } from '../torch/index.js';

export interface CrossEntropyOptions {
  /** Rows of logits that are held at once. @default 2048 */
  chunk?: number;
  /** What to differentiate; without it only losses are computed. */
  gradient?: CrossEntropyGradient;
}

export interface CrossEntropyGradient {
  /** Gradient of the whole with respect to the sum of the losses: a scalar tensor in the dtype of the losses. */
  factor: Tensor;
  /** Whether the gradient of the hidden states is wanted. */
  hidden: boolean;
  /** Parameters that the head reads and whose gradients are wanted. */
  parameters: readonly Tensor[];
}

export interface CrossEntropyResult {
  /** Loss of each position (N) in fp32; what is differentiated is their sum. */
  losses: Tensor;
  /** Gradient of the hidden states (N, C), where asked for. */
  hiddenGradient: Tensor | null;
  /** In the order and the dtypes of the parameters; null for one that the head did not use. */
  parameterGradients: (Tensor | null)[];
}

/**
 * `losses[n] = logsumexp(z) - z[targets[n]]` with the logits `z = head(hidden[n])`, in fp32.
 *
 * @param head rows of hidden states (n, C) -> logits (n, V), which are overwritten
 * @param hidden states of the supervised positions only (N, C); N may be 0
 * @param targets the token that each position should predict (N), int64
 * @throws UsageError `E_ARGUMENT` for a chunk that is no number of rows
 */
export function chunkedCrossEntropy(
  head: (hidden: Tensor) => Tensor,
  hidden: Tensor,
  targets: Tensor,
  { chunk = 2048, gradient }: CrossEntropyOptions = {},
): CrossEntropyResult {
  if (!Number.isInteger(chunk) || chunk < 1) {
    throw new UsageError(`chunkedCrossEntropy(): ${chunk} is no number of rows`, {
      code: 'E_ARGUMENT',
      hint: 'Give a whole number from 1.',
    });
  }
  const N = hidden.shape[0]!;
  const parameters = gradient?.parameters ?? [];
  return scope(() => {
    const states = hidden.detach();
    const losses = empty([N], { dtype: accurate(states.dtype), device: states.device });
    const hiddenGradient = gradient?.hidden ? states.emptyLike() : null;
    let sums: (Tensor | null)[] = parameters.map(() => null);
    for (let start = 0; start < N; start += chunk) {
      const rows = (x: Tensor) => x.narrow(0, start, Math.min(chunk, N - start));
      sums = scope(() => {
        const part = rows(states).requiresGrad_(hiddenGradient !== null);
        const inputs = hiddenGradient === null ? parameters : [part, ...parameters];
        const differentiates = gradient !== undefined && inputs.length > 0;
        const logits = differentiates ? enableGrad(() => head(part)) : noGrad(() => head(part));
        // What the logits held is their gradient from here on.
        const upstream = logits.detach();
        const factor = differentiates ? gradient.factor : null;
        rows(losses).copy_(upstream.crossEntropy_(rows(targets), factor));
        if (!differentiates) return sums;
        const gradients = grad([logits], inputs, [upstream]);
        if (hiddenGradient !== null) rows(hiddenGradient).copy_(gradients.shift()!);
        return sums.map((sum, i) => added(sum, gradients[i]!));
      });
    }
    const parameterGradients = sums.map((sum, i) => sum?.to(parameters[i]!.dtype) ?? null);
    return { losses, hiddenGradient, parameterGradients };
  });
}

/** The dtype in which losses and sums over chunks are computed. */
function accurate(dtype: DType): DType {
  return dtype === 'float64' ? dtype : 'float32';
}

/** sum + part; the sum is kept in fp32, and is the part itself where that is its first and fp32. */
function added(sum: Tensor | null, part: Tensor | null): Tensor | null {
  if (part === null) return sum;
  return sum === null ? part.to(accurate(part.dtype)) : noGrad(() => sum.add_(part));
}
