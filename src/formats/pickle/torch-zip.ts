/**
 * The zip container of `torch.save` (torch 1.6 and later): `ROOT/data.pkl`, `ROOT/byteorder`, `ROOT/version` and one
 * record `ROOT/data/KEY` per storage.
 */
import { DataError } from '../../base/errors.js';
import type { ByteSource } from '../source.js';
import { dtypeBytes } from '../stored.js';
import { ZipArchive } from '../zip.js';
import { StorageTable } from './storages.js';
import { ByteStream } from './stream.js';
import { unpickle } from './unpickle.js';
import type { PickleStorage, PickleValue } from './values.js';

/** Bytes of `data.pkl`: a checkpoint spends about 150 per tensor. */
const MAX_PICKLE = 64 * 2 ** 20;
const MAX_NOTE = 64;
/** The versions that torch knows. */
const VERSIONS = { least: 1, most: 10 };
/** What deflated storages may take in memory: this much, or this many times the file, whichever is more. */
const INFLATED_FLOOR = 256 * 2 ** 20;
const INFLATED_RATIO = 20;

/** Reads the checkpoint and finds the bytes of every storage that it names. */
export async function readTorchZip(
  source: ByteSource,
  { verify, signal }: { verify: boolean; signal?: AbortSignal | undefined },
): Promise<PickleValue> {
  const archive = await ZipArchive.open(source);
  const { entries } = archive;
  const root = rootOf(source, [...entries.keys()]);
  if (entries.has(`${root}/constants.pkl`)) {
    throw bad(source, 'E_TORCHSCRIPT', 'it is a TorchScript program, not a checkpoint.');
  }
  const note = async (name: string): Promise<string | undefined> => {
    const entry = entries.get(`${root}/${name}`);
    return (
      entry &&
      Buffer.from(await archive.read(entry, MAX_NOTE))
        .toString('latin1')
        .trim()
    );
  };
  const version = (await note('version')) ?? (await note('.data/version'));
  const known = /^\d+$/.test(version ?? '') ? Number(version) : NaN;
  if (!(known >= VERSIONS.least && known <= VERSIONS.most)) {
    throw bad(source, 'E_CHECKPOINT', `its version is ${JSON.stringify(version ?? null)}.`);
  }
  const byteOrder = (await note('byteorder')) ?? 'little';
  if (byteOrder !== 'little' && byteOrder !== 'big') {
    throw bad(source, 'E_CHECKPOINT', `its byte order is ${JSON.stringify(byteOrder)}.`);
  }
  const pickle = entries.get(`${root}/data.pkl`);
  if (pickle === undefined) throw bad(source, 'E_NOT_CHECKPOINT', `it has no ${root}/data.pkl.`);
  const storages = new StorageTable();
  const stream = new ByteStream(await archive.read(pickle, MAX_PICKLE));
  const where = `${source.path} (data.pkl)`;
  const value = unpickle(stream, { where, persistentLoad: storages.fromZip });
  if (stream.remaining > 0) {
    throw bad(source, 'E_PICKLE_STREAM', `${stream.remaining} bytes follow the end of its pickle.`);
  }
  const isBig = byteOrder === 'big';
  let room = Math.max(INFLATED_FLOOR, source.size * INFLATED_RATIO);
  for (const storage of storages.all.values()) {
    signal?.throwIfAborted();
    const entry = entries.get(`${root}/data/${storage.key}`);
    if (entry?.size !== storage.bytes) {
      const there = entry === undefined ? 'does not exist' : `holds ${entry.size} bytes`;
      const what = `record data/${storage.key} ${there}, the pickle declares ${storage.bytes}.`;
      throw bad(source, 'E_PICKLE_STORAGE', what);
    }
    if (!entry.deflated && !isBig) {
      storage.place = { offset: await archive.locate(entry, { verify, signal }) };
    } else {
      const data = await archive.read(entry, room);
      room -= entry.size;
      storage.place = { data: isBig ? toLittleEndian(data, storage, source) : data };
    }
  }
  return value;
}

/** The folder that holds every entry; torch takes it from the file's name at the time of saving. */
function rootOf(source: ByteSource, names: readonly string[]): string {
  const [root = ''] = names[0]?.split('/') ?? [];
  const stray = names.find((name) => !name.startsWith(`${root}/`));
  if (names.length === 0 || stray !== undefined) {
    const what = stray === undefined ? 'is empty' : `holds ${JSON.stringify(stray.slice(0, 100))}`;
    throw bad(source, 'E_NOT_CHECKPOINT', `it is a zip archive, but no checkpoint: it ${what}.`);
  }
  return root;
}

function toLittleEndian(
  data: Uint8Array,
  { dtype }: PickleStorage,
  source: ByteSource,
): Uint8Array {
  if (dtype === 'untyped') {
    throw bad(source, 'E_CHECKPOINT', 'it holds big-endian bytes of no declared type.');
  }
  const bytes = Buffer.from(data.buffer, data.byteOffset, data.byteLength);
  // The two halves of a complex number are swapped each for itself.
  const width = dtypeBytes(dtype) / (dtype.startsWith('C') ? 2 : 1);
  if (width === 2) bytes.swap16();
  if (width === 4) bytes.swap32();
  if (width === 8) bytes.swap64();
  return data;
}

function bad(source: ByteSource, code: string, what: string): DataError {
  return new DataError(`${source.path} is refused: ${what}`, {
    code,
    hint: 'Download or copy the file again; if that does not help, save its weights as safetensors.',
  });
}
