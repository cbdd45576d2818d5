import { expect, test } from 'vitest';

import { KeyTable } from './keys.js';
import { PickleTuple, TorchSize, type PickleValue } from './values.js';

/** Sets keys one after the other and returns those that remain. */
function keysOf(...keys: PickleValue[]): PickleValue[] {
  const table = new KeyTable();
  const map = new Map<PickleValue, number>();
  for (const key of keys) map.set(table.find(map, key)!, 0);
  return [...map.keys()];
}

test('1, 1.0 and True are one key, whichever comes first', () => {
  expect(keysOf(1n, 1, true)).toEqual([1n]);
  expect(keysOf(true, 1, 1n, 2n, 2)).toEqual([true, 2n]);
  expect(keysOf(0, false, 0n, -0)).toEqual([0]);
});

test('numbers that only look equal are two keys', () => {
  expect(keysOf(2n ** 53n + 1n, 2 ** 53)).toHaveLength(2);
  expect(keysOf(10n ** 400n, Infinity)).toHaveLength(2);
  expect(keysOf('1', 1n, null, 'null')).toHaveLength(4);
});

test('tuples and bytes are compared by content', () => {
  const pair = (a: PickleValue, b: PickleValue) => new PickleTuple([a, b]);
  expect(keysOf(pair('a', pair(1n, null)), pair('a', pair(1, null)))).toHaveLength(1);
  expect(keysOf(pair('a', pair(1n, null)), pair('a', pair(2n, null)))).toHaveLength(2);
  expect(keysOf(new PickleTuple([1n, 2n]), new TorchSize([1n, 2n]))).toHaveLength(1);
  expect(keysOf(new Uint8Array([1]), new Uint8Array([1]), new Uint8Array([2]))).toHaveLength(2);
  expect(keysOf(new Uint8Array([97]), 'a')).toHaveLength(2);
});

test('lists and dictionaries are no keys, in tuples neither', () => {
  const table = new KeyTable();
  expect(table.find(new Map(), [])).toBeUndefined();
  expect(
    table.find(new Set(), new PickleTuple([1n, new PickleTuple([new Map()])])),
  ).toBeUndefined();
});

test('a tuple 50,000 deep and one 50,000 wide are looked through once', () => {
  let looks = 0;
  const tuple = (items: PickleValue[]): PickleTuple => {
    const counted: ProxyHandler<PickleValue[]> = {
      get: (target, name, self): unknown => {
        looks++;
        return Reflect.get(target, name, self);
      },
    };
    return new PickleTuple(new Proxy(items, counted));
  };
  const size = 50_000;
  let deep = tuple([]);
  for (let level = 0; level < size; level++) deep = tuple([deep]);
  const wide = tuple(Array.from({ length: size }, (_, n) => tuple([BigInt(n)])));
  expect(keysOf(deep, wide, deep, wide)).toHaveLength(2);
  // Some looks at each of the two times 50,000 tuples, of which there are more when they are keys for a second time.
  expect(looks).toBeGreaterThan(2 * size);
  expect(looks).toBeLessThan(20 * size);
});
