/** Values from a file into tensors that are there already: one at a time, so that nothing is held twice. */

import { DataError } from '../../base/errors.js';
import { elementCount, type StoredTensor } from '../../formats/stored.js';
import { placeTensors, torchDType } from '../../models/index.js';
import { noGrad, type Tensor } from '../../torch/index.js';

/**
 * Copies stored values into the targets of the same names.
 *
 * @throws DataError `E_CHECKPOINT_TENSORS` where one is missing, of another shape or type, or has no target
 */
export async function restoreTensors(
  where: string,
  stored: ReadonlyMap<string, StoredTensor>,
  targets: ReadonlyMap<string, Tensor>,
): Promise<void> {
  const names = [...targets.keys()];
  const placements = names.map((name) => {
    const found = stored.get(name);
    const target = targets.get(name)!;
    if (found === undefined) throw misfit(where, `${name} is missing`);
    const dtype = torchDType(found);
    const shapes = [found.shape, target.shape].map((shape) => `[${shape.join(', ')}]`);
    if (shapes[0] !== shapes[1] || dtype !== target.dtype) {
      const [was, is] = [`${dtype} ${shapes[0]!}`, `${target.dtype} ${shapes[1]!}`];
      throw misfit(where, `${name} is ${was}, and the run needs ${is}`);
    }
    return { stored: found, dtype };
  });
  const stranger = [...stored.keys()].find((name) => !targets.has(name));
  if (stranger !== undefined) throw misfit(where, `${stranger} is nothing that the run reads`);
  const device = targets.values().next().value?.device ?? 'cpu';
  await placeTensors(placements, device, (tensor, i) => {
    noGrad(() => targets.get(names[i]!)!.copy_(tensor));
    tensor.dispose();
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
