/**
 * Which tensor lies where in a safetensors file that is to be written. The same tensors give the same layout, whatever their order,
 * and it is that of the reference writer: tensors by descending alignment of their type, then by name; header padded to a multiple of 8.
 */
import { DataError } from '../../base/errors.js';
import {
  dtypeBytes,
  elementCount,
  STORED_DTYPES,
  type StoredDType,
  type StoredTensor,
} from '../stored.js';

/** What a header says of a tensor. */
export interface Shaped {
  readonly name: string;
  readonly dtype: StoredDType;
  readonly shape: readonly number[];
}

export interface LayoutOptions {
  /** `__metadata__`, in this order; null for none. @default { format: 'pt' } */
  metadata?: Readonly<Record<string, string>> | null;
}

export interface SafetensorsLayout<T extends Shaped> {
  readonly path: string;
  /** What the file begins with. */
  readonly header: Uint8Array;
  /** In the order in which they lie. */
  readonly tensors: readonly T[];
  /** Their places by name. */
  readonly places: ReadonlyMap<string, StoredTensor>;
  /** Of the whole file. */
  readonly bytes: number;
}

/** What every reader of torch's weights expects to find. */
const TORCH = { format: 'pt' } as const;

/** @throws DataError `E_TENSOR_NAMES` */
export function layOut<T extends Shaped>(
  path: string,
  tensors: readonly T[],
  { metadata = TORCH }: LayoutOptions = {},
): SafetensorsLayout<T> {
  const ordered = inFileOrder(path, tensors);
  const header = encodeHeader(ordered, metadata);
  const places = new Map<string, StoredTensor>();
  let offset = header.length;
  for (const { name, dtype, shape } of ordered) {
    const bytes = tensorBytes({ dtype, shape });
    places.set(name, { name, dtype, shape, file: path, offset, bytes });
    offset += bytes;
  }
  return { path, header, tensors: ordered, places, bytes: offset };
}

/** Bytes of a dense tensor. */
export function tensorBytes({ dtype, shape }: Pick<StoredTensor, 'dtype' | 'shape'>): number {
  return elementCount(shape) * dtypeBytes(dtype);
}

/** Refuses names that occur twice or cannot be written, and types that safetensors lacks. */
export function checkNames(path: string, tensors: readonly Shaped[]): void {
  const seen = new Set<string>();
  for (const { name, dtype } of tensors) {
    let fault: string | undefined;
    if (seen.has(name)) fault = 'occurs twice';
    else if (name === '__metadata__' || /\p{Surrogate}/u.test(name)) fault = 'cannot be a name';
    else if (dtype === 'C128') fault = 'has the type C128, which safetensors lacks';
    if (fault !== undefined) {
      throw new DataError(`${path}: ${JSON.stringify(name.slice(0, 120))} ${fault}.`, {
        code: 'E_TENSOR_NAMES',
        hint: 'Give every tensor a name of its own and a type that safetensors knows.',
      });
    }
    seen.add(name);
  }
}

/** Largest type first keeps every tensor aligned; names break ties by their UTF-8 bytes. */
function inFileOrder<T extends Shaped>(path: string, tensors: readonly T[]): T[] {
  checkNames(path, tensors);
  const rank = new Map(STORED_DTYPES.map((dtype, index) => [dtype, index]));
  const byName = (a: T, b: T): number => Buffer.compare(Buffer.from(a.name), Buffer.from(b.name));
  return tensors.toSorted((a, b) => rank.get(b.dtype)! - rank.get(a.dtype)! || byName(a, b));
}

function encodeHeader(
  ordered: readonly Shaped[],
  metadata: Readonly<Record<string, string>> | null,
): Uint8Array {
  const entries: string[] = [];
  if (metadata !== null) entries.push(`"__metadata__":${JSON.stringify(metadata)}`);
  let at = 0;
  for (const { name, dtype, shape } of ordered) {
    const end = at + tensorBytes({ dtype, shape });
    const value = { dtype, shape, data_offsets: [at, end] };
    entries.push(`${JSON.stringify(name)}:${JSON.stringify(value)}`);
    at = end;
  }
  const json = Buffer.from(`{${entries.join(',')}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  const header = Buffer.alloc(8 + padded, ' ');
  header.writeBigUInt64LE(BigInt(padded));
  json.copy(header, 8);
  return header;
}
