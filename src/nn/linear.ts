/** Linear layer `y = x Wᵀ + b`, with an optional low-rank adapter beside its weight. */
import type { DType, Tensor } from '../torch/index.js';
import type { DropoutMasks } from './dropout.js';
import { allZeros, type Initializer, normal } from './initializers.js';
import { LoraAdapter, type LoraOptions } from './lora.js';
import { Module } from './module.js';
import { DenseWeight, type Weight } from './weight.js';

export interface LinearOptions {
  /** Whether a bias is added. @default true */
  bias?: boolean;
  /** @default 'float32' */
  dtype?: DType;
  /** How the weight starts. @default normal */
  initializer?: Initializer;
}

/** Parameters `weight` (outFeatures, inFeatures) and `bias` (outFeatures). */
export class Linear extends Module {
  /** What it multiplies by, without the adapter. */
  readonly base: Weight = new DenseWeight(() => this.weight);
  #adapter: LoraAdapter | undefined;

  constructor(
    readonly inFeatures: number,
    readonly outFeatures: number,
    { bias = true, dtype = 'float32', initializer = normal }: LinearOptions = {},
  ) {
    super();
    this.addParameter('weight', [outFeatures, inFeatures], dtype, initializer);
    if (bias) this.addParameter('bias', [outFeatures], dtype, allZeros);
  }

  get weight(): Tensor {
    return this.parameter('weight');
  }

  get bias(): Tensor | undefined {
    return this.optionalParameter('bias');
  }

  get adapter(): LoraAdapter | undefined {
    return this.#adapter;
  }

  /** x (..., inFeatures) -> (..., outFeatures); the masks turn on the adapter's dropout. */
  forward(x: Tensor, masks?: DropoutMasks): Tensor {
    return this.#adapter === undefined
      ? this.base.product(x, this.bias)
      : this.#adapter.forward(x, masks);
  }

  /** Puts a new adapter, on meta, beside the weight. Its parameters lie among this module's, under PEFT's names. */
  attachAdapter(options: LoraOptions): LoraAdapter {
    const adapter = new LoraAdapter(this, options);
    this.detachAdapter();
    this.#adapter = this.addChild('', adapter);
    return adapter;
  }

  /** Removes the adapter and frees it. */
  detachAdapter(): void {
    this.removeChild('');
    this.#adapter = undefined;
  }

  /** Folds the adapter into the weight, computed in fp32, and removes it. */
  mergeAdapter(): void {
    if (this.#adapter === undefined) return;
    this.load('weight', this.#adapter.merged());
    this.detachAdapter();
  }
}

/** The linear layers of a tree by their names. */
export function linearsOf(module: Module): (readonly [string, Linear])[] {
  return [...module.namedModules()].flatMap(([name, each]) =>
    each instanceof Linear ? [[name, each] as const] : [],
  );
}
