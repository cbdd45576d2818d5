/** How parameters start when a model is trained from scratch: in place, under no-grad, from an explicit generator. */
import { type RandomGenerator, noGrad, type Tensor } from '../torch/index.js';

/** What an {@link Initializer} draws from. */
export interface InitializerContext {
  /** Source of the random values, of the tensor's device. */
  generator: RandomGenerator;
  /** Standard deviation of weights that start normally distributed. */
  std: number;
}

/** Fills an empty parameter. */
export type Initializer = (tensor: Tensor, context: InitializerContext) => void;

export const allZeros: Initializer = (tensor) => void noGrad(() => tensor.zero_());

export const allOnes: Initializer = (tensor) => void noGrad(() => tensor.fill_(1));

/** N(0, std²). */
export const normal: Initializer = (tensor, { std, generator }) =>
  void noGrad(() => tensor.normal_(0, std, { generator }));

/** N(0, std²), whatever the model's own standard deviation is. */
export const normalOf =
  (std: number): Initializer =>
  (tensor, { generator }) =>
    normal(tensor, { std, generator });

/** U(-bound, bound). */
export const uniform =
  (bound: number): Initializer =>
  (tensor, { generator }) =>
    void noGrad(() => tensor.uniform_(-bound, bound, { generator }));
