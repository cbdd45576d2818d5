/** Linear layer `y = x Wᵀ + b`, with an optional low-rank adapter beside its weight. */
import type { DType, Tensor } from '../torch/index.js';
import type { DropoutMasks } from './dropout.js';
import { allZeros, type Initializer, normal } from './initializers.js';
import { LoraAdapter, type LoraOptions } from './lora.js';
import { Module } from './module.js';
import {
  NF4_LEAVES,
  type Nf4Form,
  type Nf4Part,
  type Nf4Parts,
  nf4Shapes,
  Nf4Weight,
} from './nf4.js';
import { DenseWeight, type Weight } from './weight.js';

export interface LinearOptions {
  /** Whether a bias is added. @default true */
  bias?: boolean;
  /** @default 'float32' */
  dtype?: DType;
  /** How the weight starts. @default normal */
  initializer?: Initializer;
}

/** Parameters `weight` (outFeatures, inFeatures), or its parts in NF4, and `bias` (outFeatures). */
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

  /** Keeps the weight in NF4 from now on: its parts take the place of the parameter, on meta until they are loaded. */
  quantise(form: Nf4Form): void {
    const { dtype } = this.#base;
    const shape = [this.outFeatures, this.inFeatures] as const;
    const parts = nf4Shapes(this.outFeatures * this.inFeatures, form);
    this.removeParameter('weight');
    for (const [part, { shape: size, dtype: type }] of parts) {
      this.addParameter(NF4_LEAVES[part], size, type, allZeros);
    }
    const part = (name: keyof Nf4Parts): Tensor => this.parameter(NF4_LEAVES[name]);
    this.#base = new Nf4Weight(shape, dtype, form, () => ({
      ...{ packed: part('packed'), absmax: part('absmax'), code: part('code') },
      ...(form.doubleQuantised && {
        ...{ nested: part('nested'), nestedCode: part('nestedCode'), offset: part('offset') },
      }),
    }));
  }

  /** Loads the parts of a weight in NF4. */
  loadNf4(parts: Nf4Parts): void {
    for (const [part, tensor] of Object.entries(parts) as [Nf4Part, Tensor][]) {
      this.load(NF4_LEAVES[part], tensor);
    }
  }

  /** Gives up the parts in NF4, for a parameter on meta. */
  makeDense(): void {
    if (!(this.#base instanceof Nf4Weight)) return;
    const { dtype } = this.#base;
    for (const leaf of Object.values(NF4_LEAVES)) this.removeParameter(leaf);
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
