/**
 * Writing tensors that ranks share out, into the safetensors files that one process would write: each rank writes its own parts at
 * their places, and nobody holds more than a piece of one.
 */

import { open, writeFile, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import { DataError } from '../../base/errors.js';
import { writing } from '../../base/system-error.js';
import { layOut, type Shaped } from '../../formats/safetensors/layout.js';
import { planShards } from '../../formats/safetensors/shards.js';
import { createSafetensors } from '../../formats/safetensors/write.js';
import { dtypeBytes, elementCount, type StoredTensor } from '../../formats/stored.js';
import { rowsBeside } from '../../models/export/stream-weights.js';
import { bytePieces, storedDType } from '../../models/index.js';
import { onFirst, together, type Peers, type TensorPart } from '../../parallel/index.js';

export interface PartFiles {
  /** First part of the files' names. */
  readonly stem: string;
  /** This rank's parts, under their names in the files. */
  readonly parts: readonly TensorPart[];
  /** Bytes of tensors per file. @default 5e9 */
  readonly shardBytes?: number | undefined;
  /** How many rows a tensor is written with beside its own, as an export adds them. @default none */
  readonly newRows?: ((name: string) => number) | undefined;
}

/**
 * Writes the tensors into the folder; every rank calls it.
 *
 * @throws DataError `E_TENSOR_NAMES`, `E_TENSOR_BYTES` where the parts of all ranks are not the whole; EnvironmentError
 *   `E_DISK_FULL`, `E_UNWRITABLE`; on all ranks what failed on one
 */
export async function writeParts(
  folder: string,
  { stem, parts, shardBytes, newRows = () => 0 }: PartFiles,
  peers: Peers,
): Promise<void> {
  const own = parts.filter(({ writes }) => writes);
  // A tensor is told by who has its first element.
  const told = own.filter(({ from }) => from === 0).map((part) => shaped(part, newRows(part.name)));
  const tensors = (await peers.gather(`tensors of ${stem}`, told)).flat();
  const { shards, index } = planShards(folder, tensors, { stem, shardBytes });
  const layouts = shards.map((shard) => layOut(join(folder, shard.file), shard.tensors));
  await onFirst(peers, `files of ${stem}`, () =>
    writing(folder, 'write the checkpoint', async () => {
      for (const layout of layouts) await createSafetensors(layout);
      if (index === undefined) return;
      await writeFile(join(folder, index.file), index.content, { flag: 'wx' });
    }),
  );
  const places = new Map(layouts.flatMap((layout) => [...layout.places]));
  const written = await together(peers, `parts of ${stem}`, () =>
    writing(folder, 'write the checkpoint', () => writeOwn(own, places)),
  );
  checkWhole(folder, tensors, newRows, written);
  const grown = tensors.filter(({ name }) => newRows(name) > 0);
  if (grown.length === 0) return;
  await onFirst(peers, `rows of ${stem}`, () =>
    writing(folder, 'write the checkpoint', async () => {
      for (const { name } of grown) await writeRows(places.get(name)!, newRows(name));
    }),
  );
}

function shaped({ name, shape, tensor, dtype = tensor.dtype }: TensorPart, rows: number): Shaped {
  const [first, ...rest] = shape;
  const grown = rows === 0 ? shape : [first! + rows, ...rest];
  return { name, dtype: storedDType(dtype), shape: grown };
}

/** Writes parts at their places, and syncs: another machine reads the files to hash them. Returns the elements by name. */
async function writeOwn(
  parts: readonly TensorPart[],
  places: ReadonlyMap<string, StoredTensor>,
): Promise<Record<string, number>> {
  const fileOf = ({ name }: TensorPart): string => places.get(name)!.file;
  const written: Record<string, number> = {};
  for (const path of new Set(parts.map(fileOf))) {
    const inFile = parts.filter((part) => fileOf(part) === path);
    await changing(path, async (file) => {
      for (const { name, from, tensor, dtype } of inFile) {
        const place = places.get(name)!;
        let at = place.offset + from * dtypeBytes(place.dtype);
        for (const piece of bytePieces(tensor, { dtype })) {
          await writeAt(file, piece, at);
          at += piece.length;
        }
        written[name] = (written[name] ?? 0) + tensor.numel;
      }
    });
  }
  return written;
}

/** The rows that an export adds, after those that have been written. */
async function writeRows(place: StoredTensor, rows: number): Promise<void> {
  const [first = 0, ...rest] = place.shape;
  const bytes = (place.bytes / first) * (first - rows);
  using added = await rowsBeside({ ...place, shape: [first - rows, ...rest], bytes }, rows);
  await changing(place.file, (file) => writeAt(file, added.toBytes(), place.offset + bytes));
}

async function changing(path: string, change: (file: FileHandle) => Promise<void>): Promise<void> {
  const file = await open(path, 'r+');
  try {
    await change(file);
    await file.sync();
  } finally {
    await file.close();
  }
}

async function writeAt(file: FileHandle, bytes: Uint8Array, at: number): Promise<void> {
  for (let done = 0; done < bytes.length;) {
    done += (await file.write(bytes, done, bytes.length - done, at + done)).bytesWritten;
  }
}

/** Refuses parts that leave elements out, or give some twice: their places would hold zeros. */
function checkWhole(
  folder: string,
  tensors: readonly Shaped[],
  newRows: (name: string) => number,
  written: readonly Readonly<Record<string, number>>[],
): void {
  for (const { name, shape } of tensors) {
    const [first = 1, ...rest] = shape;
    const expected = elementCount([first - newRows(name), ...rest]);
    const given = written.reduce((sum, each) => sum + (each[name] ?? 0), 0);
    if (given === expected) continue;
    throw new DataError(
      `${folder}: ${name} has ${expected} elements, and the parts of ${written.length} ranks have ${given}.`,
      { code: 'E_TENSOR_BYTES', hint: 'Report this: ranks disagree about who holds what.' },
    );
  }
}
