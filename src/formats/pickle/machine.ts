/**
 * The interpreter of a checkpoint's pickle: a stack machine that can build plain data and descriptions of tensors.
 *
 * It is restricted by construction, not by filtering: names resolve through one table (`globals.ts`), values are Maps,
 * arrays and classes of our own, opcodes that reach into the Python process (extension registry, out-of-band buffers)
 * do not exist. Nothing recurses, memory and work are counted against a limit.
 */
import { DataError } from '../../base/errors.js';
import { GLOBALS } from './globals.js';
import { KeyTable } from './keys.js';
import { setArrayState, NumpyDType } from './numpy.js';
import type { ByteStream } from './stream.js';
import { StreamFault } from './stream.js';
import {
  describe,
  isValue,
  Token,
  TokenTuple,
  tupleItems,
  type Builder,
  type Item,
} from './tokens.js';
import { NumpyArray, PickleRecord, PickleTuple, type PickleValue } from './values.js';

export interface MachineOptions {
  /** What messages call the pickle. */
  where: string;
  /** Makes a storage out of a persistent id; without it such ids are refused. */
  persistentLoad?: (id: Item, builder: Builder) => Item;
  /** Estimated bytes of memory that the values may take. @default 256 MiB */
  limit?: number;
}

const DEFAULT_LIMIT = 256 * 2 ** 20;
/** Rough costs in V8: a slot on the stack or in an array, an empty container, an entry of a Map. */
const SLOT = 16;
const CONTAINER = 160;
const ENTRY = 48;

/** The state of one run; `opcodes.ts` holds what each opcode does to it. */
export class Machine implements Builder {
  readonly stream: ByteStream;
  readonly #where: string;
  readonly #persistentLoad: MachineOptions['persistentLoad'];
  readonly #stack: Item[] = [];
  readonly #marks: number[] = [];
  readonly #memo = new Map<number, Item>();
  readonly #keys = new KeyTable();
  readonly #limit: number;
  #spent = 0;

  constructor(
    stream: ByteStream,
    { where, persistentLoad, limit = DEFAULT_LIMIT }: MachineOptions,
  ) {
    this.stream = stream;
    this.#where = where;
    this.#persistentLoad = persistentLoad;
    this.#limit = limit;
  }

  push(item: Item): void {
    this.charge(SLOT);
    this.#stack.push(item);
  }

  pop(): Item {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) this.fault('the stack is empty');
    return this.#stack.pop()!;
  }

  top(): Item {
    if (this.#stack.length <= (this.#marks.at(-1) ?? 0)) this.fault('the stack is empty');
    return this.#stack.at(-1)!;
  }

  mark(): void {
    this.charge(SLOT);
    this.#marks.push(this.#stack.length);
  }

  /** Removes the items above the last mark, and the mark. */
  popMark(): Item[] {
    const start = this.#marks.pop();
    if (start === undefined) this.fault('there is no mark');
    return this.#stack.splice(start);
  }

  /** POP: one item, or the mark on top of which there is none. */
  discard(): void {
    if (this.#marks.at(-1) === this.#stack.length) this.#marks.pop();
    else this.pop();
  }

  memoize(slot: number = this.#memo.size): void {
    this.charge(ENTRY);
    this.#memo.set(slot, this.top());
  }

  recall(slot: number): void {
    const item = this.#memo.get(slot);
    if (item === undefined) this.fault(`slot ${slot} was never set`);
    this.push(item);
  }

  /** A new container on the stack. */
  pushNew(container: PickleValue): void {
    this.charge(CONTAINER);
    this.push(container);
  }

  pushTuple(items: Item[]): void {
    this.charge(CONTAINER + items.length * SLOT);
    this.push(items.every(isValue) ? new PickleTuple(items) : new TokenTuple(items));
  }

  append(items: readonly Item[]): void {
    const list = this.top();
    if (!Array.isArray(list)) this.fault(`items are appended to ${describe(list)}`);
    this.charge(items.length * SLOT);
    for (const item of items) list.push(this.value(item));
  }

  setItems(items: readonly Item[]): void {
    const map = this.top();
    if (!(map instanceof Map)) this.fault(`items are set in ${describe(map)}`);
    if (items.length % 2 !== 0) this.fault('a key has no value');
    for (let at = 0; at < items.length; at += 2) {
      this.setItem(map, this.value(items[at]!), this.value(items[at + 1]!));
    }
  }

  addItems(items: readonly Item[]): void {
    const set = this.top();
    if (!(set instanceof Set)) this.fault(`items are added to ${describe(set)}`);
    for (const item of items) this.addItem(set, this.value(item));
  }

  setItem(map: Map<PickleValue, PickleValue>, key: PickleValue, value: PickleValue): void {
    this.charge(ENTRY);
    map.set(this.#key(map, key), value);
  }

  addItem(set: Set<PickleValue>, item: PickleValue): void {
    this.charge(ENTRY);
    set.add(this.#key(set, item));
  }

  #key(keys: { has(key: PickleValue): boolean }, key: PickleValue): PickleValue {
    const found = this.#keys.find(keys, key);
    if (found === undefined) this.fault(`${describe(key)} cannot be a key`);
    return found;
  }

  /** GLOBAL and its kin: the permitted thing of this name. */
  find(module: string, name: string): Item {
    const found = GLOBALS.get(`${module} ${name}`);
    if (found !== undefined) return found;
    throw this.refuse(
      'E_PICKLE_GLOBAL',
      `it names ${shorten(module)}.${shorten(name)}, which is not plain data.`,
      'Do not load it elsewhere unless you trust its source: it may run code. If you do, save its tensors as safetensors.',
    );
  }

  /** REDUCE and its kin: `callee(*args)`. */
  call(callee: Item, args: Item): void {
    const items = tupleItems(args);
    if (items === undefined) this.fault(`arguments are ${describe(args)}`);
    if (!(callee instanceof Token) || callee.call === undefined) {
      throw this.refuse('E_PICKLE_CALL', `it calls ${describe(callee)}.`);
    }
    this.charge(CONTAINER);
    this.push(callee.call(items, this));
  }

  /** BUILD: gives the object on top its state. Attributes of dictionaries (`_metadata`) are no content and dropped. */
  build(): void {
    const state = this.pop();
    const object = this.top();
    if (object instanceof NumpyDType) object.setState(state, this);
    else if (object instanceof NumpyArray) setArrayState(object, state, this);
    else if (object instanceof PickleRecord && state instanceof Map) {
      for (const [key, value] of state) {
        if (typeof key !== 'string') this.fault(`${describe(key)} is the name of an attribute`);
        this.setItem(object.state, key, value);
      }
    } else if (!(object instanceof Map && state instanceof Map)) {
      this.fault(`${describe(object)} is given ${describe(state)} as its state`);
    }
  }

  /** BINPERSID: the storage behind a persistent id. */
  loadPersistent(): void {
    const id = this.pop();
    if (this.#persistentLoad === undefined) this.fault('a persistent id stands where none may be');
    this.charge(CONTAINER);
    this.push(this.#persistentLoad(id, this));
  }

  /** STOP: the only item left. */
  finish(): PickleValue {
    const item = this.value(this.pop());
    if (this.#stack.length > 0 || this.#marks.length > 0)
      this.fault('values are left over at its end');
    return item;
  }

  /** The item as data: classes, functions and storages must not become part of the result. */
  value(item: Item): PickleValue {
    if (isValue(item)) return item;
    const what = item instanceof TokenTuple ? item.items.find((each) => !isValue(each)) : item;
    throw this.refuse('E_PICKLE_VALUE', `it keeps ${describe(what)} as a value.`);
  }

  charge(bytes: number): void {
    this.#spent += bytes;
    if (this.#spent <= this.#limit) return;
    throw this.refuse(
      'E_PICKLE_LIMIT',
      `its values would take more than ${Math.round(this.#limit / 2 ** 20)} MiB of memory beside the tensors.`,
      'Check where the file comes from; a checkpoint holds little besides tensors.',
    );
  }

  fault(what: string): never {
    throw new StreamFault(what);
  }

  refuse(code: string, message: string, hint?: string): Error {
    return new DataError(`${this.#where} is refused: ${message}`, {
      code,
      hint: hint ?? 'Do not trust this file. Save its weights again as safetensors.',
    });
  }
}

function shorten(name: string): string {
  const plain = name.replace(/[^\w.<>-]/g, '?');
  return plain.length > 100 ? `${plain.slice(0, 97)}...` : plain;
}
