/**
 * The module tree: modules own named parameters, named buffers and child modules. Names are PyTorch's and transformers',
 * joined by dots, so that a checkpoint's layout maps one to one.
 *
 * A tree is built on the meta device, where tensors have shapes and no memory. Loaders then give each parameter its tensor
 * (`load`), or `initialize` draws new values. From then on a parameter is one leaf tensor: modules read it at every call and
 * keep no derived or cast copy of it, so that its storage may be freed and refilled between calls.
 */
import { UsageError } from '../base/errors.js';
import {
  type Device,
  type DType,
  empty,
  type RandomGenerator,
  type Tensor,
} from '../torch/index.js';
import { type Initializer } from './initializers.js';

interface ParameterSlot {
  tensor: Tensor;
  readonly initializer: Initializer;
}

interface BufferSlot {
  tensor: Tensor;
  readonly compute: (device: Device) => Tensor;
}

/** Settings of {@link Module.initialize}. */
export interface InitializeOptions {
  /** Source of the random values, of the same device. */
  generator: RandomGenerator;
  /** Standard deviation of weights that start normally distributed. @default 0.02 */
  std?: number;
}

/** A node of the tree; subclasses register what they own in their constructor and add a typed `forward`. */
export abstract class Module {
  readonly #parameters = new Map<string, ParameterSlot>();
  readonly #buffers = new Map<string, BufferSlot>();
  readonly #children = new Map<string, Module>();

  /** This module under the name `prefix`, then every module below it, in order of registration. */
  *namedModules(prefix = ''): IterableIterator<[string, Module]> {
    yield [prefix, this];
    for (const [name, child] of this.#children) yield* child.namedModules(join(prefix, name));
  }

  /** Every parameter of the tree by its name. */
  namedParameters(prefix = ''): Map<string, Tensor> {
    const named = new Map<string, Tensor>();
    for (const [path, module] of this.namedModules(prefix)) {
      for (const [name, { tensor }] of module.#parameters) named.set(join(path, name), tensor);
    }
    return named;
  }

  /** Every parameter of the tree. */
  parameters(): Tensor[] {
    return [...this.namedParameters().values()];
  }

  /** Every buffer of the tree by its name. */
  namedBuffers(prefix = ''): Map<string, Tensor> {
    const named = new Map<string, Tensor>();
    for (const [path, module] of this.namedModules(prefix)) {
      for (const [name, { tensor }] of module.#buffers) named.set(join(path, name), tensor);
    }
    return named;
  }

  /**
   * Makes `tensor` the parameter `name`. The module owns the tensor from then on and disposes the one before.
   *
   * @throws UsageError `E_PARAMETER_NAME` if there is no such parameter, `E_PARAMETER_SHAPE` if its shape differs.
   */
  load(name: string, tensor: Tensor): void {
    const slot = this.#find(name);
    if (slot === undefined) throw noParameter(name);
    if (tensor.shape.join() !== slot.tensor.shape.join()) {
      throw new UsageError(
        `Parameter "${name}" has the shape [${slot.tensor.shape.join(', ')}], not [${tensor.shape.join(', ')}].`,
        {
          code: 'E_PARAMETER_SHAPE',
          hint: 'Load weights that belong to this configuration of the model.',
        },
      );
    }
    if (tensor === slot.tensor) return;
    slot.tensor.dispose();
    slot.tensor = tensor.keep();
  }

  /**
   * Puts another tensor in the place of a parameter until the result is disposed, for a look at what would be with it; both stay
   * their owners'.
   *
   * @throws UsageError `E_PARAMETER_NAME`
   */
  lend(name: string, tensor: Tensor): Disposable {
    const slot = this.#find(name);
    if (slot === undefined) throw noParameter(name);
    const own = slot.tensor;
    slot.tensor = tensor;
    return {
      [Symbol.dispose]() {
        slot.tensor = own;
      },
    };
  }

  /** Computes every buffer of the tree on `device`; parameters are placed by whoever loads them. */
  placeBuffers(device: Device): void {
    for (const [, module] of this.namedModules()) {
      for (const slot of module.#buffers.values()) {
        slot.tensor.dispose();
        slot.tensor = slot.compute(device).keep();
      }
    }
  }

  /**
   * Draws new values on `device` for every parameter that is still on meta, in order of registration, and places the
   * buffers.
   */
  initialize(device: Device, options: InitializeOptions): void {
    for (const [, module] of this.namedModules()) {
      for (const [name, { tensor }] of module.#parameters) {
        if (tensor.device === 'meta') module.load(name, module.draw(name, device, options));
      }
    }
    this.placeBuffers(device);
  }

  /** New values on `device` for the parameter `name`, as `initialize` draws them; it stays as it is. */
  draw(name: string, device: Device, { generator, std = 0.02 }: InitializeOptions): Tensor {
    const { tensor, initializer } = this.#find(name)!;
    const drawn = empty(tensor.shape, { dtype: tensor.dtype, device });
    initializer(drawn, { generator, std });
    return drawn;
  }

  /** Frees every tensor of the tree. */
  dispose(): void {
    for (const [, module] of this.namedModules()) {
      for (const { tensor } of module.#parameters.values()) tensor.dispose();
      for (const { tensor } of module.#buffers.values()) tensor.dispose();
    }
  }

  /** Registers a parameter as an empty meta tensor, with the way in which training from scratch fills it. */
  protected addParameter(
    name: string,
    shape: readonly number[],
    dtype: DType,
    initializer: Initializer,
  ): void {
    const tensor = empty(shape, { dtype, device: 'meta' }).keep();
    this.#parameters.set(name, { tensor, initializer });
  }

  /** Forgets a parameter and frees it. */
  protected removeParameter(name: string): void {
    this.#parameters.get(name)?.tensor.dispose();
    this.#parameters.delete(name);
  }

  /** Registers a constant tensor, computed on whichever device is asked for; it is no part of a checkpoint. */
  protected addBuffer(name: string, compute: (device: Device) => Tensor): void {
    this.#buffers.set(name, { tensor: compute('meta').keep(), compute });
  }

  /** Registers a child under `name`: dots make levels, an empty name puts the child's names among this module's. */
  protected addChild<M extends Module>(name: string, module: M): M {
    this.#children.set(name, module);
    return module;
  }

  /** Forgets a child and frees its tensors. */
  protected removeChild(name: string): void {
    this.#children.get(name)?.dispose();
    this.#children.delete(name);
  }

  protected parameter(name: string): Tensor {
    return this.#parameters.get(name)!.tensor;
  }

  protected optionalParameter(name: string): Tensor | undefined {
    return this.#parameters.get(name)?.tensor;
  }

  protected buffer(name: string): Tensor {
    return this.#buffers.get(name)!.tensor;
  }

  #find(path: string): ParameterSlot | undefined {
    const own = this.#parameters.get(path);
    if (own !== undefined) return own;
    for (const [name, child] of this.#children) {
      if (name !== '' && !path.startsWith(`${name}.`)) continue;
      const found = child.#find(name === '' ? path : path.slice(name.length + 1));
      if (found !== undefined) return found;
    }
    return undefined;
  }
}

function noParameter(name: string): UsageError {
  return new UsageError(`There is no parameter "${name}".`, {
    code: 'E_PARAMETER_NAME',
    hint: 'Give a name that namedParameters() lists.',
  });
}

function join(prefix: string, name: string): string {
  return prefix === '' || name === '' ? prefix + name : `${prefix}.${name}`;
}
