/**
 * Opt-in tracing: where each tensor was made, so that a use after dispose can name the place (`PATINA_TRACE_TENSORS=1`).
 *
 * A disposed tensor's handle becomes a negative number of its own, by which its site is found again.
 */

import type { Held } from './native.js';

/** Far below anything that lies in the buffer for another reason. */
const BASE = -(2 ** 40);

let enabled = process.env['PATINA_TRACE_TENSORS'] === '1';
const sites = new Map<number, string>();
/** The latest disposals, by the handle that they left behind. */
const disposed = new Map<number, string>();
const DISPOSED_LIMIT = 1 << 16;
let disposals = 0;

/** Switches tracing on or off for tensors made from now on. */
export function traceTensors(on: boolean): void {
  enabled = on;
}

/** First line of the caller's stack that lies outside this room. */
function callerSite(): string {
  const lines = new Error().stack?.split('\n').slice(1) ?? [];
  const outside = lines.find(
    (line) => !/[/\\]torch[/\\](?!.*\.test\.)/.test(line) && !line.includes('(native)'),
  );
  return (outside ?? lines[0] ?? 'unknown').trim().replace(/^at /, '');
}

export function recordSite(tensor: Held): void {
  if (enabled) sites.set(tensor.handle, callerSite());
}

/** The handle that a tensor carries after it was disposed. */
export function disposedHandle(handle: number): number {
  if (!enabled) return -1;
  const made = sites.get(handle);
  if (made === undefined) return -1;
  sites.delete(handle);
  const left = BASE - disposals++;
  disposed.set(left, `(made at ${made}, disposed at ${callerSite()})`);
  disposed.delete(left + DISPOSED_LIMIT);
  return left;
}

/** A tensor was freed without having been disposed. */
export function forgetSite(handle: number): void {
  if (enabled) sites.delete(handle);
}

/** Where a disposed tensor was made and disposed; `undefined` where that is not known. */
export function describeSite(handle: number): string | undefined {
  return handle <= BASE ? disposed.get(handle) : undefined;
}

/** Where the traced tensors that are alive were made. */
export function liveSites(): string[] {
  return [...sites.values()];
}
