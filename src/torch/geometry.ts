/** Shape and strides as the native side reads them from the shared buffer. */

import { UsageError } from '../base/errors.js';
import { B, room } from './door.js';

/** Writes [rank, sizes..., has strides, strides...] to the start of the buffer. */
export function putGeometry(shape: readonly number[], strides?: readonly number[]): void {
  for (const list of [shape, strides ?? []]) {
    const wrong = list.find((value) => !Number.isSafeInteger(value) || value < 0);
    if (wrong === undefined) continue;
    throw new UsageError(`${wrong} in [${list.join(', ')}] is no number of elements`, {
      code: 'E_ARGUMENT',
      hint: 'Give sizes and strides as whole numbers from 0.',
    });
  }
  if (strides !== undefined && strides.length !== shape.length) {
    throw new UsageError(`${strides.length} strides for ${shape.length} dimensions`, {
      code: 'E_ARGUMENT',
      hint: 'Give one stride per dimension.',
    });
  }
  room(0, 2 * shape.length + 2);
  let at = 0;
  B[at++] = shape.length;
  for (const size of shape) B[at++] = size;
  B[at++] = strides === undefined ? 0 : 1;
  if (strides !== undefined) for (const stride of strides) B[at++] = stride;
}
