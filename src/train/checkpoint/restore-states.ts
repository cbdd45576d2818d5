/**
 * The optimizer's tensors of a checkpoint into those of a run that may keep moments in another type: fp32, bf16, or 8 bits. Values are
 * rounded where the run's type is the coarser one, and stay what they are where it is the finer.
 */

import { plural } from '../../base/format.js';
import { elementCount, type StoredTensor } from '../../formats/stored.js';
import { torchDType } from '../../models/index.js';
import { hasSigns, INT8_BLOCK, int8Blocks, isMoment, scalesOf } from '../../optim/index.js';
import type { TensorPart } from '../../parallel/index.js';
import { empty, noGrad, scopeAsync, type DType, type Tensor } from '../../torch/index.js';
import { restoreTensors } from './restore-tensors.js';

type Stored = ReadonlyMap<string, StoredTensor>;

/** What moments are called in. */
const TYPES = new Map<DType, string>([
  ['float32', 'fp32'],
  ['bfloat16', 'bf16'],
]);
const INT8 = '8 bits';

/**
 * Reads stored values into the parts of the same names; moments that were kept in another type one after another.
 *
 * @returns what was converted, in sentences
 * @throws DataError `E_CHECKPOINT_TENSORS` as `restoreTensors`
 */
export async function restoreStates(
  where: string,
  stored: Stored,
  { types, parts }: { types: ReadonlyMap<string, DType>; parts: readonly TensorPart[] },
): Promise<string[]> {
  const apart = new Set<string>();
  const changes = new Map<string, number>();
  for (const [name, type] of types) {
    const found = stored.get(name);
    if (!isMoment(name) || found === undefined) continue;
    const was = stored.has(scalesOf(name)) ? INT8 : TYPES.get(torchDType(found));
    const is = types.has(scalesOf(name)) ? INT8 : TYPES.get(type);
    if (was === is || was === undefined || is === undefined) continue;
    for (const each of [name, scalesOf(name)]) apart.add(each);
    const change = `Adam's moments were kept in ${was}, and go on in ${is}`;
    changes.set(change, (changes.get(change) ?? 0) + 1);
  }
  const isPlain = (name: string): boolean => !apart.has(name);
  await restoreTensors(where, new Map([...stored].filter(([name]) => isPlain(name))), {
    names: [...types.keys()].filter(isPlain),
    parts: parts.filter(({ name }) => isPlain(name)),
  });
  const own = new Map(parts.map(({ name, tensor }) => [name, tensor]));
  for (const part of parts) {
    if (!isMoment(part.name) || isPlain(part.name)) continue;
    await scopeAsync(async () => {
      const values = await valuesOf(where, stored, part);
      noGrad(() => put(values, part, own.get(scalesOf(part.name))));
    });
  }
  return [...changes].map(([change, count]) => `${change} (${plural(count, 'tensor')})`);
}

/** A part of a stored moment in fp32. */
async function valuesOf(where: string, stored: Stored, part: TensorPart): Promise<Tensor> {
  const { name, from, tensor } = part;
  const { device, shape, numel } = tensor;
  const read = (wanted: TensorPart): Promise<void> =>
    restoreTensors(where, new Map([[wanted.name, stored.get(wanted.name)!]]), {
      names: [wanted.name],
      parts: [wanted],
    });
  const kept = empty(shape, { dtype: torchDType(stored.get(name)!), device });
  await read({ ...part, tensor: kept, dtype: kept.dtype });
  const scales = stored.get(scalesOf(name));
  if (scales === undefined) return kept.to('float32');
  const absmax = empty([int8Blocks(numel)], { dtype: 'float32', device });
  await read({
    ...part,
    ...{ name: scalesOf(name), shape: [int8Blocks(elementCount(part.shape))] },
    ...{ from: from / INT8_BLOCK, tensor: absmax, dtype: absmax.dtype },
  });
  return noGrad(() => kept.dynamicDequantise(absmax, hasSigns(name)));
}

function put(values: Tensor, { name, tensor }: TensorPart, scales: Tensor | undefined): void {
  if (scales === undefined) {
    tensor.copy_(values);
    return;
  }
  const [codes, absmax] = values.dynamicQuantise(hasSigns(name));
  tensor.copy_(codes);
  scales.copy_(absmax);
}
