/**
 * Scopes: every tensor made inside is freed at the end, except what is returned.
 *
 * Garbage collection cannot manage tensors: finalizers run only after a synchronous loop has ended. A synchronous scope is the
 * current one while its function runs; an asynchronous one follows its own chain of awaits (`AsyncLocalStorage`), so that
 * scopes which overlap in time stay apart. There is no process-wide stack.
 */

import { AsyncLocalStorage } from 'node:async_hooks';
import { B, room } from './door.js';
import { expectDone } from './errors.js';
import { native } from './native.js';
import { refusePromise } from './refuse-promise.js';
import type { Tensor } from './tensor.js';

/** Objects that hold tensors implement this, so that scopes can keep what they hold. */
export const TENSORS = Symbol.for('patina.tensors');

/** An object that names the tensors it holds. */
export interface TensorHolder {
  [TENSORS](): Iterable<Tensor>;
}

/** The tensors of one scope. A tensor knows its place, so that disposing it early takes constant time. */
export class Scope {
  readonly tensors: Tensor[] = [];
  closed = false;

  constructor(
    /** The scope around it. */
    readonly parent: Scope | null,
  ) {}

  add(tensor: Tensor): void {
    tensor.scope = this;
    tensor.place = this.tensors.length;
    this.tensors.push(tensor);
  }

  remove(tensor: Tensor): void {
    const last = this.tensors.pop()!;
    if (last !== tensor) {
      this.tensors[tensor.place] = last;
      last.place = tensor.place;
    }
    tensor.scope = null;
  }

  /** Frees what is left. */
  close(): void {
    this.closed = true;
    const { tensors } = this;
    if (tensors.length === 0) return;
    room(0, tensors.length);
    const buffer = B;
    for (let i = 0; i < tensors.length; i++) {
      const tensor = tensors[i]!;
      buffer[i] = tensor.handle;
      tensor.forget();
    }
    const count = tensors.length;
    tensors.length = 0;
    expectDone(native.release(count), 'scope');
  }
}

let current: Scope | null = null;
const ambient = new AsyncLocalStorage<Scope>();
/** Asynchronous scopes that are open anywhere: while there are none, the storage need not be asked. */
let openAsync = 0;

/** The scope that a tensor made now belongs to; `null` outside of all scopes. */
export function currentScope(): Scope | null {
  return current ?? (openAsync === 0 ? null : nearestOpen(ambient.getStore() ?? null));
}

/** Code that nobody awaited may outlive its scope: what it makes or returns goes to the next one around that is open. */
function nearestOpen(from: Scope | null): Scope | null {
  let scope = from;
  while (scope?.closed === true) scope = scope.parent;
  return scope;
}

/** Every tensor in a value, once: tensors, arrays, maps, sets, plain objects and holders, however nested. */
export function tensorsIn(value: unknown): Tensor[] {
  const found: Tensor[] = [];
  if (typeof value === 'object' && value !== null) collect(value, found, new Set());
  return found;
}

function collect(value: unknown, found: Tensor[], seen: Set<object>): void {
  if (typeof value !== 'object' || value === null || seen.has(value)) return;
  seen.add(value);
  if (isTensor(value)) {
    found.push(value);
  } else if (TENSORS in value) {
    found.push(...(value as TensorHolder)[TENSORS]());
  } else if (Array.isArray(value) || value instanceof Set) {
    for (const element of value) collect(element, found, seen);
  } else if (value instanceof Map) {
    for (const [key, element] of value) {
      collect(key, found, seen);
      collect(element, found, seen);
    }
  } else {
    const prototype: unknown = Object.getPrototypeOf(value);
    if (prototype !== Object.prototype && prototype !== null) return;
    for (const key in value) collect((value as Record<string, unknown>)[key], found, seen);
  }
}

function isTensor(value: object): value is Tensor {
  return 'handle' in value && 'scope' in value && 'forget' in value;
}

/** Moves what a value holds from a scope to the one around it, or out of all scopes. */
function handOver(value: unknown, from: Scope, to: Scope | null): void {
  // A single tensor is by far the most frequent result.
  if (typeof value !== 'object' || value === null) return;
  for (const tensor of isTensor(value) ? [value] : tensorsIn(value)) {
    if (tensor.scope !== from) continue;
    from.remove(tensor);
    if (to === null) tensor.own();
    else to.add(tensor);
  }
}

const ASYNC_HINT = 'Use scopeAsync() for asynchronous functions.';

/**
 * Runs a function and frees every tensor made inside except what it returns (tensors in arrays, maps, plain objects too).
 *
 * @throws UsageError `E_SCOPE_ASYNC` if the function returns a promise: use `scopeAsync`.
 */
export function scope<T>(run: () => T): T {
  const outer = current;
  const around = currentScope();
  const inner = new Scope(around);
  current = inner;
  try {
    const result = run();
    refusePromise(result, 'scope', ASYNC_HINT);
    handOver(result, inner, around);
    return result;
  } finally {
    current = outer;
    inner.close();
  }
}

/** A value whose tensors live until it is disposed, across whatever runs in between. */
export interface Holding<T> extends Disposable {
  readonly value: T;
  dispose(): void;
}

/**
 * Runs a synchronous function and keeps every tensor made inside until the result is disposed.
 *
 * @throws UsageError `E_SCOPE_ASYNC` if the function returns a promise.
 */
export function hold<T>(run: () => T): Holding<T> {
  const inner = new Scope(currentScope());
  const outer = current;
  current = inner;
  let value: T;
  try {
    value = run();
    refusePromise(value, 'hold', ASYNC_HINT);
  } catch (error) {
    inner.close();
    throw error;
  } finally {
    current = outer;
  }
  const dispose = (): void => inner.close();
  return { value, dispose, [Symbol.dispose]: dispose };
}

/** The asynchronous form of `scope`: tensors made in the function's own chain of awaits belong to it. */
export async function scopeAsync<T>(run: () => Promise<T>): Promise<T> {
  const around = currentScope();
  const inner = new Scope(around);
  const outer = current;
  openAsync++;
  try {
    // The synchronous beginning of the function must not see the caller's synchronous scope.
    current = null;
    let promise: Promise<T>;
    try {
      promise = ambient.run(inner, run);
    } finally {
      current = outer;
    }
    const result = await promise;
    handOver(result, inner, nearestOpen(around));
    return result;
  } finally {
    inner.close();
    openAsync--;
  }
}
