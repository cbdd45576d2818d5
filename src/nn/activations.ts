/** Activation functions under the names that Hugging Face configurations use. */
import { UsageError } from '../base/errors.js';
import { scope, type Tensor } from '../torch/index.js';

/** An elementwise function. */
export type Activation = (x: Tensor) => Tensor;

/** `gelu(x) = x · Φ(x)` with the normal distribution function Φ (Hendrycks and Gimpel 2016). */
export const gelu: Activation = (x) => x.gelu();

/** GELU with `Φ(x) ≈ (1 + tanh(√(2/π) (x + 0.044715 x³))) / 2`, SigLIP's. */
export const geluTanh: Activation = (x) => x.gelu({ approximate: 'tanh' });

/** `quickGelu(x) = x · sigmoid(1.702 x)`, CLIP's. */
export const quickGelu: Activation = (x) => scope(() => x.mul(x.mul(1.702).sigmoid_()));

/** `silu(x) = x · sigmoid(x)` */
export const silu: Activation = (x) => x.silu();

const ACTIVATIONS: Readonly<Record<string, Activation>> = {
  gelu,
  gelu_pytorch_tanh: geluTanh,
  quick_gelu: quickGelu,
  silu,
};

/**
 * The activation that a configuration names: `gelu`, `gelu_pytorch_tanh`, `quick_gelu` or `silu`.
 *
 * @throws UsageError `E_ACTIVATION` for any other name.
 */
export function activation(name: string): Activation {
  const found = Object.hasOwn(ACTIVATIONS, name) ? ACTIVATIONS[name] : undefined;
  if (found === undefined) {
    throw new UsageError(`There is no activation "${name}".`, {
      code: 'E_ACTIVATION',
      hint: `Use one of ${Object.keys(ACTIVATIONS).join(', ')}.`,
    });
  }
  return found;
}
