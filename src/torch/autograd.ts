/** Autograd: gradients of some tensors with respect to others, and the modes that switch recording off. */

import { UsageError } from '../base/errors.js';
import { dtypeName, type DType } from './dtype.js';
import { B, room } from './door.js';
import { expectDone, expectValue } from './errors.js';
import { native } from './native.js';
import { refusePromise } from './refuse-promise.js';
import { Tensor } from './tensor.js';

/**
 * d(sum of outputs · upstream) / d(each input); `null` for an input that the outputs do not depend on.
 *
 * `upstream` has one gradient per output, shaped like it; a scalar output needs none. A graph serves one call: it is freed on the way.
 */
export function grad(
  outputs: readonly Tensor[],
  inputs: readonly Tensor[],
  upstream: readonly (Tensor | null)[] = [],
): (Tensor | null)[] {
  if (upstream.length !== 0 && upstream.length !== outputs.length) {
    throw new UsageError(
      `grad: ${outputs.length} outputs but ${upstream.length} upstream gradients`,
      {
        code: 'E_ARGUMENT',
        hint: 'Give one gradient per output (null for a scalar), or none at all.',
      },
    );
  }
  room(0, 2 + 2 * outputs.length + inputs.length);
  let at = 0;
  B[at++] = outputs.length;
  B[at++] = inputs.length;
  for (const tensor of outputs) B[at++] = tensor.handle;
  for (const tensor of inputs) B[at++] = tensor.handle;
  for (let i = 0; i < outputs.length; i++) B[at++] = upstream[i]?.handle ?? 0;
  expectDone(native.grad(), 'grad()');
  const gradients: (Tensor | null)[] = [];
  for (let i = 0; i < inputs.length; i++) gradients.push(B[i] === 0 ? null : new Tensor(B[i]!));
  return gradients;
}

function withGradMode<T>(enabled: boolean, run: () => T, name: string): T {
  const before = expectValue(native.setGradMode(enabled), name);
  try {
    const result = run();
    refusePromise(
      result,
      name,
      `Grad mode belongs to the thread: call ${name}() around each synchronous part.`,
    );
    return result;
  } finally {
    native.setGradMode(before);
  }
}

/** Runs a synchronous function without recording. */
export function noGrad<T>(run: () => T): T {
  return withGradMode(false, run, 'noGrad');
}

/** Runs a synchronous function with recording, inside `noGrad` too. */
export function enableGrad<T>(run: () => T): T {
  return withGradMode(true, run, 'enableGrad');
}

/** Whether operators are being recorded. */
export function isGradEnabled(): boolean {
  return native.gradMode();
}

/**
 * Runs a synchronous function in inference mode: faster than `noGrad`, but its tensors can never be saved for a backward.
 * For generation only.
 */
export function inferenceMode<T>(run: () => T): T {
  let result: T | undefined;
  const failure = native.inferenceMode(() => {
    result = withGradMode(false, run, 'inferenceMode');
  });
  expectValue(failure, 'inferenceMode');
  return result as T;
}

/** A node of the recorded graph, and what it saved for its backward. */
export interface GraphNode {
  readonly name: string;
  readonly saved: readonly {
    readonly dtype: DType | undefined;
    readonly shape: readonly number[];
  }[];
}

/** The graph behind a tensor, depth first; leaves are left out. */
export function graph(tensor: Tensor): GraphNode[] {
  return expectValue(native.graph(tensor.handle), 'graph()').map(({ name, saved }) => ({
    name,
    saved: saved.map(({ dtype, shape }) => ({ dtype: dtypeName(dtype), shape })),
  }));
}
