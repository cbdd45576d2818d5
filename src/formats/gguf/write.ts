/** Writing GGUF: header, then tensor after tensor, of which one at a time is in memory. */
import { open, rm } from 'node:fs/promises';

import { DataError } from '../../base/errors.js';
import {
  aligned,
  GGML_TYPES,
  GGUF_MAGIC,
  GGUF_VALUE_TYPES,
  GGUF_VERSION,
  ggufBytes,
  type GgufMetadata,
  type GgufShaped,
  type GgufValue,
  type GgufValueType,
} from './types.js';

/** A tensor to be written. */
export interface GgufSource extends GgufShaped {
  /** Its elements in their type, row by row; asked for once, when their turn has come. */
  readonly bytes: () => AsyncIterable<Uint8Array> | Iterable<Uint8Array>;
}

/** Where a file's tensors lie. */
export interface GgufLayout<T extends GgufShaped> {
  /** What the file begins with, padding included. */
  readonly header: Uint8Array;
  readonly tensors: readonly T[];
  /** Of the whole file. */
  readonly bytes: number;
}

/** More dimensions ggml does not know. */
const MOST_DIMENSIONS = 4;
/** ggml refuses longer names. */
const LONGEST_NAME = 63;

/** @throws DataError `E_TENSOR_NAMES`, `E_TENSOR_SHAPE` for what no GGUF file can hold */
export function layOutGguf<T extends GgufShaped>(
  path: string,
  metadata: GgufMetadata,
  tensors: readonly T[],
): GgufLayout<T> {
  const out = new HeaderBytes();
  out.raw(GGUF_MAGIC);
  out.number('uint32', GGUF_VERSION);
  out.number('uint64', tensors.length);
  out.number('uint64', metadata.size);
  for (const [key, value] of metadata) {
    out.string(key);
    out.value(value);
  }
  const seen = new Set<string>();
  let offset = 0;
  for (const tensor of tensors) {
    check(path, tensor, seen);
    const { name, type, shape } = tensor;
    out.string(name);
    out.number('uint32', shape.length);
    for (const size of shape.toReversed()) out.number('uint64', size);
    out.number('uint32', GGML_TYPES[type].id);
    out.number('uint64', offset);
    offset = aligned(offset + ggufBytes(tensor));
  }
  const header = out.padded();
  return { header, tensors, bytes: header.length + offset };
}

/**
 * Writes a new file and returns its length in bytes. One that cannot be finished is removed.
 *
 * @throws DataError those of `layOutGguf`, and `E_TENSOR_BYTES` when a source gives another number of bytes than its shape asks for;
 *   errors of the file system are passed on
 */
export async function writeGguf(
  path: string,
  metadata: GgufMetadata,
  tensors: readonly GgufSource[],
  { signal }: { signal?: AbortSignal | undefined } = {},
): Promise<number> {
  const { header, bytes } = layOutGguf(path, metadata, tensors);
  const file = await open(path, 'wx');
  try {
    await file.writeFile(header);
    for (const tensor of tensors) {
      let written = 0;
      for await (const piece of tensor.bytes()) {
        signal?.throwIfAborted();
        await file.writeFile(piece);
        written += piece.length;
      }
      const expected = ggufBytes(tensor);
      if (written !== expected) throw wrongLength(path, tensor, written, expected);
      await file.writeFile(new Uint8Array(aligned(written) - written));
    }
    return bytes;
  } catch (error) {
    await rm(path, { force: true });
    throw error;
  } finally {
    await file.close();
  }
}

function check(path: string, { name, type, shape }: GgufShaped, seen: Set<string>): void {
  const fail = (code: string, what: string): DataError =>
    new DataError(`${path}: ${JSON.stringify(name)} ${what}.`, {
      code,
      hint: 'Write this model in another layout.',
    });
  if (seen.has(name)) throw fail('E_TENSOR_NAMES', 'occurs twice');
  seen.add(name);
  if (Buffer.byteLength(name) > LONGEST_NAME) {
    throw fail('E_TENSOR_NAMES', `has a name of more than ${LONGEST_NAME} bytes`);
  }
  const { block } = GGML_TYPES[type];
  if (shape.length === 0 || shape.length > MOST_DIMENSIONS) {
    throw fail('E_TENSOR_SHAPE', `has ${shape.length} dimensions, and ggml knows 1 to 4`);
  }
  const row = shape.at(-1)!;
  if (row % block !== 0) {
    throw fail('E_TENSOR_SHAPE', `has rows of ${row}, and ${type} blocks of ${block}`);
  }
}

function wrongLength(path: string, { name, type, shape }: GgufShaped, is: number, wanted: number) {
  return new DataError(
    `${path}: ${JSON.stringify(name)} of shape [${shape.join(', ')}] and type ${type} takes ${wanted} bytes and was given ${is}.`,
    { code: 'E_TENSOR_BYTES', hint: 'Give the bytes of the whole tensor, row by row.' },
  );
}

/** The bytes of a header, little-endian. */
class HeaderBytes {
  private bytes = Buffer.alloc(2 ** 16);
  private length = 0;

  raw(text: string): void {
    this.room(3 * text.length);
    this.length += this.bytes.write(text, this.length);
  }

  string(text: string): void {
    this.number('uint64', Buffer.byteLength(text));
    this.raw(text);
  }

  value(value: GgufValue): void {
    this.number('uint32', GGUF_VALUE_TYPES[value.type]);
    if (value.type !== 'array') {
      this.scalar(value.type, value.value);
      return;
    }
    this.number('uint32', GGUF_VALUE_TYPES[value.of]);
    this.number('uint64', value.values.length);
    for (const each of value.values) this.scalar(value.of, each);
  }

  number(type: Exclude<GgufValueType, 'array' | 'string'>, value: number): void {
    this.room(8);
    const { bytes, length: at } = this;
    switch (type) {
      case 'uint8':
      case 'bool':
        this.length = bytes.writeUInt8(value, at);
        break;
      case 'int8':
        this.length = bytes.writeInt8(value, at);
        break;
      case 'uint16':
        this.length = bytes.writeUInt16LE(value, at);
        break;
      case 'int16':
        this.length = bytes.writeInt16LE(value, at);
        break;
      case 'uint32':
        this.length = bytes.writeUInt32LE(value, at);
        break;
      case 'int32':
        this.length = bytes.writeInt32LE(value, at);
        break;
      case 'float32':
        this.length = bytes.writeFloatLE(value, at);
        break;
      case 'uint64':
        this.length = bytes.writeBigUInt64LE(BigInt(value), at);
        break;
      case 'int64':
        this.length = bytes.writeBigInt64LE(BigInt(value), at);
        break;
      case 'float64':
        this.length = bytes.writeDoubleLE(value, at);
        break;
    }
  }

  /** All bytes, filled up with zeros to where a tensor can begin. */
  padded(): Uint8Array {
    const header = new Uint8Array(aligned(this.length));
    header.set(this.bytes.subarray(0, this.length));
    return header;
  }

  private scalar(type: Exclude<GgufValueType, 'array'>, value: number | boolean | string): void {
    if (type === 'string') this.string(String(value));
    else this.number(type, Number(value));
  }

  private room(bytes: number): void {
    if (this.length + bytes <= this.bytes.length) return;
    const larger = Buffer.alloc(2 * (this.length + bytes));
    this.bytes.copy(larger, 0, 0, this.length);
    this.bytes = larger;
  }
}
