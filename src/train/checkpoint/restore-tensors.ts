/** Values from files into tensors that are there already, or this rank's parts of them: nothing is held twice. */

import { DataError } from '../../base/errors.js';
import { elementCount, type StoredTensor } from '../../formats/stored.js';
import { placeTensors, torchDType, type Refill } from '../../models/index.js';
import type { TensorPart } from '../../parallel/index.js';

export interface RestoreTargets {
  /** Of all that is read, on whichever rank. */
  readonly names: Iterable<string>;
  /** Where this rank wants its part of it. */
  readonly parts: readonly TensorPart[];
}

/**
 * Reads stored values into the parts of the same names.
 *
 * @throws DataError `E_CHECKPOINT_TENSORS` where one is missing, of another shape or type, or is not read
 */
export async function restoreTensors(
  where: string,
  stored: ReadonlyMap<string, StoredTensor>,
  targets: RestoreTargets,
): Promise<void> {
  const refills = fitting(where, stored, targets);
  for (const device of new Set(refills.map(({ into }) => into.device))) {
    const there = refills.filter(({ into }) => into.device === device);
    await placeTensors(there, device, () => undefined);
  }
}

/** What is to be read, where it fits. @throws DataError `E_CHECKPOINT_TENSORS` as `restoreTensors` */
export function fitting(
  where: string,
  stored: ReadonlyMap<string, StoredTensor>,
  { names, parts }: RestoreTargets,
): Refill[] {
  const read = new Set(names);
  for (const name of read) if (!stored.has(name)) throw misfit(where, `${name} is missing`);
  const stranger = [...stored.keys()].find((name) => !read.has(name));
  if (stranger !== undefined) throw misfit(where, `${stranger} is nothing that the run reads`);
  return parts.map(({ name, shape, from, tensor, dtype = tensor.dtype }) => {
    const found = stored.get(name)!;
    const was = `${torchDType(found)} [${found.shape.join(', ')}]`;
    const is = `${dtype} [${shape.join(', ')}]`;
    if (was !== is) throw misfit(where, `${name} is ${was}, and the run needs ${is}`);
    return { stored: found, from, into: tensor };
  });
}

/** Whether a parameter has a row for each token, to which writing may add. */
export function isVocabulary(name: string): boolean {
  return /(embed_tokens|lm_head)\.weight$/.test(name);
}

/** What is stored, without rows that writing has added at its end. */
export function withoutRows(stored: StoredTensor, rows: number): StoredTensor {
  const [first = 0, ...rest] = stored.shape;
  if (rows === 0) return stored;
  const shape = [first - rows, ...rest];
  return {
    ...stored,
    shape,
    bytes: (stored.bytes / elementCount(stored.shape)) * elementCount(shape),
  };
}

export function misfit(where: string, what: string): DataError {
  return new DataError(`${where} does not fit the recipe: ${what}.`, {
    code: 'E_CHECKPOINT_TENSORS',
    hint: 'Go on with the recipe that the run was begun with; or begin a new run that starts from the checkpoint (`model.from`, or `model.adapter`).',
  });
}
