/** Batches of records of given shapes, without files. */

import { makeBatch, type Batch, type LanguageModel, type Sample } from '../models/index.js';
import { hold, noGrad, openRange, type Device, type Holding } from '../torch/index.js';
import type { RecordShape } from '../train/index.js';
import { scattered } from './noise.js';
import { shapePictures } from './shape-pictures.js';

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
export function sampleOf(record: RecordShape, { input }: LanguageModel): Sample {
  const { tokens, supervised } = record;
  const pictures = shapePictures(record, input.image);
  const place = input.image?.tokenId ?? Infinity;
  const words = Math.min(place, input.vocabSize);
  const inputIds = Int32Array.from({ length: tokens }, (_, i) => scattered(i) % words);
  inputIds.fill(place, 0, pictures.tokens);
  const labels = inputIds.slice().fill(-100, 0, tokens - supervised);
  return { inputIds, labels, images: pictures.images };
}
