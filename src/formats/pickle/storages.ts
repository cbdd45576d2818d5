/** Storages as persistent ids name them: `('storage', torch.FloatStorage, key, location, elements[, view])`. */
import { dtypeBytes } from '../stored.js';
import { StorageClass } from './tensors.js';
import { describe, tupleItems, type Builder, type Item } from './tokens.js';
import { PickleStorage } from './values.js';

/** The storages that one pickle has named, by key. */
export class StorageTable {
  readonly all = new Map<string, PickleStorage>();

  /** A persistent id of the zip container: five fields. */
  readonly fromZip = (id: Item, builder: Builder): PickleStorage => {
    const { storage, rest } = this.#root(id, builder);
    if (rest.length > 0) throw bad(builder, 'it has more than five fields');
    return storage;
  };

  /** A persistent id of the legacy container: the sixth field is None or `(key, offset, elements)`, a part of the storage. */
  readonly fromLegacy = (id: Item, builder: Builder): PickleStorage => {
    const { storage, size, rest } = this.#root(id, builder);
    const [view, ...more] = rest;
    if (view === undefined || more.length > 0) throw bad(builder, 'it has not six fields');
    if (view === null) return storage;
    const [key, offset, count, ...fields] = tupleItems(view) ?? [];
    if (typeof key !== 'string' || fields.length > 0) throw bad(builder, 'its view is no triple');
    const start = byteCount(offset, size, builder);
    const bytes = byteCount(count, size, builder);
    if (start + bytes > storage.bytes) {
      throw bad(builder, `its view ends at byte ${start + bytes} of ${storage.bytes}`);
    }
    return new PickleStorage(key, storage.dtype, bytes, { of: storage, start });
  };

  #root(
    id: Item,
    builder: Builder,
  ): { storage: PickleStorage; size: number; rest: readonly Item[] } {
    const [tag, type, key, location, count, ...rest] = tupleItems(id) ?? [id];
    if (tag !== 'storage') throw bad(builder, `it is ${describe(tag)}, not "storage"`);
    if (!(type instanceof StorageClass)) throw bad(builder, `its type is ${describe(type)}`);
    if (typeof key !== 'string') throw bad(builder, `its key is ${describe(key)}`);
    if (typeof location !== 'string') throw bad(builder, `its location is ${describe(location)}`);
    const size = type.dtype === 'untyped' ? 1 : dtypeBytes(type.dtype);
    const bytes = byteCount(count, size, builder);
    const known = this.all.get(key);
    if (known !== undefined && (known.dtype !== type.dtype || known.bytes !== bytes)) {
      throw bad(builder, `${describe(key)} is declared twice, as different storages`);
    }
    const storage = known ?? new PickleStorage(key, type.dtype, bytes);
    this.all.set(key, storage);
    return { storage, size, rest };
  }
}

function byteCount(count: Item | undefined, size: number, builder: Builder): number {
  const bytes = typeof count === 'bigint' ? count * BigInt(size) : -1n;
  if (bytes < 0n || bytes > BigInt(Number.MAX_SAFE_INTEGER)) {
    throw bad(builder, `it counts ${describe(count)} elements`);
  }
  return Number(bytes);
}

function bad(builder: Builder, what: string): Error {
  return builder.refuse(
    'E_PICKLE_STORAGE',
    `the persistent id of a storage is not sound: ${what}.`,
  );
}
