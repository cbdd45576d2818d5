/** Element types: their names, libtorch's codes (`c10/core/ScalarType.h`) and sizes in bytes. */

/** Name of an element type. */
export type DType =
  | 'uint8'
  | 'int8'
  | 'int16'
  | 'int32'
  | 'int64'
  | 'float16'
  | 'float32'
  | 'float64'
  | 'bool'
  | 'bfloat16'
  | 'float8_e5m2'
  | 'float8_e4m3fn'
  | 'uint16'
  | 'uint32'
  | 'uint64';

interface DTypeFacts {
  readonly code: number;
  readonly bytes: number;
  readonly floating: boolean;
}

const FACTS: Readonly<Record<DType, DTypeFacts>> = {
  uint8: { code: 0, bytes: 1, floating: false },
  int8: { code: 1, bytes: 1, floating: false },
  int16: { code: 2, bytes: 2, floating: false },
  int32: { code: 3, bytes: 4, floating: false },
  int64: { code: 4, bytes: 8, floating: false },
  float16: { code: 5, bytes: 2, floating: true },
  float32: { code: 6, bytes: 4, floating: true },
  float64: { code: 7, bytes: 8, floating: true },
  bool: { code: 11, bytes: 1, floating: false },
  bfloat16: { code: 15, bytes: 2, floating: true },
  float8_e5m2: { code: 23, bytes: 1, floating: true },
  float8_e4m3fn: { code: 24, bytes: 1, floating: true },
  uint16: { code: 27, bytes: 2, floating: false },
  uint32: { code: 28, bytes: 4, floating: false },
  uint64: { code: 29, bytes: 8, floating: false },
};

const NAMES: (DType | undefined)[] = [];
for (const [name, { code }] of Object.entries(FACTS)) NAMES[code] = name as DType;

/** All element types. */
export const DTYPES = Object.keys(FACTS) as readonly DType[];

/** libtorch's code of an element type; NaN for a name that is none. */
export function dtypeCode(dtype: DType): number {
  return FACTS[dtype]?.code ?? NaN;
}

/** The name of libtorch's code, `undefined` for types that Patina does not use. */
export function dtypeName(code: number): DType | undefined {
  return NAMES[code];
}

/** Bytes of one element. */
export function dtypeBytes(dtype: DType): number {
  return FACTS[dtype].bytes;
}

/** Whether the type holds fractions. */
export function isFloating(dtype: DType): boolean {
  return FACTS[dtype].floating;
}
