/** What takes a whole weight of a model that nobody holds: read from its file, for this one purpose. */
import type { StoredTensor } from '../../formats/stored.js';
import { Linear } from '../../nn/index.js';
import { type Device, type DType, RandomGenerator, type Tensor, zeros } from '../../torch/index.js';
import type { AssembledAdapter } from './assemble.js';
import { adaptedLayer } from './attach-adapters.js';
import { denseReading, placeReadings } from './quantised-tensor.js';
import { placeTensors } from './place.js';

export interface ReadOptions {
  readonly dtype: DType;
  /** @default 'cpu' */
  readonly device?: Device;
  readonly signal?: AbortSignal | undefined;
}

/** Bytes that are read at a time. */
const PIECE = 32 * 2 ** 20;

/** One tensor from its file; of a matrix in few bits, or that is to be held so, what its codes stand for, rounded once. */
export async function readTensor(
  stored: StoredTensor,
  { dtype, device = 'cpu', signal }: ReadOptions,
): Promise<Tensor> {
  let read: Tensor | undefined;
  const pieceBytes = Math.max(8, Math.min(PIECE, stored.bytes));
  if (stored.form !== undefined) {
    const reading = denseReading(stored, device, dtype, (dense) => void (read = dense));
    await placeReadings([reading], device, { signal, pieceBytes });
    return read!;
  }
  const placed = (tensor: Tensor): void => void (read = tensor);
  await placeTensors([{ stored, dtype }], device, placed, { signal, pieceBytes });
  return read!;
}

/** The weight of the layer `path` with its adapter folded in, computed in fp32, as `mergeAdapter` does it. */
export async function mergedWeight(
  weight: StoredTensor,
  path: string,
  adapter: AssembledAdapter,
  options: ReadOptions,
): Promise<Tensor> {
  const { config, tensors } = adapter;
  const { rank, alpha } = adaptedLayer(adapter, path)!;
  const linear = hostOf(weight, options.dtype);
  try {
    const { dtype } = options;
    const { rsLora, dora } = config;
    const lora = linear.attachAdapter({ rank, alpha, rsLora, dora, dtype });
    linear.load('weight', await readTensor(weight, options));
    for (const leaf of lora.namedParameters().keys()) {
      linear.load(leaf, await readTensor(tensors.get(`${path}.${leaf}`)!, options));
    }
    return lora.merged().keep();
  } finally {
    linear.dispose();
  }
}

/** The magnitudes with which DoRA begins beside a weight. */
export async function firstMagnitude(
  weight: StoredTensor,
  magnitude: DType,
  options: ReadOptions,
): Promise<Tensor> {
  const { device = 'cpu' } = options;
  const linear = hostOf(weight, options.dtype);
  const generator = RandomGenerator.create(0, device);
  try {
    const lora = linear.attachAdapter({ rank: 1, alpha: 1, dora: true, dtype: magnitude });
    linear.load('weight', await readTensor(weight, options));
    // It changes nothing yet.
    for (const [leaf, { shape }] of lora.namedParameters()) {
      if (leaf.endsWith('.weight')) linear.load(leaf, zeros(shape, { dtype: magnitude, device }));
    }
    return linear.draw('lora_magnitude_vector', device, { generator }).keep();
  } finally {
    generator.dispose();
    linear.dispose();
  }
}

function hostOf({ shape: [outFeatures = 0, inFeatures = 0] }: StoredTensor, dtype: DType): Linear {
  return new Linear(inFeatures, outFeatures, { bias: false, dtype });
}
