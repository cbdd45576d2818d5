/** Batches of records of given shapes, without files. */

import { makeBatch, type Batch, type LanguageModel, type Sample } from '../models/index.js';
import { hold, noGrad, openRange, type Device, type Holding } from '../torch/index.js';
import type { RecordShape } from '../train/index.js';

/** Micro-batches of records of these shapes on a device. */
export function batchesOf(
  model: LanguageModel,
  shapes: readonly (readonly RecordShape[])[],
  device: Device,
): Holding<Batch[]> {
  using _ = openRange('batch');
  return hold((): Batch[] =>
    noGrad(() =>
      shapes.map((records) =>
        makeBatch(
          records.map((record) => sampleOf(record, model)),
          model.input,
          { device },
        ),
      ),
    ),
  );
}

/** Pictures come first; the last tokens are what is learned. */
export function sampleOf(
  { tokens, supervised, images }: RecordShape,
  { input }: LanguageModel,
): Sample {
  const pictures = images * (input.image?.tokens ?? 0);
  const inputIds = new Int32Array(tokens);
  inputIds.fill(input.image?.tokenId ?? 0, 0, pictures);
  const labels = new Int32Array(tokens).fill(-100);
  labels.fill(0, tokens - supervised);
  const { size = 0 } = input.image ?? {};
  const picture = new Uint8Array(3 * size * size);
  return { inputIds, labels, images: Array<Uint8Array>(images).fill(picture) };
}
