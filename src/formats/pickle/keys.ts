/**
 * Python's rule of equal keys for JavaScript's Map and Set, which compare by type and identity: in Python `1`, `1.0` and
 * `True` are one key, and tuples and bytes are compared by their content.
 */
import { PickleTuple, TorchDevice, TorchDType, TorchSize, type PickleValue } from './values.js';

/** Finds, for a key, the equal one that was used before. One table serves one pickle. */
export class KeyTable {
  readonly #atoms = new Map<unknown, number>();
  readonly #contents = new Map<string, number>();
  readonly #known = new Map<object, number>();
  readonly #firsts = new Map<number, PickleValue>();
  #count = 0;

  /** The key under which `keys` (a Map or a Set) holds or shall hold `key`; undefined if Python could not hash it. */
  find(keys: { has(key: PickleValue): boolean }, key: PickleValue): PickleValue | undefined {
    if (typeof key === 'string' || key === null) return key;
    if (typeof key !== 'object') return equals(key).find((equal) => keys.has(equal)) ?? key;
    const id = key instanceof PickleTuple ? this.#identifyTuple(key) : this.#identify(key);
    if (id === undefined) return undefined;
    if (!this.#firsts.has(id)) this.#firsts.set(id, key);
    return this.#firsts.get(id);
  }

  /** Goes through nested tuples without recursion, and through each of them once. */
  #identifyTuple(key: PickleTuple): number | undefined {
    const open = this.#known.has(key) ? [] : [{ tuple: key, next: 0 }];
    for (let top = open.at(-1); top !== undefined; top = open.at(-1)) {
      const { tuple } = top;
      if (top.next < tuple.items.length) {
        const item = tuple.items[top.next++];
        const isNew = item instanceof PickleTuple && !this.#known.has(item);
        if (isNew) open.push({ tuple: item, next: 0 });
        continue;
      }
      const ids = tuple.items.map((each) => this.#identify(each));
      if (ids.includes(undefined)) return undefined;
      this.#known.set(tuple, this.#contentId(`tuple ${ids.join(' ')}`));
      open.pop();
    }
    return this.#known.get(key);
  }

  /** One number per content; a tuple must have been identified before. */
  #identify(item: PickleValue): number | undefined {
    if (item === null || typeof item !== 'object') {
      const value = item === null || typeof item === 'string' ? item : equals(item)[0]!;
      let id = this.#atoms.get(value);
      if (id === undefined) this.#atoms.set(value, (id = this.#count++));
      return id;
    }
    const known = this.#known.get(item);
    if (known !== undefined) return known;
    let content: string;
    if (item instanceof Uint8Array) content = `bytes ${Buffer.from(item).toString('hex')}`;
    else if (item instanceof TorchDType || item instanceof TorchDevice) content = item.name;
    else if (item instanceof TorchSize) {
      content = `tuple ${item.sizes.map((size) => this.#identify(size)).join(' ')}`;
    } else return undefined;
    const id = this.#contentId(content);
    this.#known.set(item, id);
    return id;
  }

  #contentId(content: string): number {
    let id = this.#contents.get(content);
    if (id === undefined) this.#contents.set(content, (id = this.#count++));
    return id;
  }
}

/** The numbers that Python holds equal to `value`, whatever their type; the integer first if it is whole. */
function equals(value: boolean | bigint | number): (boolean | bigint | number)[] {
  const float = Number(value);
  if (!Number.isInteger(float)) return [value];
  const whole = BigInt(value);
  const all: (boolean | bigint | number)[] = [whole];
  if (BigInt(float) === whole) all.push(float);
  if (whole === 0n || whole === 1n) all.push(whole === 1n);
  return all;
}
