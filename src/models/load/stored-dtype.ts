/** The element types of files under the names of the tensor library. */
import { DataError } from '../../base/errors.js';
import type { StoredDType, StoredTensor } from '../../formats/stored.js';
import type { DType } from '../../torch/index.js';

const DTYPES: Readonly<Partial<Record<StoredDType, DType>>> = {
  BOOL: 'bool',
  U8: 'uint8',
  I8: 'int8',
  I16: 'int16',
  I32: 'int32',
  I64: 'int64',
  U16: 'uint16',
  U32: 'uint32',
  U64: 'uint64',
  F16: 'float16',
  BF16: 'bfloat16',
  F32: 'float32',
  F64: 'float64',
  F8_E5M2: 'float8_e5m2',
  F8_E4M3: 'float8_e4m3fn',
};

/** What libtorch calls a stored tensor's type. @throws DataError `E_STORED_DTYPE` for one that it lacks */
export function torchDType({ name, file, dtype }: StoredTensor): DType {
  const found = DTYPES[dtype];
  if (found !== undefined) return found;
  throw new DataError(`${file}: "${name}" is of type ${dtype}.`, {
    code: 'E_STORED_DTYPE',
    hint: 'Convert the weights to bfloat16, float16 or float32.',
  });
}

/** What a file calls a type of libtorch. */
export function storedDType(dtype: DType): StoredDType {
  return Object.entries(DTYPES).find(([, name]) => name === dtype)![0] as StoredDType;
}
