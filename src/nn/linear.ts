/** Linear layer `y = x Wᵀ + b`, with an optional low-rank adapter beside its weight. */
import type { DType, Tensor } from '../torch/index.js';
import type { DropoutMasks } from './dropout.js';
import { allZeros, type Initializer, normal } from './initializers.js';
import { LoraAdapter, type LoraOptions } from './lora.js';
import { Module } from './module.js';
import type { QuantisedForm } from './quantised-form.js';
import { DenseWeight, type Weight } from './weight.js';

export interface LinearOptions {
  /** Whether a bias is added. @default true */
  bias?: boolean;
  /** @default 'float32' */
  dtype?: DType;
  /** How the weight starts. @default normal */
  initializer?: Initializer;
}

/** Parameters `weight` (outFeatures, inFeatures), or its parts in few bits, and `bias` (outFeatures). */
export class Linear extends Module {
  #base: Weight = new DenseWeight(() => this.weight);
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

  /** What it multiplies by, without the adapter. */
  get base(): Weight {
    return this.#base;
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

  /** The same with the adapter's input given: x itself, or x after dropout. */
  apply(x: Tensor, dropped: Tensor): Tensor {
    return this.#adapter?.apply(x, dropped) ?? this.base.product(x, this.bias);
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

  /** Folds the adapter into the weight, which is dense from then on, computed in fp32, and removes it. */
  mergeAdapter(): void {
    if (this.#adapter === undefined) return;
    const merged = this.#adapter.merged();
    this.makeDense();
    this.load('weight', merged);
    this.detachAdapter();
  }

  /** Keeps the weight in few bits from now on: its parts take the place of the parameter, on meta until they are loaded. */
  quantise(form: QuantisedForm): void {
    const { dtype } = this.#base;
    const shape = [this.outFeatures, this.inFeatures] as const;
    const parts = form.shapes(shape);
    this.removeParameter('weight');
    for (const [part, { shape: size, dtype: type }] of parts) {
      this.addParameter(form.leaves[part]!, size, type, allZeros);
    }
    const read = (): object =>
      Object.fromEntries(
        [...parts.keys()].map((part) => [part, this.parameter(form.leaves[part]!)]),
      );
    this.#base = form.weight(shape, dtype, read);
  }

  /** Loads the parts of a weight in few bits. */
  loadParts(parts: object): void {
    const { leaves } = this.base.form!;
    for (const [part, tensor] of Object.entries(parts) as [string, Tensor][]) {
      this.load(leaves[part]!, tensor);
    }
  }

  /** Gives up the parts in few bits, for a parameter on meta. */
  makeDense(): void {
    const { dtype, form } = this.#base;
    if (form === undefined) return;
    for (const leaf of Object.values(form.leaves)) this.removeParameter(leaf);
    this.addParameter('weight', [this.outFeatures, this.inFeatures], dtype, allZeros);
    this.#base = new DenseWeight(() => this.weight);
  }
}

/** The linear layers of a tree by their names. */
export function linearsOf(module: Module): (readonly [string, Linear])[] {
  return [...module.namedModules()].flatMap(([name, each]) =>
    each instanceof Linear ? [[name, each] as const] : [],
  );
}
