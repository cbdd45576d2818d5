/** The numbers of a tensor as they lie in a file, streamed through the processor: memory holds one piece at a time. */
import { openSource } from '../../formats/source.js';
import { elementCount, type StoredTensor } from '../../formats/stored.js';

interface Scanned {
  /** Largest size of a number, infinity and NaN counted as infinite. */
  readonly largest: number;
  readonly finite: boolean;
}

/** What takes in the numbers of a matrix. */
export interface RowSink {
  /** The next ones of a matrix so wide, the first of which has index `at`. */
  add(values: Float32Array | Float64Array, at: number, width: number): void;
  /** After the last. */
  finish(): void;
}

const PIECE = 2 ** 24;

/** Reads a tensor piece by piece. What is no floating point number passes. */
export async function scanTensor(
  { dtype, shape, ...stored }: StoredTensor,
  rows: RowSink | undefined,
  signal?: AbortSignal,
): Promise<Scanned> {
  const type = TYPES[dtype];
  if (type === undefined || elementCount(shape) === 0) return { largest: 1, finite: true };
  const width = shape.at(-1) ?? 1;
  let largest = 0;
  let at = 0;
  for await (const piece of piecesOf(stored, signal)) {
    largest = Math.max(largest, type.largest(piece));
    if (rows === undefined) continue;
    const values = type.numbers(piece);
    rows.add(values, at, width);
    at += values.length;
  }
  rows?.finish();
  return { largest, finite: Number.isFinite(largest) };
}

/** The bytes, each piece at the beginning of a buffer of its own. */
async function* piecesOf(
  { data, offset, bytes, file }: Pick<StoredTensor, 'data' | 'offset' | 'bytes' | 'file'>,
  signal?: AbortSignal,
): AsyncGenerator<Uint8Array, void> {
  if (data !== undefined) {
    for (let start = 0; start < bytes; start += PIECE) {
      const end = Math.min(bytes, start + PIECE);
      yield new Uint8Array(data.subarray(offset + start, offset + end));
    }
    return;
  }
  const source = await openSource(file);
  const buffer = new Uint8Array(Math.min(PIECE, bytes));
  try {
    for (let start = 0; start < bytes; start += PIECE) {
      signal?.throwIfAborted();
      yield await source.read(offset + start, Math.min(PIECE, bytes - start), buffer);
    }
  } finally {
    await source.close();
  }
}

/** A type of numbers, of bytes that begin a buffer. */
interface NumberType {
  /** Largest size; infinity where a number is not finite. */
  largest(piece: Uint8Array): number;
  numbers(piece: Uint8Array): Float32Array | Float64Array;
}

/** Without their signs the bits of floating point numbers are ordered as the numbers are, NaN last. */
function largestBits16(piece: Uint8Array): number {
  const values = new Uint16Array(piece.buffer, 0, piece.length / 2);
  let largest = 0;
  for (let i = 0; i < values.length; i++) {
    const bits = values[i]! & 0x7fff;
    if (bits > largest) largest = bits;
  }
  return largest;
}

function largestBits32(piece: Uint8Array): number {
  const values = new Int32Array(piece.buffer, 0, piece.length / 4);
  let largest = 0;
  for (let i = 0; i < values.length; i++) {
    const bits = values[i]! & 0x7fffffff;
    if (bits > largest) largest = bits;
  }
  return largest;
}

function fromBits32(bits: number): number {
  return bits >= 0x7f800000 ? Infinity : new Float32Array(Uint32Array.of(bits).buffer)[0]!;
}

const TYPES: Readonly<Partial<Record<string, NumberType>>> = {
  BF16: {
    largest: (piece) => fromBits32(largestBits16(piece) << 16),
    numbers: (piece) => {
      const halves = new Uint16Array(piece.buffer, 0, piece.length / 2);
      const bits = new Uint32Array(halves.length);
      for (let i = 0; i < halves.length; i++) bits[i] = halves[i]! << 16;
      return new Float32Array(bits.buffer);
    },
  },
  F16: {
    largest: (piece) => {
      const bits = largestBits16(piece);
      return bits >= 0x7c00 ? Infinity : halfTable()[bits]!;
    },
    numbers: (piece) => {
      const halves = new Uint16Array(piece.buffer, 0, piece.length / 2);
      const table = halfTable();
      const values = new Float32Array(halves.length);
      for (let i = 0; i < halves.length; i++) values[i] = table[halves[i]!]!;
      return values;
    },
  },
  F32: {
    largest: (piece) => fromBits32(largestBits32(piece)),
    numbers: (piece) => new Float32Array(piece.buffer, 0, piece.length / 4),
  },
  F64: {
    largest: (piece) => {
      const values = new Float64Array(piece.buffer, 0, piece.length / 8);
      let largest = 0;
      for (const value of values) {
        if (!Number.isFinite(value)) return Infinity;
        largest = Math.max(largest, Math.abs(value));
      }
      return largest;
    },
    numbers: (piece) => new Float64Array(piece.buffer, 0, piece.length / 8),
  },
};

let halves: Float32Array | undefined;

/** What each fp16 stands for. */
function halfTable(): Float32Array {
  halves ??= Float32Array.from({ length: 2 ** 16 }, (_, bits) => {
    const sign = bits & 0x8000 ? -1 : 1;
    const [exponent, fraction] = [(bits >> 10) & 0x1f, bits & 0x3ff];
    if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
    return sign * (exponent === 0 ? fraction * 2 ** -24 : (1024 + fraction) * 2 ** (exponent - 25));
  });
  return halves;
}
