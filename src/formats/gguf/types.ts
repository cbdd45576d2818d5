/** What GGUF files hold, version 3 of the format (ggml-org/ggml, docs/gguf.md): typed metadata, and tensors of ggml's element types. */

/** Types of metadata with their numbers in files. */
export const GGUF_VALUE_TYPES = {
  uint8: 0,
  int8: 1,
  uint16: 2,
  int16: 3,
  uint32: 4,
  int32: 5,
  float32: 6,
  bool: 7,
  string: 8,
  array: 9,
  uint64: 10,
  int64: 11,
  float64: 12,
} as const;

export type GgufValueType = keyof typeof GGUF_VALUE_TYPES;

/** A value of metadata; integers of 64 bits are numbers up to 2^53. */
export type GgufValue =
  | { readonly type: Exclude<GgufValueType, 'array'>; readonly value: number | boolean | string }
  | {
      readonly type: 'array';
      readonly of: Exclude<GgufValueType, 'array'>;
      readonly values: readonly (number | boolean | string)[];
    };

/** Metadata in the order in which it is written. */
export type GgufMetadata = ReadonlyMap<string, GgufValue>;

/** Short ways to write metadata down. */
export const gguf = {
  uint32: (value: number): GgufValue => ({ type: 'uint32', value }),
  float32: (value: number): GgufValue => ({ type: 'float32', value }),
  bool: (value: boolean): GgufValue => ({ type: 'bool', value }),
  string: (value: string): GgufValue => ({ type: 'string', value }),
  strings: (values: readonly string[]): GgufValue => ({ type: 'array', of: 'string', values }),
  int32s: (values: readonly number[]): GgufValue => ({ type: 'array', of: 'int32', values }),
  float32s: (values: readonly number[]): GgufValue => ({ type: 'array', of: 'float32', values }),
};

/** An element type of ggml: rows are made of blocks of so many elements in so many bytes. */
export interface GgmlType {
  readonly id: number;
  readonly block: number;
  readonly bytes: number;
}

/** The element types that Patina writes and reads. */
export const GGML_TYPES = {
  f32: { id: 0, block: 1, bytes: 4 },
  f16: { id: 1, block: 1, bytes: 2 },
  bf16: { id: 30, block: 1, bytes: 2 },
  q8_0: { id: 8, block: 32, bytes: 34 },
  q4_0: { id: 2, block: 32, bytes: 18 },
} as const satisfies Record<string, GgmlType>;

export type GgmlTypeName = keyof typeof GGML_TYPES;

/** A tensor as a header tells of it; shapes are row-major as everywhere here, where ggml counts dimensions from the innermost. */
export interface GgufShaped {
  readonly name: string;
  readonly type: GgmlTypeName;
  readonly shape: readonly number[];
}

/** Every tensor begins at a multiple of this many bytes after the header, which is padded to it too. */
export const GGUF_ALIGNMENT = 32;
export const GGUF_MAGIC = 'GGUF';
export const GGUF_VERSION = 3;

/** Bytes of a tensor. */
export function ggufBytes({ type, shape }: Pick<GgufShaped, 'type' | 'shape'>): number {
  const { block, bytes } = GGML_TYPES[type];
  return (shape.reduce((product, size) => product * size, 1) / block) * bytes;
}

/** The next place at which a tensor can begin. */
export function aligned(offset: number): number {
  return Math.ceil(offset / GGUF_ALIGNMENT) * GGUF_ALIGNMENT;
}
