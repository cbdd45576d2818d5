/** Shape and strides as the native side reads them from the shared buffer. */

import { B, room } from './door.js';

/** Writes [rank, sizes..., has strides, strides...] to the start of the buffer. */
export function putGeometry(shape: readonly number[], strides?: readonly number[]): void {
  room(0, 2 * shape.length + 2);
  let at = 0;
  B[at++] = shape.length;
  for (const size of shape) B[at++] = size;
  B[at++] = strides === undefined ? 0 : 1;
  if (strides !== undefined) for (const stride of strides) B[at++] = stride;
}
