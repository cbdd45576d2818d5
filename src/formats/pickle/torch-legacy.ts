/**
 * The legacy container of `torch.save` (before torch 1.6): five pickles one after the other (magic number, protocol
 * version, facts about the machine, the object, the keys of its storages), then for each key a count and raw bytes.
 */
import { DataError } from '../../base/errors.js';
import { dtypeBytes } from '../stored.js';
import type { ByteSource } from '../source.js';
import { StorageTable } from './storages.js';
import { ByteStream } from './stream.js';
import { unpickle } from './unpickle.js';
import type { PickleValue } from './values.js';

const MAGIC = 0x1950a86a20f9469cfc6cn;
const PROTOCOL = 1001n;
/** Bytes of the five pickles together. */
const MAX_PICKLES = 64 * 2 ** 20;

/** Reads the checkpoint and finds the bytes of every storage that it names. */
export async function readTorchLegacy(source: ByteSource): Promise<PickleValue> {
  const stream = new ByteStream(await source.read(0, Math.min(source.size, MAX_PICKLES)));
  const next = (part: string, storages?: StorageTable): PickleValue =>
    unpickle(stream, {
      where: `${source.path} (${part})`,
      ...(storages && { persistentLoad: storages.fromLegacy }),
    });
  checkMagic(source, () => next('magic number'));
  const protocol = next('protocol version');
  if (protocol !== PROTOCOL) throw bad(source, 'its protocol version is not 1001.');
  const facts = next('system information');
  if (!(facts instanceof Map) || facts.get('little_endian') !== true) {
    throw bad(source, 'it does not say that its numbers are little-endian.');
  }
  const storages = new StorageTable();
  const value = next('object', storages);
  const keys = next('storage keys');
  if (!Array.isArray(keys)) throw bad(source, 'its storage keys are no list.');
  let at = stream.position;
  for (const key of keys) {
    const storage = typeof key === 'string' ? storages.all.get(key) : undefined;
    if (storage === undefined || storage.place !== undefined) {
      throw bad(source, 'its list of storage keys does not match the storages that it names.');
    }
    const count = Buffer.from(await source.read(at, 8)).readBigInt64LE();
    const size = storage.dtype === 'untyped' ? 1 : dtypeBytes(storage.dtype);
    if (count * BigInt(size) !== BigInt(storage.bytes)) {
      throw bad(
        source,
        `storage ${JSON.stringify(key)} announces ${count} elements of ${size} bytes, the pickle declares ${storage.bytes} bytes.`,
      );
    }
    storage.place = { offset: at + 8 };
    at += 8 + storage.bytes;
    if (at > source.size) {
      throw bad(source, `storage ${JSON.stringify(key)} ends at byte ${at} of ${source.size}.`);
    }
  }
  if (keys.length !== storages.all.size) {
    throw bad(source, `it names ${storages.all.size} storages and holds ${keys.length}.`);
  }
  if (at !== source.size) throw bad(source, `${source.size - at} bytes follow its last storage.`);
  return value;
}

/** The first pickle decides whether this is torch's file at all. */
function checkMagic(source: ByteSource, read: () => PickleValue): void {
  let cause: unknown;
  try {
    if (read() === MAGIC) return;
  } catch (error) {
    // A refusal for what the pickle would do says more than that it is no checkpoint.
    if (!(error instanceof DataError && error.code === 'E_PICKLE_STREAM')) throw error;
    cause = error;
  }
  throw new DataError(`${source.path} is not a checkpoint of torch: it has not its magic number.`, {
    code: 'E_NOT_CHECKPOINT',
    hint: 'Check that the file is what its name says, or save its weights as safetensors.',
    cause,
  });
}

function bad(source: ByteSource, what: string): DataError {
  return new DataError(`${source.path} is refused: ${what}`, {
    code: 'E_PICKLE_STORAGE',
    hint: 'Download or copy the file again; if that does not help, save its weights as safetensors.',
  });
}
