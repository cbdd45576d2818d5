/**
 * The header of a safetensors file: 8 bytes of length, JSON of that length, then the tensors' bytes without a gap.
 * Format: https://github.com/huggingface/safetensors. Everything that the file claims is checked against its size.
 */
import { DataError } from '../../base/errors.js';
import { fileKind, HEAD_BYTES, refuseOtherKinds } from '../file-kind.js';
import { memorySource, openSource, type ByteSource } from '../source.js';
import { dtypeBytes, isStoredDType, type StoredTensor } from '../stored.js';
import { brief, isJsonObject, parseStrictJson } from '../strict-json.js';

/** The reference reader's own limit. */
const MAX_HEADER = 100_000_000n;
const MAX_DIMENSIONS = 64;

export interface SafetensorsFile {
  readonly path: string;
  /** `__metadata__`, usually `format: pt`. */
  readonly metadata: ReadonlyMap<string, string>;
  /** In the order in which they lie in the file. */
  readonly tensors: readonly StoredTensor[];
}

/**
 * Reads the header of a safetensors file.
 *
 * @throws DataError E_SAFETENSORS naming tensor and field, E_JSON, E_WRONG_KIND, E_TRUNCATED, E_FILE_MISSING.
 */
export async function readSafetensors(path: string): Promise<SafetensorsFile> {
  const source = await openSource(path);
  try {
    return await readHeader(source);
  } finally {
    await source.close();
  }
}

/** The same from bytes in memory; `path` is what messages and tensors call them. */
export async function readSafetensorsBytes(
  path: string,
  bytes: Uint8Array,
): Promise<SafetensorsFile> {
  return readHeader(memorySource(path, bytes));
}

async function readHeader(source: ByteSource): Promise<SafetensorsFile> {
  const { path, size } = source;
  const head = Buffer.from(await source.read(0, Math.min(size, HEAD_BYTES)));
  refuseOtherKinds(path, fileKind(head, size), {
    accept: 'safetensors',
    reader: 'a safetensors file',
  });
  if (size < 8) throw bad(path, `it has ${size} bytes`);
  const length = head.readBigUInt64LE(0);
  if (length > MAX_HEADER || length > BigInt(size - 8)) {
    throw bad(path, `it announces a header of ${length} bytes and has ${size - 8}`);
  }
  const start = 8 + Number(length);
  const header = parseStrictJson(await source.read(8, Number(length)), `${path} (header)`);
  if (!isJsonObject(header)) throw bad(path, 'its header is no object');
  const tensors: StoredTensor[] = [];
  let metadata: ReadonlyMap<string, string> = new Map();
  for (const [name, value] of Object.entries(header)) {
    if (name === '__metadata__') metadata = parseMetadata(path, value);
    else tensors.push(parseTensor(path, name, value, start));
  }
  tensors.sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
  let end = start;
  for (const { name, offset, bytes } of tensors) {
    if (offset !== end) {
      const what = offset < end ? 'overlaps the tensor before it' : 'leaves a gap before it';
      throw bad(path, `${brief(name)} ${what} (byte ${offset}, expected ${end})`);
    }
    end += bytes;
  }
  if (end !== size) throw bad(path, `its tensors end at byte ${end}, the file at ${size}`);
  return { path, metadata, tensors };
}

function parseMetadata(path: string, value: unknown): ReadonlyMap<string, string> {
  const entries = isJsonObject(value) ? Object.entries(value) : value === null ? [] : undefined;
  const isText = (entry: [string, unknown]): entry is [string, string] =>
    typeof entry[1] === 'string';
  if (entries === undefined || !entries.every(isText)) {
    throw bad(path, '__metadata__ is not an object of texts');
  }
  return new Map(entries);
}

function parseTensor(path: string, name: string, value: unknown, start: number): StoredTensor {
  if (!isJsonObject(value)) throw bad(path, `${brief(name)} is no object`);
  const fail = (field: string): DataError =>
    bad(path, `${brief(name)} has the ${field} ${brief(value[field])}`);
  const { dtype, shape, data_offsets: range } = value;
  if (typeof dtype !== 'string' || !isStoredDType(dtype) || dtype === 'C128') throw fail('dtype');
  if (!isCounts(shape) || shape.length > MAX_DIMENSIONS) throw fail('shape');
  if (!isCounts(range) || range.length !== 2) throw fail('data_offsets');
  const bytes = shape.reduce((product, size) => product * size, dtypeBytes(dtype));
  const [from, to] = range as [number, number];
  if (bytes !== to - from) {
    throw bad(
      path,
      `${brief(name)} of shape [${shape.join(', ')}] and type ${dtype} takes ${bytes} bytes, its data_offsets [${from}, ${to}] say ${to - from}`,
    );
  }
  return { name, dtype, shape, file: path, offset: start + from, bytes };
}

function isCounts(value: unknown): value is number[] {
  return Array.isArray(value) && value.every((each) => Number.isSafeInteger(each) && each >= 0);
}

function bad(path: string, what: string): DataError {
  return new DataError(`${path} is not a sound safetensors file: ${what}.`, {
    code: 'E_SAFETENSORS',
    hint: 'Download or copy the file again.',
  });
}
