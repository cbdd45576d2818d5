/**
 * Matrices that bitsandbytes has quantised to 4 bits, among the tensors of a file: `P` (codes, two a byte), `P.absmax`, `P.quant_map`, with
 * double quantisation `P.nested_absmax` and `P.nested_quant_map`, and `P.quant_state.bitsandbytes__nf4`, bytes of JSON that say type and
 * shape. Together they become one tensor of that type and shape.
 */
import { z } from 'zod';

import { DataError } from '../base/errors.js';
import { brief, isJsonObject, parseStrictJson } from './strict-json.js';
import {
  dtypeBytes,
  elementCount,
  nf4Parts,
  readSpan,
  type StoredDType,
  type StoredTensor,
} from './stored.js';

const BLOCK = 64;
const NESTED_BLOCK = 256;
const STATE = '.quant_state.bitsandbytes__';
/** A state takes some 200 bytes. */
const STATE_LIMIT = 4096;
/** Of 8 bits, by bitsandbytes too. */
const INT8 = /\.(SCB|weight_format)$/;

const DTYPES: Readonly<Record<string, StoredDType>> = {
  float32: 'F32',
  bfloat16: 'BF16',
  float16: 'F16',
};

const stateShape = z.object({
  quant_type: z.literal('nf4'),
  blocksize: z.literal(BLOCK),
  dtype: z.enum(['float32', 'bfloat16', 'float16']),
  shape: z.array(z.int().positive()),
  nested_blocksize: z.literal(NESTED_BLOCK).optional(),
  nested_dtype: z.literal('float32').optional(),
  nested_offset: z.number().optional(),
});

type State = z.output<typeof stateShape>;

/**
 * The tensors with each matrix in NF4 as one.
 *
 * @throws DataError `E_QUANTISED` for tensors in another form of few bits, and for parts that are missing or do not fit
 */
export async function foldNf4(stored: readonly StoredTensor[]): Promise<readonly StoredTensor[]> {
  const int8 = stored.find(({ name }) => INT8.test(name));
  if (int8 !== undefined) {
    throw fault(int8, 'belongs to a matrix in 8 bits of bitsandbytes');
  }
  const states = stored.filter(({ name }) => name.includes(STATE));
  if (states.length === 0) return stored;
  const byName = new Map(stored.map((tensor) => [tensor.name, tensor]));
  const folded = new Map<string, StoredTensor>();
  const parts = new Set<StoredTensor>(states);
  for (const state of states) {
    const name = state.name.slice(0, state.name.indexOf(STATE));
    const tensor = await foldOne(name, state, byName);
    folded.set(name, tensor);
    const { absmax, code, nested, nestedCode } = nf4Parts(tensor)!;
    for (const part of [absmax, code, nested, nestedCode]) if (part !== undefined) parts.add(part);
  }
  return stored
    .filter((tensor) => !parts.has(tensor))
    .map((tensor) => folded.get(tensor.name) ?? tensor);
}

async function foldOne(
  name: string,
  state: StoredTensor,
  byName: ReadonlyMap<string, StoredTensor>,
): Promise<StoredTensor> {
  const { shape, dtype, nested_offset: offset } = await readState(state);
  const count = elementCount(shape);
  const blocks = Math.ceil(count / BLOCK);
  const doubleQuantised = offset !== undefined;
  const part = (leaf: string, type: StoredDType, length: number): StoredTensor => {
    const found = byName.get(name + leaf);
    if (found === undefined) throw fault(state, `speaks of ${name}${leaf}, which is not there`);
    if (found.dtype !== type || elementCount(found.shape) !== length) {
      const is = `${found.dtype} of ${elementCount(found.shape)} elements`;
      throw fault(
        found,
        `is ${is}, and a matrix [${shape.join(', ')}] in NF4 has ${type} of ${length}`,
      );
    }
    return found;
  };
  const packed = asBytes(byName.get(name), Math.ceil(count / 2), state);
  const parts = {
    ...{ packed, state },
    absmax: part('.absmax', doubleQuantised ? 'U8' : 'F32', blocks),
    code: part('.quant_map', 'F32', 16),
    ...(doubleQuantised && {
      nested: part('.nested_absmax', 'F32', Math.ceil(blocks / NESTED_BLOCK)),
      nestedCode: part('.nested_quant_map', 'F32', 256),
      offset: Math.fround(offset),
    }),
  };
  return { ...packed, dtype: DTYPES[dtype]!, shape, form: { name: 'nf4', doubleQuantised, parts } };
}

/** The codes, which may be stored as if they were elements of another type. */
function asBytes(
  found: StoredTensor | undefined,
  bytes: number,
  state: StoredTensor,
): StoredTensor {
  if (found === undefined) throw fault(state, 'speaks of a matrix that is not there');
  const size = elementCount(found.shape) * dtypeBytes(found.dtype);
  // Elements of more than one byte may be more than the codes fill.
  if (found.strides !== undefined || size < bytes || size - bytes >= dtypeBytes(found.dtype)) {
    throw fault(found, `fills ${size} bytes, and its quant_state tells of ${bytes}`);
  }
  return { ...found, dtype: 'U8', shape: [bytes, 1], bytes };
}

/** @throws DataError `E_JSON` */
async function readState(state: StoredTensor): Promise<State> {
  if (state.bytes > STATE_LIMIT) throw fault(state, `has ${state.bytes} bytes of JSON`);
  const json = parseStrictJson(await readSpan(state), `${state.file}: "${state.name}"`);
  const parsed = stateShape.safeParse(json);
  if (parsed.success && Number.isSafeInteger(elementCount(parsed.data.shape))) return parsed.data;
  const [field = 'shape'] = parsed.error?.issues[0]?.path ?? [];
  const value = isJsonObject(json) ? json[String(field)] : undefined;
  throw fault(state, `says ${String(field)}: ${brief(value)}`);
}

function fault({ file, name }: StoredTensor, what: string): DataError {
  return new DataError(`${file}: "${name}" ${what}.`, {
    code: 'E_QUANTISED',
    hint: 'Patina reads NF4 of bitsandbytes in blocks of 64. Use such weights, or those from before the quantisation.',
  });
}
