/**
 * A copy of weights that train, optimizer and loss scale in host memory, to roll back to: each rank copies its own parts. It is replaced
 * every so many updates, in place.
 */

import type { TensorPart } from '../../parallel/index.js';
import { emptyOnHost, noGrad, type Tensor } from '../../torch/index.js';
import { countedState } from '../checkpoint/trainer-state.js';
import type { UpdateSetup } from '../step/update.js';

type Standing = Pick<UpdateSetup, 'store' | 'lossScale' | 'clip' | 'device'>;

export class Snapshot {
  /** Updates done when it was taken; -1 before. */
  update = -1;
  private readonly copies = new Map<string, Tensor>();

  /** @param trains whether a parameter trains */
  constructor(private readonly trains: (name: string) => boolean) {}

  get isTaken(): boolean {
    return this.update >= 0;
  }

  /** Bytes of host memory that it takes on this rank. */
  bytes(setup: Standing): number {
    return this.tensors(setup).reduce((sum, [, { bytes }]) => sum + bytes, 0);
  }

  /** Whoever calls it has waited for the store. */
  take(setup: Standing, update: number): void {
    noGrad(() => {
      for (const [key, tensor] of this.tensors(setup)) {
        let copy = this.copies.get(key);
        if (copy === undefined) {
          copy = emptyOnHost(tensor.shape, tensor.dtype, setup.device).keep();
          this.copies.set(key, copy);
        }
        copy.copy_(tensor);
      }
    });
    this.update = update;
  }

  putBack(setup: Standing): void {
    const { store } = setup;
    noGrad(() => {
      const back = (list: readonly (readonly [string, Tensor])[]): void => {
        for (const [key, tensor] of list) tensor.copy_(this.copies.get(key)!);
      };
      back(this.weights(setup));
      // Masters that are made of weights come before those of the copy.
      store.weightsRead();
      back(this.state(setup));
    });
  }

  private tensors(setup: Standing): (readonly [string, Tensor])[] {
    return [...this.weights(setup), ...this.state(setup)];
  }

  private weights({ store }: Pick<Standing, 'store'>): (readonly [string, Tensor])[] {
    return named('weights', store.weights())
      .filter(([, , name]) => this.trains(name))
      .map(([key, tensor]) => [key, tensor]);
  }

  private state({ store, ...counted }: Standing): (readonly [string, Tensor])[] {
    const tensors = named('state', store.state());
    return [...tensors.map(([key, tensor]) => [key, tensor] as const), ...countedState(counted)];
  }

  dispose(): void {
    for (const copy of this.copies.values()) copy.dispose();
    this.copies.clear();
    this.update = -1;
  }
}

function named(kind: string, parts: readonly TensorPart[]): (readonly [string, Tensor, string])[] {
  return parts.map(({ name, from, tensor }) => [`${kind} ${name} ${from}`, tensor, name]);
}
