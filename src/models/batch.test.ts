import { expect, test } from 'vitest';

import { DataError } from '../base/errors.js';
import { scope } from '../torch/index.js';
import { makeBatch } from './batch.js';
import type { InputFacts, Sample } from './sample.js';

const input: InputFacts = { vocabSize: 10, image: { tokenId: -200, tokens: 2, size: 2 } };
const picture = (value: number): Float32Array => new Float32Array(12).fill(value);

test('packs samples on one axis and says where everything is', () => {
  scope(() => {
    const batch = makeBatch(
      [
        {
          inputIds: [1, -200, -200, 5, -200, -200, 6],
          labels: [-100, -100, -100, 5, -100, -100, 6],
          images: [picture(1), picture(2)],
        },
        { inputIds: [7, 8, 9], labels: [7, -100, 9], images: [] },
      ],
      input,
    );
    expect(batch.inputIds.toArray()).toEqual([[1, 0, 0, 5, 0, 0, 6, 7, 8, 9]]);
    expect(batch.positions.toArray()).toEqual([[0, 1, 2, 3, 4, 5, 6, 0, 1, 2]]);
    expect(batch.sequences.lengths).toEqual([7, 3]);
    expect(batch.sequences.starts.toArray()).toEqual([0, 7, 10]);
    expect(batch.places.records.toArray()).toEqual([0, 0, 0, 0, 0, 0, 0, 1, 1, 1]);
    expect(batch.places.indices.toArray()).toEqual([0, 1, 2, 3, 4, 5, 6, 0, 1, 2]);
    expect(batch.images!.positions.toArray()).toEqual([1, 2, 4, 5]);
    expect(batch.images!.places.records.toArray()).toEqual([0, 0]);
    expect(batch.images!.places.indices.toArray()).toEqual([0, 1]);
    expect(batch.images!.pixelValues.shape).toEqual([2, 3, 2, 2]);
    // Position t predicts the label of t + 1; a first label has nothing before it.
    expect(batch.supervised.positions.toArray()).toEqual([2, 5, 8]);
    expect(batch.supervised.targets.toArray()).toEqual([5, 6, 9]);
    expect(batch.counts).toEqual({
      sequences: 2,
      tokens: 10,
      imageTokens: 4,
      images: 2,
      supervised: 3,
    });
  });
});

test('a record has its own position in the effective batch, or counts in this one', () => {
  scope(() => {
    const text: Sample = { inputIds: [7, 8], labels: [7, 8], images: [] };
    const seen: Sample = { inputIds: [-200, -200], labels: [-100, 1], images: [picture(1)] };
    const samples = [text, { ...seen, position: 40 }, seen];
    const { places, images } = makeBatch(samples, input);
    expect(places.records.toArray()).toEqual([0, 0, 40, 40, 2, 2]);
    expect(images!.places.records.toArray()).toEqual([40, 2]);
    expect(images!.places.indices.toArray()).toEqual([0, 0]);
  });
});

test('pictures in tiles give all their views, and say which features their tokens are', () => {
  const tiles = { pinpoints: [{ height: 2, width: 4 }], size: 2, patches: 1 };
  const tiled: InputFacts = { vocabSize: 10, image: { tokenId: -200, tokens: 4, size: 2, tiles } };
  const views = (value: number): Float32Array => new Float32Array(36).fill(value);
  // The whole picture, two features of a row and its end; of a square, one column is all padding.
  const wide = { height: 2, width: 4, views: views(1) };
  const tall = { height: 4, width: 1, views: views(2) };
  const ids = [1, ...Array<number>(4).fill(-200), 5, -200, -200];
  const sample: Sample = { inputIds: ids, labels: ids.map(() => 5), images: [wide, tall] };
  scope(() => {
    const { images, counts } = makeBatch([sample], tiled);
    expect(images!.positions.toArray()).toEqual([1, 2, 3, 4, 6, 7]);
    expect(images!.arrangement!.tokens.toArray()).toEqual([0, 1, 2, 6, 3, 6]);
    expect(images!.pixelValues.shape).toEqual([6, 3, 2, 2]);
    expect(images!.places.indices.toArray()).toEqual([0, 1, 2, 3, 4, 5]);
    expect(counts).toMatchObject({ images: 2, imageTokens: 6 });
  });
  for (const [images, message] of [
    [[wide, wide], '6 image tokens for 2 images of 4 + 4'],
    [[wide, picture(1)], 'image 1 comes without tiles'],
    [[{ ...wide, views: picture(1) }, tall], 'image 0 has 12 values, not 3 x 3 x 2 x 2'],
  ] as const) {
    expect(() => makeBatch([{ ...sample, images }], tiled)).toThrow(message);
  }
});

test('bytes are normalised by the table, channel by channel', () => {
  scope(() => {
    const bytes = Uint8Array.from([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 255]);
    const normaliseTable = Float32Array.from({ length: 768 }, (_, i) => i / 4);
    const sample = { inputIds: [-200, -200], labels: [-100, -100], images: [bytes] };
    const normalising = { ...input, image: { ...input.image!, normaliseTable } };
    const { images } = makeBatch([sample], normalising);
    const channel = (c: number) => [0, 3, 6, 9].map((i) => (256 * c + bytes[i + c]!) / 4);
    const values = images!.pixelValues.contiguous().view([3, 4]).toArray();
    expect(values).toEqual([channel(0), channel(1), channel(2)]);
    // A Buffer, as decoders of images give it, is bytes too.
    const buffered = { ...sample, images: [Buffer.from(bytes)] };
    const same = makeBatch([buffered], normalising);
    expect(same.images!.pixelValues.toArray()).toEqual(images!.pixelValues.toArray());
  });
});

test.each<[string, Sample[], RegExp]>([
  ['no tokens', [{ inputIds: [], labels: [], images: [] }], /sample 0 .*no tokens/],
  ['labels of another length', [{ inputIds: [1], labels: [], images: [] }], /0 labels for 1/],
  ['an id outside', [{ inputIds: [10], labels: [-100], images: [] }], /token 0 is 10/],
  ['a fraction', [{ inputIds: [0.5], labels: [-100], images: [] }], /token 0 is 0\.5/],
  ['a label outside', [{ inputIds: [1], labels: [-1], images: [] }], /label 0 is -1/],
  [
    'an image too many, in the second sample',
    [
      { inputIds: [1], labels: [1], images: [] },
      { inputIds: [-200, -200], labels: [-100, -100], images: [picture(0), picture(0)] },
    ],
    /sample 1 .*2 image tokens for 2 images of 2/,
  ],
  [
    'an image of another size',
    [{ inputIds: [-200, -200], labels: [-100, -100], images: [new Float32Array(3)] }],
    /image 0 has 3 values, not 3 x 2 x 2/,
  ],
  [
    'bytes without a table',
    [{ inputIds: [-200, -200], labels: [-100, -100], images: [new Uint8Array(12)] }],
    /no table/,
  ],
  [
    'bytes among pixels',
    [
      {
        inputIds: [-200, -200, -200, -200],
        labels: [-100, -100, -100, -100],
        images: [new Uint8Array(12), picture(0)],
      },
    ],
    /table|one form|some images/,
  ],
])('refuses %s', (_name, samples, message) => {
  const make = () => scope(() => makeBatch(samples, input));
  expect(make).toThrow(DataError);
  expect(make).toThrow(message);
});

test('a model without a tower takes no images', () => {
  const sample = { inputIds: [1], labels: [1], images: [picture(0)] };
  const textOnly = { vocabSize: 10, image: null };
  expect(() => makeBatch([sample], textOnly)).toThrow(/takes no images|0 image tokens/);
});
