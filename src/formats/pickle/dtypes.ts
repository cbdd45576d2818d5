/** Torch's names of element types and of its storage classes, and the names that safetensors gives the same types. */
import type { StoredDType } from '../stored.js';

/** Per type of safetensors: torch's dtype, and the storage class of pickles (newer types have only untyped storages). */
const NAMES: readonly (readonly [StoredDType, string, string?])[] = [
  ['F64', 'float64', 'DoubleStorage'],
  ['F32', 'float32', 'FloatStorage'],
  ['F16', 'float16', 'HalfStorage'],
  ['BF16', 'bfloat16', 'BFloat16Storage'],
  ['I64', 'int64', 'LongStorage'],
  ['I32', 'int32', 'IntStorage'],
  ['I16', 'int16', 'ShortStorage'],
  ['I8', 'int8', 'CharStorage'],
  ['U8', 'uint8', 'ByteStorage'],
  ['BOOL', 'bool', 'BoolStorage'],
  ['C64', 'complex64', 'ComplexFloatStorage'],
  ['C128', 'complex128', 'ComplexDoubleStorage'],
  ['U16', 'uint16'],
  ['U32', 'uint32'],
  ['U64', 'uint64'],
  ['F8_E4M3', 'float8_e4m3fn'],
  ['F8_E5M2', 'float8_e5m2'],
  ['F8_E4M3FNUZ', 'float8_e4m3fnuz'],
  ['F8_E5M2FNUZ', 'float8_e5m2fnuz'],
  ['F8_E8M0', 'float8_e8m0fnu'],
];

const TO_TORCH = new Map<string, string>(NAMES.map(([stored, torch]) => [stored, torch]));
const TO_STORED = new Map<string, StoredDType>(NAMES.map(([stored, torch]) => [torch, stored]));

/** Storage classes (`FloatStorage`, ...) and the type of their elements. */
export const STORAGE_CLASSES: ReadonlyMap<string, StoredDType> = new Map(
  NAMES.flatMap(([stored, , storage]) =>
    storage === undefined ? [] : [[storage, stored] as const],
  ),
);

/** All of torch's dtype names that can be stored. */
export const TORCH_DTYPES: readonly string[] = [...TO_STORED.keys()];

/** `BF16` to `bfloat16`. */
export function torchName(dtype: StoredDType): string {
  return TO_TORCH.get(dtype)!;
}

/** `bfloat16` to `BF16`. */
export function storedName(torchDType: string): StoredDType | undefined {
  return TO_STORED.get(torchDType);
}
