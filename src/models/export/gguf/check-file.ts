/** Reading a GGUF file back: every tensor, put in the model's own order again, against what the source holds. */
import { DataError } from '../../../base/errors.js';
import { readGguf, type GgufTensor } from '../../../formats/gguf/read.js';
import { GGML_TYPES } from '../../../formats/gguf/types.js';
import { listNames } from '../../../formats/layouts/list-names.js';
import { empty, noGrad, scope, type Tensor } from '../../../torch/index.js';
import { readTensor } from '../../load/merged-weight.js';
import { storedDType } from '../../load/stored-dtype.js';
import type { GgufCheck } from '../export-options.js';
import { BLOCK, type BlockType, dequantise, isBlockType } from './blocks.js';
import { type EncodeOptions, VALUE_TYPES, valuesOf } from './encode-tensor.js';
import { type GgufPlan, separateHalves } from './tensor-plan.js';

/** Elements that are compared at a time. */
const PIECE = 2 ** 22;

/**
 * @param path of the file
 * @throws DataError `E_GGUF_CHECK` where a tensor is missing, unknown, of another shape or type, or further from the source than its type
 *   makes it; `E_GGUF`
 */
export async function checkGgufFile(
  path: string,
  plans: readonly GgufPlan[],
  options: EncodeOptions & { readonly onCompared?: (bytes: number) => void },
): Promise<GgufCheck> {
  const { tensors } = await readGguf(path);
  const there = new Map(tensors.map((tensor) => [tensor.name, tensor]));
  const faults: string[] = [];
  const errors = new Map<BlockType, Difference>();
  for (const plan of plans) {
    const tensor = there.get(plan.name);
    there.delete(plan.name);
    if (tensor === undefined || !isAlike(tensor, plan)) {
      faults.push(plan.name);
      continue;
    }
    const difference = await compare(tensor, plan, options);
    if (!difference.fits) faults.push(plan.name);
    options.onCompared?.(tensor.bytes);
    if (!isBlockType(plan.type)) continue;
    const { error = 0, size = 0 } = errors.get(plan.type) ?? {};
    const sum = { error: error + difference.error, size: size + difference.size, fits: true };
    errors.set(plan.type, sum);
  }
  faults.push(...there.keys());
  if (faults.length > 0) {
    throw new DataError(`${path} does not hold what was written: ${listNames(faults)}.`, {
      code: 'E_GGUF_CHECK',
      hint: 'Export once more; if it happens again, have the disk checked.',
    });
  }
  return {
    file: path,
    tensors: plans.length,
    relativeErrors: Object.fromEntries(
      [...errors].map(([type, { error, size }]) => [type, Math.sqrt(error / size)]),
    ),
  };
}

function isAlike(tensor: GgufTensor, plan: GgufPlan): boolean {
  return tensor.type === plan.type && tensor.shape.join() === plan.shape.join();
}

interface Difference {
  /** Sum of squares of the differences. */
  readonly error: number;
  /** Sum of squares of what the file stands for. */
  readonly size: number;
  /** Whether every number is the one that its type makes of the source's. */
  readonly fits: boolean;
}

async function compare(
  tensor: GgufTensor,
  { heads, ...plan }: GgufPlan,
  options: EncodeOptions,
): Promise<Difference> {
  using expected = await valuesOf(plan, options);
  using read = await readValues(tensor, options);
  using found = noGrad(() =>
    scope(() => (heads === undefined ? read.view(read.shape) : separateHalves(read, heads)).keep()),
  );
  let [error, size, fits] = [0, 0, true];
  for (let at = 0; at < found.numel; at += PIECE) {
    options.signal?.throwIfAborted();
    noGrad(() =>
      scope(() => {
        const count = Math.min(PIECE, found.numel - at);
        const [is, wanted] = [found, expected].map((each) =>
          each.view([-1]).narrow(0, at, count).to('float32'),
        ) as [Tensor, Tensor];
        const away = is.sub(wanted);
        const sum = (each: Tensor): number =>
          each.square().sum(null, false, { dtype: 'float64' }).item();
        error += sum(away);
        size += sum(wanted);
        const beyond = isBlockType(plan.type)
          ? away.view([-1, BLOCK]).abs().sub(reach(wanted, plan.type))
          : away.abs();
        // NaN is not within either.
        fits &&= beyond.amax([]).item() <= 0;
      }),
    );
  }
  return { error, size, fits };
}

/**
 * How far a number of a block may lie from what it stands for: half a step, a whole one for q4_0, which lacks a step at one end; and what
 * rounding the step to fp16 adds to the largest code.
 */
function reach(values: Tensor, type: BlockType): Tensor {
  const [most, steps] = type === 'q8_0' ? [127, 0.5] : [8, 1];
  const step = values.view([-1, BLOCK]).abs().amax([1], true).div(most);
  return step.mul(1.001 * (steps + most * 2 ** -11)).add(most * 2 ** -25);
}

/** The numbers of a tensor as they lie in the file; they belong to the caller. */
async function readValues(tensor: GgufTensor, { signal }: EncodeOptions): Promise<Tensor> {
  const { name, file, offset, bytes, type, shape } = tensor;
  const place = { name, file, offset, bytes };
  if (!isBlockType(type)) {
    const dtype = VALUE_TYPES[type];
    return readTensor({ ...place, dtype: storedDType(dtype), shape }, { dtype, signal });
  }
  const blockBytes = GGML_TYPES[type].bytes;
  const stored = { ...place, dtype: 'U8' as const, shape: [bytes / blockBytes, blockBytes] };
  using raw = await readTensor(stored, { dtype: 'uint8', signal });
  const [blocks, step] = [raw.size(0), PIECE / BLOCK];
  const values = empty([blocks, BLOCK], { dtype: 'float32' });
  for (let at = 0; at < blocks; at += step) {
    const count = Math.min(step, blocks - at);
    noGrad(() =>
      scope(() => {
        values.narrow(0, at, count).copy_(dequantise(raw.narrow(0, at, count), type));
      }),
    );
  }
  using flat = values;
  return noGrad(() => scope(() => flat.view(shape).keep()));
}
