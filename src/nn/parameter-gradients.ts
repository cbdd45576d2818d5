/** Gradients of parameters as a backward by hand gives them: written to where they are summed, else new tensors. */
import type { Tensor } from '../torch/index.js';

/** Where the gradients of matrices lie, one above the other. */
export interface GradientPlace {
  /** (rows of all, columns) */
  readonly into: Tensor;
  /** Whether there is something already, to which more is added; else it may hold anything. */
  readonly holds: boolean;
}

/** The place of matrices with equal columns, which whoever asks for it writes to; `null` where there is none for all of them together. */
export type GradientPlaces = (parameters: readonly Tensor[]) => GradientPlace | null;

export class ParameterGradients {
  /** Gradients that were not written to a place; those of a parameter that is used twice are summed. */
  readonly apart = new Map<Tensor, Tensor>();

  constructor(private readonly places: GradientPlaces = () => null) {}

  /** Of one parameter. */
  add(parameter: Tensor, gradient: Tensor): void {
    if (!parameter.requiresGrad) return;
    const sum = this.apart.get(parameter);
    this.apart.set(parameter, sum?.add_(gradient) ?? gradient);
  }

  /** `aᵀ b` of matrices, one above the other: a (N, rows of all), b (N, columns). */
  addProduct(parameters: readonly Tensor[], a: Tensor, b: Tensor): void {
    const trained = parameters.filter((each) => each.requiresGrad);
    if (trained.length === 0) return;
    if (trained.length < parameters.length) {
      const parts = a.splitWithSizes(rowsOf(parameters), 1);
      parameters.forEach((each, i) => {
        this.addProduct([each], parts[i]!, b);
      });
      return;
    }
    const place = this.places(parameters);
    if (place !== null) {
      place.into.productInto_(a, b, place.holds);
      return;
    }
    const product = a.transpose(0, 1).matmul(b);
    const parts = parameters.length === 1 ? [product] : product.splitWithSizes(rowsOf(parameters));
    parameters.forEach((each, i) => {
      this.add(each, parts[i]!);
    });
  }
}

function rowsOf(parameters: readonly Tensor[]): number[] {
  return parameters.map(({ shape }) => shape[0]!);
}
