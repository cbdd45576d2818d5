/**
 * What the interpreter handles but never hands out: permitted classes and functions, storages, half-built numpy types,
 * and tuples that contain such things. They exist only as arguments of the few permitted calls; putting one into a list,
 * a dictionary or the result is refused.
 */
import type { PickleValue } from './values.js';
import { PickleStorage, PickleTuple } from './values.js';

/** What permitted functions may ask of the interpreter. */
export interface Builder {
  /** The refusal of this file, to be thrown. */
  refuse(code: string, message: string, hint?: string): Error;
  /** Counts memory or work against the limit of this file. */
  charge(bytes: number): void;
  /** Sets `map[key] = value` by Python's rule of equal keys. */
  setItem(map: Map<PickleValue, PickleValue>, key: PickleValue, value: PickleValue): void;
  /** Adds to a set by the same rule. */
  addItem(set: Set<PickleValue>, item: PickleValue): void;
}

/** A class or function that a pickle may name. */
export class Token {
  readonly kind = 'token';

  constructor(
    readonly name: string,
    /** What calling it gives; without this it can only be an argument. */
    readonly call?: (args: readonly Item[], builder: Builder) => Item,
  ) {}
}

/** A tuple that holds at least one token. */
export class TokenTuple {
  constructor(readonly items: readonly Item[]) {}
}

/** Anything on the interpreter's stack. */
export type Item = PickleValue | Token | TokenTuple | PickleStorage;

/** Whether an item is data, and so may become part of the result. */
export function isValue(item: Item): item is PickleValue {
  return !(item instanceof Token || item instanceof TokenTuple || item instanceof PickleStorage);
}

/** The items of a tuple of either kind. */
export function tupleItems(item: Item): readonly Item[] | undefined {
  return item instanceof PickleTuple || item instanceof TokenTuple ? item.items : undefined;
}

/** What an item is, for messages. */
export function describe(item: Item | undefined): string {
  if (item === undefined) return 'nothing';
  if (item === null) return 'None';
  if (item === true || item === false) return item ? 'True' : 'False';
  if (typeof item === 'string') {
    return `text ${JSON.stringify(item.length > 40 ? `${item.slice(0, 37)}...` : item)}`;
  }
  if (typeof item === 'number') return `the float ${item}`;
  if (typeof item === 'bigint') {
    const isShort = BigInt.asIntN(128, item) === item;
    return isShort ? `the integer ${item}` : 'an integer of more than 128 bits';
  }
  if (item instanceof Token) return item.name;
  if (Array.isArray(item)) return 'a list';
  if (item instanceof Map) return 'a dictionary';
  if (item instanceof Set) return 'a set';
  if (item instanceof Uint8Array) return 'bytes';
  return tupleItems(item) === undefined ? `a ${item.constructor.name}` : 'a tuple';
}
