/** Samples from rows that are padded on the right, as transformers takes them. */
import type { Tensor } from '../torch/index.js';
import { type ImagePixels, imageTokensOf, type InputFacts, type Sample } from './sample.js';
import { tilesAmong, viewCount } from './tiles.js';

/** B: rows, T: positions of the longest, I: images of all rows in their order. */
export interface PaddedRows {
  /** (B, T) of int64 each. */
  readonly inputIds: Tensor;
  readonly attentionMask: Tensor;
  readonly labels: Tensor;
  /** (I, 3, S, S), float32; of pictures in tiles all views, one after another. */
  readonly pixelValues: Tensor | null;
  /** Height and width of each picture that comes in tiles (pictures, 2), int64. */
  readonly imageSizes?: Tensor | null;
  /** Pictures of each row that has any, where it counts how many (rows), int64. */
  readonly batchNumImages?: Tensor | null;
}

/** The rows without their padding, each with the images that its image tokens ask for. */
export function unpadRows(
  { inputIds, attentionMask, labels, pixelValues, ...more }: PaddedRows,
  { image }: InputFacts,
): Sample[] {
  const [B, T] = inputIds.shape as [number, number];
  const pixels = pixelValues?.toTypedArray() as Float32Array | undefined;
  const view = 3 * (image?.size ?? 0) ** 2;
  const numbers = (of: Tensor | null = null): number[] =>
    Array.from((of?.toTypedArray() ?? []) as BigInt64Array, Number);
  const [ids, mask, targets] = [numbers(inputIds), numbers(attentionMask), numbers(labels)];
  const [sizes, counts] = [numbers(more.imageSizes), numbers(more.batchNumImages)];
  let [used, pictures] = [0, 0];
  const take = (views: number): Float32Array => pixels!.slice(used * view, (used += views) * view);
  const next = (count: number): ImagePixels => {
    const { tiles } = image!;
    if (tiles === undefined) return take(1);
    const [height, width] = sizes.slice(2 * pictures, 2 * ++pictures) as [number, number];
    const views = viewCount({ height, width }, tilesAmong(tiles, count));
    return { height, width, views: take(views) };
  };
  return Array.from({ length: B }, (_, row) => {
    const length = mask.slice(row * T, (row + 1) * T).reduce((sum, each) => sum + each, 0);
    const own = (values: number[]): number[] => values.slice(row * T, row * T + length);
    let tokens = own(ids).filter((id) => id === image?.tokenId).length;
    const images: ImagePixels[] = [];
    const count = tokens > 0 ? (counts.shift() ?? 1) : 0;
    while (tokens > 0) {
      const picture = next(count);
      images.push(picture);
      tokens -= imageTokensOf(picture, count, image!);
    }
    return { inputIds: own(ids), labels: own(targets), images };
  });
}
