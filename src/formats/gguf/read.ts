/** Reading a GGUF file's header, strictly: what lies about lengths, places or types is refused before memory is taken for it. */
import { DataError } from '../../base/errors.js';
import { type ByteSource, openSource } from '../source.js';
import {
  aligned,
  GGML_TYPES,
  GGUF_ALIGNMENT,
  GGUF_MAGIC,
  GGUF_VALUE_TYPES,
  GGUF_VERSION,
  ggufBytes,
  type GgmlTypeName,
  type GgufMetadata,
  type GgufShaped,
  type GgufValue,
  type GgufValueType,
} from './types.js';

/** A tensor and where it lies. */
export interface GgufTensor extends GgufShaped {
  readonly file: string;
  /** Bytes from the start of the file. */
  readonly offset: number;
  readonly bytes: number;
}

export interface GgufFile {
  readonly metadata: GgufMetadata;
  readonly tensors: readonly GgufTensor[];
}

/** A vocabulary of 256,000 tokens with its merges takes 12 MB. */
const LARGEST_HEADER = 64 * 2 ** 20;

/** @throws DataError `E_GGUF` for a file that is none, is damaged, or holds types that Patina does not read */
export async function readGguf(path: string): Promise<GgufFile> {
  const source = await openSource(path);
  try {
    return await readHeader(source);
  } finally {
    await source.close();
  }
}

async function readHeader(source: ByteSource): Promise<GgufFile> {
  const { path, size } = source;
  const bytes = await source.read(0, Math.min(size, LARGEST_HEADER));
  const reader = new HeaderReader(path, bytes);
  if (reader.raw(4) !== GGUF_MAGIC) throw fault(path, 'it does not begin with GGUF');
  const version = reader.number('uint32');
  if (version !== GGUF_VERSION) throw fault(path, `it is of version ${version}`);
  const count = reader.number('uint64');
  const keys = reader.number('uint64');
  const metadata = new Map<string, GgufValue>();
  for (let i = 0; i < keys; i++) {
    const key = reader.string();
    if (metadata.has(key)) throw fault(path, `${JSON.stringify(key)} occurs twice`);
    metadata.set(key, reader.value());
  }
  const alignment = metadata.get('general.alignment');
  if (alignment !== undefined && !('value' in alignment && alignment.value === GGUF_ALIGNMENT)) {
    throw fault(path, `its tensors are not aligned to ${GGUF_ALIGNMENT} bytes`);
  }
  const places: (GgufShaped & { readonly offset: number })[] = [];
  for (let i = 0; i < count; i++) places.push(readPlace(path, reader));
  const start = aligned(reader.at);
  const seen = new Set<string>();
  const tensors = places.map(({ offset, ...shaped }) => {
    const { name } = shaped;
    if (seen.has(name)) throw fault(path, `the tensor ${JSON.stringify(name)} occurs twice`);
    seen.add(name);
    const tensor = { ...shaped, file: path, offset: start + offset, bytes: ggufBytes(shaped) };
    if (tensor.offset + tensor.bytes > size) {
      throw fault(path, `${JSON.stringify(name)} lies beyond its end`);
    }
    return tensor;
  });
  return { metadata, tensors };
}

function readPlace(path: string, reader: HeaderReader): GgufShaped & { readonly offset: number } {
  const name = reader.string();
  const dimensions = reader.number('uint32');
  if (dimensions < 1 || dimensions > 4) {
    throw fault(path, `${JSON.stringify(name)} has ${dimensions} dimensions`);
  }
  const shape = Array.from({ length: dimensions }, () => reader.number('uint64')).reverse();
  const id = reader.number('uint32');
  const type = (Object.keys(GGML_TYPES) as GgmlTypeName[]).find(
    (each) => GGML_TYPES[each].id === id,
  );
  if (type === undefined) throw fault(path, `${JSON.stringify(name)} is of ggml's type ${id}`);
  if (!Number.isSafeInteger(shape.reduce((a, b) => a * b, 4))) {
    throw fault(path, `${JSON.stringify(name)} has more elements than can be`);
  }
  if (shape.at(-1)! % GGML_TYPES[type].block !== 0) {
    throw fault(path, `rows of ${JSON.stringify(name)} are no whole blocks of ${type}`);
  }
  const offset = reader.number('uint64');
  if (offset % GGUF_ALIGNMENT !== 0) throw fault(path, `${JSON.stringify(name)} is not aligned`);
  return { name, type, shape, offset };
}

/** Takes one value after the other from the bytes of a header. */
class HeaderReader {
  at = 0;
  private readonly view: DataView;
  private readonly text = new TextDecoder('utf-8', { fatal: true });

  constructor(
    private readonly path: string,
    private readonly bytes: Uint8Array,
  ) {
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  }

  raw(length: number): string {
    const at = this.advance(length);
    try {
      return this.text.decode(this.bytes.subarray(at, at + length));
    } catch (cause) {
      throw fault(this.path, `a text at byte ${at} is not UTF-8`, cause);
    }
  }

  string(): string {
    return this.raw(this.number('uint64'));
  }

  value(): GgufValue {
    const type = this.valueType();
    if (type !== 'array') return { type, value: this.scalar(type) };
    const of = this.valueType();
    if (of === 'array') throw fault(this.path, 'it holds lists of lists');
    const length = this.number('uint64');
    // Every value takes a byte at least.
    if (length > this.bytes.length - this.at) throw fault(this.path, 'it ends within its header');
    return { type, of, values: Array.from({ length }, () => this.scalar(of)) };
  }

  number(type: Exclude<GgufValueType, 'array' | 'string' | 'bool'>): number {
    const { view } = this;
    switch (type) {
      case 'uint8':
        return view.getUint8(this.advance(1));
      case 'int8':
        return view.getInt8(this.advance(1));
      case 'uint16':
        return view.getUint16(this.advance(2), true);
      case 'int16':
        return view.getInt16(this.advance(2), true);
      case 'uint32':
        return view.getUint32(this.advance(4), true);
      case 'int32':
        return view.getInt32(this.advance(4), true);
      case 'float32':
        return view.getFloat32(this.advance(4), true);
      case 'float64':
        return view.getFloat64(this.advance(8), true);
      case 'uint64':
        return this.whole(view.getBigUint64(this.advance(8), true));
      case 'int64':
        return this.whole(view.getBigInt64(this.advance(8), true));
    }
  }

  private scalar(type: Exclude<GgufValueType, 'array'>): number | boolean | string {
    if (type === 'string') return this.string();
    return type === 'bool' ? this.number('uint8') !== 0 : this.number(type);
  }

  private valueType(): GgufValueType {
    const id = this.number('uint32');
    const types = Object.keys(GGUF_VALUE_TYPES) as GgufValueType[];
    const type = types.find((each) => GGUF_VALUE_TYPES[each] === id);
    if (type === undefined) throw fault(this.path, `it holds metadata of type ${id}`);
    return type;
  }

  private whole(value: bigint): number {
    const number = Number(value);
    if (Number.isSafeInteger(number)) return number;
    throw fault(this.path, `the number ${value} in its header is out of range`);
  }

  private advance(length: number): number {
    const { at } = this;
    if (length > this.bytes.length - at) throw fault(this.path, 'it ends within its header');
    this.at += length;
    return at;
  }
}

function fault(path: string, what: string, cause?: unknown): DataError {
  return new DataError(`${path} is no GGUF file that Patina reads: ${what}.`, {
    code: 'E_GGUF',
    hint: 'Make the file again (patina export MODEL --to gguf OUT).',
    cause,
  });
}
