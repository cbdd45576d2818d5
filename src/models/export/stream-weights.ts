/**
 * A model's tensors as the writers of files take them: read from their files one at a time when their turn has come, adapters
 * folded in, new rows added, converted, checked for NaN and infinities. Nothing else of the model is in memory.
 */
import type { TensorSource } from '../../formats/safetensors/write.js';
import { moduleOf } from '../../formats/layouts/rename.js';
import type { StoredTensor } from '../../formats/stored.js';
import { type Nf4Form, type Nf4Parts, quantiseNf4 } from '../../nn/index.js';
import {
  type DType,
  RandomGenerator,
  empty,
  noGrad,
  scope,
  type Tensor,
} from '../../torch/index.js';
import type { AssembledAdapter } from '../load/assemble.js';
import { adaptedLayer } from '../load/attach-adapters.js';
import { FiniteCheck } from '../load/finite-check.js';
import { mergedWeight, readTensor } from '../load/merged-weight.js';
import { readParts } from '../load/quantised-tensor.js';
import { storedDType, torchDType } from '../load/stored-dtype.js';
import { bytePieces } from '../load/tensor-file.js';
import { Nf4Sources } from './nf4-sources.js';

/** Bytes that are read or summed at a time. */
const PIECE = 32 * 2 ** 20;

/** New rows keep to the old ones: their mean, and this part of their variance. (Hewitt 2021, as transformers does.) */
const VARIANCE = 1e-5;

export interface StreamOptions {
  /** What messages call the model. */
  readonly where: string;
  readonly dtype: DType;
  readonly adapters: readonly AssembledAdapter[];
  /** Rows of the vocabulary to add to these tensors. */
  readonly grow: ReadonlyMap<string, number>;
  readonly seed: number;
  /** Matrices to write in NF4. @default none */
  readonly quantise?: { readonly names: ReadonlySet<string>; readonly form: Nf4Form } | undefined;
  /** Tensors that may hold NaN: patterns of names, `*` for anything. */
  readonly allow: readonly string[];
  readonly signal: AbortSignal | undefined;
}

/** Tensors to write, by the name they are given: `stored` by Patina's own names, `nameOf` the name in the file. */
export function streamWeights(
  stored: ReadonlyMap<string, StoredTensor>,
  nameOf: (own: string) => string,
  options: StreamOptions,
): TensorSource[] {
  const { quantise, dtype } = options;
  const inNf4 = new Nf4Sources();
  return [...stored].flatMap(([own, tensor]) => {
    if (quantise?.names.has(own) === true) {
      const { form } = quantise;
      const parts = (): Promise<Nf4Parts> => quantised(own, tensor, { ...options, form });
      return inNf4.of({ name: nameOf(own), shape: tensor.shape, dtype, form, parts });
    }
    const rows = options.grow.get(own) ?? 0;
    const [first = 0, ...rest] = tensor.shape;
    return {
      name: nameOf(own),
      dtype: storedDType(options.dtype),
      shape: rows === 0 ? tensor.shape : [first + rows, ...rest],
      bytes: () => pieces(own, tensor, rows, options),
    };
  });
}

async function* pieces(
  own: string,
  stored: StoredTensor,
  rows: number,
  options: StreamOptions,
): AsyncGenerator<Uint8Array> {
  const parts = [await finishedTensor(own, stored, options)];
  const finite = new FiniteCheck();
  try {
    if (rows > 0) parts.push(newRows(parts[0]!, rows, options.seed));
    finite.add(own, parts[0]!);
    finite.check(options.where, options.allow);
    for (const part of parts) yield* bytePieces(part, { signal: options.signal });
  } finally {
    finite.dispose();
    for (const part of parts) part.dispose();
  }
}

/** The rows that an export adds beside those of a stored tensor, in its type. */
export async function rowsBeside(stored: StoredTensor, rows: number): Promise<Tensor> {
  using old = await readTensor(stored, { dtype: torchDType(stored) });
  return newRows(old, rows, 0);
}

/** A matrix in NF4: as it is held, or with its adapter folded in, quantised anew. */
async function quantised(
  own: string,
  stored: StoredTensor,
  options: StreamOptions & { readonly form: Nf4Form },
): Promise<Nf4Parts> {
  const { form, signal } = options;
  const held = stored.form;
  const isHeld = held?.name === 'nf4' && held.doubleQuantised === form.doubleQuantised;
  const finite = new FiniteCheck();
  try {
    using dense = await finishedTensor(own, stored, options);
    finite.add(own, dense);
    finite.check(options.where, options.allow);
    // Only what the codes stand for shows whether they are sound.
    if (isHeld && adapterOn(own, options.adapters) === undefined)
      return (await readParts(stored, signal)) as Nf4Parts;
    const parts = noGrad(() => scope(() => quantiseNf4(dense, form)));
    for (const part of Object.values(parts) as Tensor[]) part.keep();
    return parts;
  } finally {
    finite.dispose();
  }
}

/** The tensor in the type in which it is written, with its adapter folded in. */
export async function finishedTensor(
  own: string,
  stored: StoredTensor,
  { adapters, dtype, signal }: Pick<StreamOptions, 'adapters' | 'dtype' | 'signal'>,
): Promise<Tensor> {
  const adapter = adapterOn(own, adapters);
  const module = moduleOf(own);
  if (adapter === undefined) return readTensor(stored, { dtype, signal });
  // The sum is made in fp32 and rounded once.
  const merged = await mergedWeight(stored, module, adapter, { dtype: 'float32', signal });
  if (dtype === 'float32') return merged;
  const rounded = noGrad(() => merged.to(dtype)).keep();
  merged.dispose();
  return rounded;
}

/** The adapter of the layer whose weight it is. */
function adapterOn(
  own: string,
  adapters: readonly AssembledAdapter[],
): AssembledAdapter | undefined {
  if (!own.endsWith('.weight')) return undefined;
  return adapters.find((each) => adaptedLayer(each, moduleOf(own)) !== undefined);
}

/** Rows drawn around the mean of the old ones, column by column; sums are made in fp64, a stretch of rows at a time. */
function newRows(old: Tensor, rows: number, seed: number): Tensor {
  const [count = 0, width = 0] = old.shape;
  const generator = RandomGenerator.create(seed);
  try {
    return noGrad(() =>
      scope(() => {
        const sum = empty([width], { dtype: 'float64' }).zero_();
        const squares = sum.zerosLike();
        const step = Math.max(1, Math.floor(PIECE / (8 * width)));
        for (let at = 0; at < count; at += step) {
          scope(() => {
            const part = old.narrow(0, at, Math.min(step, count - at)).to('float64');
            sum.add_(part.sum([0]));
            squares.add_(part.square().sum([0]));
          });
        }
        const mean = sum.div(count);
        const variance = squares.div(count).sub(mean.square()).clamp(0);
        const noise = empty([rows, width], { dtype: 'float64' }).normal_(0, 1, { generator });
        return noise.mul(variance.mul(VARIANCE).sqrt()).add(mean).to(old.dtype);
      }),
    ).keep();
  } finally {
    generator.dispose();
  }
}
