/**
 * The weights as they lie in files, streamed through the processor: whether all are finite, none is empty, and the rows of the
 * embeddings and of the head look like those of tokens that were trained. Memory holds one piece of a file at a time.
 */
import type { RecordPlace } from '../../data/index.js';
import { openSource } from '../../formats/source.js';
import { dtypeBytes, elementCount, storedParts, type StoredTensor } from '../../formats/stored.js';
import type { Recipe } from '../../config/index.js';
import type { Tokenizer } from '../../text/index.js';
import { finding, type Finding, type FindingPlace } from './finding.js';
import { isVisual, type ModelTensor } from './open-hollow.js';

export interface WeightsCheckOptions {
  readonly recipe: Pick<Recipe, 'precision' | 'train'>;
  readonly tokenizer: Tokenizer;
  /** See `CheckSpec`. */
  readonly firstUse: Int32Array | null;
  place(record: number): RecordPlace;
  readonly signal?: AbortSignal | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
}

const PIECE = 2 ** 24;
/** Largest number of fp16. */
const HALF_MAX = 65_504;
/** No block of weights is so large. */
const WILD_SCALE = 1e4;
/** A row's norm over the middle one. */
const UNTRAINED = 0.02;
const WILD_ROW = 100;

export async function checkWeights(
  tensors: readonly ModelTensor[],
  { recipe, signal, onProgress, ...rows }: WeightsCheckOptions,
): Promise<Finding[]> {
  const total = tensors.reduce((sum, { stored }) => sum + bytesOf(stored), 0);
  let done = 0;
  const broken: ModelTensor[] = [];
  const scales: ModelTensor[] = [];
  const beyond: ModelTensor[] = [];
  const empty: ModelTensor[] = [];
  const findings: Finding[] = [];
  for (const tensor of tensors) {
    signal?.throwIfAborted();
    const { name, stored } = tensor;
    const isTable = /(^|\.)(embed_tokens|lm_head)\.weight$/.test(name) && stored.shape.length === 2;
    const facts = isTable && stored.form === undefined ? new Rows(stored.shape[0]!) : undefined;
    for (const part of storedParts(stored)) {
      const { largest, finite } = await scan(part, facts, signal);
      const isScale = part !== stored;
      if (!finite) (isScale ? scales : broken).push(tensor);
      else if (isScale && largest > WILD_SCALE) scales.push(tensor);
      else if (recipe.precision.compute === 'fp16' && largest > HALF_MAX) beyond.push(tensor);
      else if (largest === 0 && isMatrix(tensor)) empty.push(tensor);
    }
    if (facts !== undefined) findings.push(...rowFindings(tensor, facts, { recipe, ...rows }));
    done += bytesOf(stored);
    onProgress?.(done, total);
  }
  const [visionBeyond, decoderBeyond] = [
    beyond.filter(isVisual),
    beyond.filter((each) => !isVisual(each)),
  ];
  return [
    ...tell(broken, 'weights-not-finite', 'E_NON_FINITE_WEIGHTS', 'NaN or infinity in'),
    ...tell(scales, 'quantised-base', 'scales', 'scales that are not finite, or beyond reason, in'),
    ...tell(decoderBeyond, 'fp16-overflow-decoder', 'weights-beyond', BEYOND),
    ...tell(visionBeyond, 'fp16-overflow-vision', 'weights-beyond', BEYOND),
    ...tell(
      empty,
      'weights-not-loaded',
      'zeros',
      'nothing but 0, as if it had never been filled, in',
    ),
    ...findings,
  ];
}

const BEYOND = `numbers beyond ${HALF_MAX}, which are infinite in fp16, in`;
const OTHER_TYPE = '--set precision.compute=bf16 (fp32 where the device has no bf16)';

const FIXES = {
  'weights-not-finite':
    'Use weights from before they broke: an earlier checkpoint, or the published files, downloaded again.',
  'quantised-base':
    'Quantise the model again, or let Patina do it from the whole weights (`train.decoder.base: nf4`).',
  'weights-not-loaded':
    'Download or copy the files again; a conversion that leaves out tensors fills them so.',
  'fp16-overflow-decoder': OTHER_TYPE,
  'fp16-overflow-vision': OTHER_TYPE,
} as const;

function tell(
  found: readonly ModelTensor[],
  cause: keyof typeof FIXES,
  code: string,
  what: string,
): Finding[] {
  const [first] = found;
  if (first === undefined) return [];
  const names = [...new Set(found.map(({ name }) => name))];
  const more = names.length > 3 ? `, and ${names.length - 3} more` : '';
  const tensors = names.length === 1 ? '1 tensor' : `${names.length} tensors`;
  return [
    finding(cause, {
      ...{ code, source: first.stored.file, count: names.length, fix: FIXES[cause] },
      message: `${what} ${tensors}: ${names.slice(0, 3).join(', ')}${more}`,
    }),
  ];
}

/** The second factor of an adapter begins as 0, and what adds to the stream may (LLaMA Pro, ReZero). */
function isMatrix({ stored, isAdapter, name }: ModelTensor): boolean {
  const may = /(o_proj|out_proj|down_proj|fc2)\.weight$/.test(name);
  return stored.shape.length >= 2 && elementCount(stored.shape) > 0 && !isAdapter && !may;
}

type RowOptions = Pick<WeightsCheckOptions, 'recipe' | 'tokenizer' | 'firstUse' | 'place'>;

function rowFindings(
  { name, stored }: ModelTensor,
  rows: Rows,
  { recipe, tokenizer, firstUse, place }: RowOptions,
): Finding[] {
  if (firstUse === null) return [];
  const middle = rows.middleNorm();
  if (!(middle > 0)) return [];
  const used = (id: number): boolean => (firstUse[id] ?? 0) > 0;
  const odd: { id: number; why: string; severity: 'error' | 'warning' }[] = [];
  const isTrained = recipe.train.decoder === 'full';
  for (let id = 0; id < rows.norms.length; id++) {
    if (!used(id)) continue;
    const norm = rows.norms[id]!;
    const share = norm / middle;
    if (!Number.isFinite(norm) || share > WILD_ROW) {
      odd.push({
        id,
        why: `its row is ${figure(share)} times as large as others`,
        severity: 'error',
      });
    } else if (share < UNTRAINED || rows.alike(id) > 1) {
      const why =
        share < UNTRAINED ? 'its row is nearly 0' : `its row is that of ${rows.alike(id)} others`;
      odd.push({
        id,
        why: `${why}, as of tokens that were never trained`,
        severity: isTrained ? 'warning' : 'error',
      });
    }
  }
  if (odd.length === 0) return [];
  odd.sort((a, b) => firstUse[a.id]! - firstUse[b.id]!);
  const places = odd.slice(0, 5).map(({ id, why }): FindingPlace => {
    const { file, line, record } = place(firstUse[id]! - 1);
    const token = JSON.stringify(tokenizer.tokenOf(id) ?? '');
    return {
      source: file,
      line,
      record,
      id: null,
      message: `token ${id} (${token}): ${why} (${name})`,
    };
  });
  const severity = odd.some((each) => each.severity === 'error') ? 'error' : 'warning';
  const { source, line, message } = places[0]!;
  return [
    {
      ...{ type: 'finding', cause: 'untrained-token-rows', code: 'rows', severity, message },
      fix: `Leave such tokens out of the data or the template, train the embeddings too (\`train.decoder.lora.modulesToSave: ["*embed_tokens", "lm_head"]\`), or mend the rows in ${stored.file}.`,
      ...{ source, line, id: null, count: odd.length, places },
    },
  ];
}

function figure(value: number): string {
  return Number.isFinite(value) ? String(Number(value.toPrecision(2))) : 'infinitely many';
}

/** Facts of the rows of a matrix. */
class Rows {
  readonly norms: Float64Array;
  readonly #counts = new Map<number, number>();

  constructor(rows: number) {
    this.norms = new Float64Array(rows);
  }

  /** Adds squares of the next elements of a matrix so wide, the first of which has index `at`. */
  add(values: Float32Array | Float64Array, at: number, width: number): void {
    for (let from = 0; from < values.length;) {
      const row = Math.floor((at + from) / width);
      const end = Math.min(values.length, (row + 1) * width - at);
      let sum = 0;
      for (; from < end; from++) sum += values[from]! * values[from]!;
      this.norms[row]! += sum;
    }
  }

  /** Once all squares are summed. */
  finish(): void {
    this.norms.forEach((square, i) => {
      this.norms[i] = Math.sqrt(square);
      this.#counts.set(this.norms[i], (this.#counts.get(this.norms[i]) ?? 0) + 1);
    });
  }

  middleNorm(): number {
    const sorted = this.norms.filter(Number.isFinite).sort();
    return sorted[Math.floor(sorted.length / 2)] ?? 0;
  }

  /** Other rows with this very norm, in 53 bits. */
  alike(id: number): number {
    return this.#counts.get(this.norms[id]!)! - 1;
  }
}

interface Scanned {
  /** Largest size of a number, infinity and NaN counted as infinite. */
  readonly largest: number;
  readonly finite: boolean;
}

/** Reads a tensor piece by piece. What is no floating point number passes. */
async function scan(
  { dtype, shape, ...stored }: StoredTensor,
  rows: Rows | undefined,
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

function bytesOf(stored: StoredTensor): number {
  return storedParts(stored).reduce(
    (sum, { shape, dtype }) => sum + elementCount(shape) * dtypeBytes(dtype),
    0,
  );
}
