/** How far tensors are from those of a reference. */
import { scope, type Tensor } from '../src/torch/index.js';

/** How many elements are not equal to the bit; all, where type or shape is another. */
export function differing(own: Tensor, stored: Tensor): number {
  if (own.dtype !== stored.dtype || own.shape.join() !== stored.shape.join()) return stored.numel;
  const [a, b] = [own.toBytes(), stored.toBytes()];
  const size = a.length / Math.max(1, own.numel);
  let count = 0;
  for (let at = 0; at < a.length; at += size) {
    if (!Buffer.from(a.subarray(at, at + size)).equals(b.subarray(at, at + size))) count += 1;
  }
  return count;
}

/** The largest difference, as a share of the largest magnitude. */
export function distance(own: Tensor, stored: Tensor): number {
  if (own.shape.join() !== stored.shape.join()) return NaN;
  return scope(() => {
    const [a, b] = [own.to('float64'), stored.to('float64')];
    return a.sub(b).abs().max().item() / Math.max(b.abs().max().item(), 1e-300);
  });
}
