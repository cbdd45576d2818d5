/** Samples from rows that are padded on the right, as transformers takes them. */
import type { Tensor } from '../torch/index.js';
import type { InputFacts, Sample } from './sample.js';

/** B: rows, T: positions of the longest, I: images of all rows in their order. */
export interface PaddedRows {
  /** (B, T) of int64 each. */
  readonly inputIds: Tensor;
  readonly attentionMask: Tensor;
  readonly labels: Tensor;
  /** (I, 3, S, S), float32 */
  readonly pixelValues: Tensor | null;
}

/** The rows without their padding, each with the images that its image tokens ask for. */
export function unpadRows(
  { inputIds, attentionMask, labels, pixelValues }: PaddedRows,
  { image }: InputFacts,
): Sample[] {
  const [B, T] = inputIds.shape as [number, number];
  const pixels = pixelValues?.toTypedArray() as Float32Array | undefined;
  const pixelsEach = 3 * (image?.size ?? 0) ** 2;
  const [ids, mask, targets] = [inputIds, attentionMask, labels].map((rows) =>
    Array.from(rows.toTypedArray() as BigInt64Array, Number),
  ) as [number[], number[], number[]];
  let used = 0;
  return Array.from({ length: B }, (_, row) => {
    const length = mask.slice(row * T, (row + 1) * T).reduce((sum, each) => sum + each, 0);
    const own = (values: number[]): number[] => values.slice(row * T, row * T + length);
    const tokens = own(ids).filter((id) => id === image?.tokenId).length;
    const images = Array.from({ length: tokens / (image?.tokens ?? 1) }, () =>
      pixels!.slice(used++ * pixelsEach, used * pixelsEach),
    );
    return { inputIds: own(ids), labels: own(targets), images };
  });
}
