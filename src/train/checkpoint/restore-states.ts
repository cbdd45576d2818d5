/**
 * The optimizer's tensors of a checkpoint into those of a run that may keep moments in another type: fp32, bf16, or 8 bits. Values are
 * rounded where the run's type is the coarser one, and stay what they are where it is the finer.
 */

import type { StoredTensor } from '../../formats/stored.js';
import { torchDType } from '../../models/index.js';
import { hasSigns, INT8_BLOCK, isMoment, momentOfScales, scalesOf } from '../../optim/index.js';
import type { TensorPart } from '../../parallel/index.js';
import { empty, noGrad, scopeAsync, type DType, type Tensor } from '../../torch/index.js';
import { misfit, restoreTensors, type RestoreTargets } from './restore-tensors.js';

type Stored = ReadonlyMap<string, StoredTensor>;

/** What moments are called in. */
const TYPES = new Map<DType, string>([
  ['float32', 'fp32'],
  ['bfloat16', 'bf16'],
]);
const INT8 = '8 bits';

/**
 * Reads stored values into the parts of the same names; moments in another type one after another.
 *
 * @returns what was converted, in sentences
 * @throws DataError `E_CHECKPOINT_TENSORS` as `restoreTensors`
 */
export async function restoreStates(
  where: string,
  stored: Stored,
  { names, parts }: RestoreTargets,
): Promise<string[]> {
  const wanted = new Set(names);
  const own = new Map(parts.map((part) => [part.name, part]));
  // As 8 bits or not every rank knows it of all; of other types those who have a part of it.
  const typeStored = (name: string): string | undefined =>
    stored.has(scalesOf(name)) ? INT8 : TYPES.get(torchDType(stored.get(name)!));
  const typeWanted = (name: string): string | undefined => {
    const part = own.get(name);
    if (wanted.has(scalesOf(name))) return INT8;
    return part === undefined ? undefined : TYPES.get(part.tensor.dtype);
  };
  const changes = new Map<string, number>();
  const apart = new Set<string>();
  const converted: TensorPart[] = [];
  for (const name of wanted) {
    if (!isMoment(name) || !stored.has(name)) continue;
    const [was, is] = [typeStored(name), typeWanted(name)];
    const part = own.get(name);
    const isKnown = is !== undefined || was === INT8;
    if (was === is || was === undefined || !isKnown) continue;
    for (const each of [name, scalesOf(name)]) apart.add(each);
    if (part !== undefined) converted.push(part);
    const change = `Adam's moments were kept in ${was}, and go on in ${is ?? 'another type'}`;
    changes.set(change, (changes.get(change) ?? 0) + 1);
  }
  const isPlain = (name: string): boolean => !apart.has(name);
  await restoreTensors(where, new Map([...stored].filter(([name]) => isPlain(name))), {
    names: [...wanted].filter(isPlain),
    parts: parts.filter(({ name }) => isPlain(name)),
  });
  for (const part of converted) {
    const scales = own.get(scalesOf(part.name))?.tensor;
    await scopeAsync(async () => {
      const values = await valuesOf(where, stored, part);
      noGrad(() => put(values, part, scales));
    });
  }
  return [...changes].map(([change, count]) => `${change} (${count} tensors)`);
}
