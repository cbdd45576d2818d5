import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { normaliseTable } from '../data/image/normalise.js';
import { packageRoot } from '../base/native-path.js';
import { readTensorFile, TextModel } from '../models/index.js';
import { readPicture, readPictureSettings, usePictures } from './picture.js';
import { tinyLlava } from './testing.js';

const CLIP = { family: 'clip', imageSize: 8 } as const;

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'patina-picture-'));
});
afterEach(() => rm(folder, { recursive: true }));

const write = (name: string, json: unknown): Promise<void> =>
  writeFile(join(folder, name), typeof json === 'string' ? json : JSON.stringify(json));

describe('settings of pictures', () => {
  it("are CLIP's, padded, where the folder says nothing", async () => {
    expect(await readPictureSettings(folder, { tower: { ...CLIP, imageSize: 336 } })).toMatchObject(
      {
        ...{ size: 336, mode: 'pad', background: [122, 116, 104] },
        processor: { json: { do_pad: true, image_processor_type: 'LlavaImageProcessor' } },
      },
    );
  });

  it('are those of the image processor', async () => {
    const half = [0.5, 0.5, 0.5];
    await write('preprocessor_config.json', {
      ...{ do_center_crop: true, image_mean: half, image_std: half, rescale_factor: 1 / 255 },
    });
    const found = await readPictureSettings(folder, { tower: CLIP });
    expect(found).toMatchObject({ mode: 'crop', background: [127, 127, 127] });
    expect(await readPictureSettings(folder, { tower: CLIP, mode: 'pad' })).toMatchObject({
      mode: 'pad',
    });
  });

  it.each([
    [{ image_processor: { do_center_crop: true, do_pad: true } }, 'pad'],
    [{ image_processor: { do_center_crop: true } }, 'crop'],
    [{ image_processor: {} }, 'crop'],
    [{ image_processor: { do_pad: true, do_center_crop: false, size: 8 } }, 'pad'],
    [{ image_token: '<image>' }, 'pad'],
  ])('are found within a processor: %o', async (json, mode) => {
    await write('processor_config.json', json);
    expect(await readPictureSettings(folder, { tower: CLIP })).toMatchObject({ mode });
  });

  it('within a processor come first, as in transformers', async () => {
    await write('preprocessor_config.json', { do_center_crop: true });
    await write('processor_config.json', { image_processor: { do_pad: true } });
    expect(await readPictureSettings(folder, { tower: CLIP })).toMatchObject({ mode: 'pad' });
  });

  describe('of a model that takes tiles', () => {
    const pinpoints = [{ height: 8, width: 16 }];
    const tower = { family: 'clip', imageSize: 8 } as const;
    const options = { tower, tiles: { pinpoints, size: 8, patches: 2 } };
    const listed = { image_grid_pinpoints: [[8, 16]] };

    it("are its processor's, whatever mode is asked for", async () => {
      const half = [0.5, 0.5, 0.5];
      await write('preprocessor_config.json', { ...listed, do_pad: true, image_std: half });
      expect(await readPictureSettings(folder, { ...options, mode: 'pad' })).toMatchObject({
        tiles: options.tiles,
        processor: {
          std: half,
          json: { ...listed, do_pad: true, image_processor_type: 'LlavaNextImageProcessor' },
        },
      });
    });

    it("are CLIP's where the folder says nothing", async () => {
      const { tiles, processor } = await readPictureSettings(folder, options);
      expect(tiles).toBe(options.tiles);
      expect(processor.json).toMatchObject({ ...listed, crop_size: { height: 8, width: 8 } });
    });

    it.each([
      [{ image_grid_pinpoints: [[16, 8]] }, 'image_grid_pinpoints: it lists other resolutions'],
      [{}, 'image_grid_pinpoints: it lists other resolutions'],
      [{ ...listed, crop_size: { height: 9, width: 8 } }, 'crop_size: it makes views of'],
      [{ ...listed, do_center_crop: false, size: 9 }, 'size: it makes views of 9'],
      [{ ...listed, do_rescale: false }, 'do_rescale: false leaves out a step'],
      [{ ...listed, resample: 2 }, 'resample: 2 is another filter'],
    ])('refuse %j', async (json, message) => {
      await write('preprocessor_config.json', json);
      await expect(readPictureSettings(folder, options)).rejects.toThrow(message);
    });
  });

  describe('of a LLaVA-OneVision', () => {
    const pinpoints = [{ height: 8, width: 16 }];
    const tower = { family: 'siglip', imageSize: 8 } as const;
    const options = { tower, tiles: { pinpoints, size: 8, patches: 2, max: 2 } };
    const listed = { image_grid_pinpoints: [[8, 16]] };
    const square = { height: 8, width: 8 };

    it("are its processor's, else SigLIP's", async () => {
      const usual = await readPictureSettings(folder, options);
      expect(usual).toMatchObject({
        background: [127, 127, 127],
        processor: {
          mean: [0.5, 0.5, 0.5],
          json: {
            ...{ ...listed, do_pad: true, size: square },
            image_processor_type: 'LlavaOnevisionImageProcessor',
          },
        },
      });
      expect(Object.keys(usual.processor.json)).not.toContain('crop_size');
      await write('preprocessor_config.json', usual.processor.json);
      expect((await readPictureSettings(folder, options)).processor.json).toEqual(
        usual.processor.json,
      );
      // transformers' class has the mean of CLIP where its file has none.
      await write('preprocessor_config.json', { ...listed, size: square });
      expect(await readPictureSettings(folder, options)).toMatchObject({
        background: [122, 116, 104],
      });
    });

    it.each([
      [{}, 'image_grid_pinpoints: it lists other resolutions'],
      [{ ...listed, size: { height: 8, width: 9 } }, 'size: it makes views of'],
      [{ ...listed, do_center_crop: false, crop_size: 9 }, 'crop_size: it makes views of 9'],
      [{ ...listed, do_normalize: false }, 'do_normalize: false leaves out a step'],
    ])('refuse %j', async (json, message) => {
      await write('preprocessor_config.json', json);
      await expect(readPictureSettings(folder, options)).rejects.toThrow(message);
    });

    it.each([
      [{ vision_aspect_ratio: 'anyres_max_3' }, 'vision_aspect_ratio: the configuration of the'],
      [{}, 'vision_aspect_ratio: the configuration of the model says "anyres_max_2"'],
      [{ vision_aspect_ratio: 'square' }, 'vision_aspect_ratio: "square" is no "anyres_max_N"'],
    ])('refuse a processor that counts by another limit: %j', async (whole, message) => {
      const image_processor = { ...listed, size: square };
      await write('processor_config.json', { ...whole, image_processor });
      await expect(readPictureSettings(folder, options)).rejects.toThrow(message);
    });
  });

  it.each([
    ['not json', 'is not sound JSON'],
    [[], 'is not a JSON object'],
    [{ image_mean: [1] }, 'image_mean'],
    [{ image_std: [0.5, 0, 0.5] }, 'image_std.1'],
    [{ do_normalize: false }, 'do_normalize: false leaves out a step'],
    [{ resample: 2 }, 'resample: 2 is another filter'],
    [{ size: 9, crop_size: 8 }, 'size: the vision tower takes 8 x 8'],
    [{ crop_size: 9 }, 'makes pictures of {"height":9,"width":9}'],
    [{ do_center_crop: false }, 'makes pictures of {"shortest_edge":8}'],
    [
      { image_processor_type: 'SiglipImageProcessor', size: { height: 9, width: 9 } },
      'size: it makes',
    ],
  ])('refuse %j', async (json, message) => {
    await write('preprocessor_config.json', json);
    await expect(readPictureSettings(folder, { tower: CLIP })).rejects.toThrow(message);
  });

  it.each([
    { do_center_crop: false, size: { height: 8, width: 8 } },
    { image_processor_type: 'SiglipImageProcessor' },
  ])('of pictures that are squeezed, also become what is chosen: %o', async (json) => {
    const size = { height: 8, width: 8 };
    await write('preprocessor_config.json', json);
    const squeezed = await readPictureSettings(folder, { tower: CLIP });
    expect(squeezed).toMatchObject({
      mode: 'squeeze',
      processor: { json: { image_processor_type: 'SiglipImageProcessor', size } },
    });
    expect(Object.keys(squeezed.processor.json)).not.toContain('crop_size');
    const { processor } = await readPictureSettings(folder, { tower: CLIP, mode: 'crop' });
    expect(processor.json).toMatchObject({
      ...{ image_processor_type: 'CLIPImageProcessor', do_center_crop: true },
      ...{ size: { shortest_edge: 8 }, crop_size: size },
    });
    await write('preprocessor_config.json', processor.json);
    expect(await readPictureSettings(folder, { tower: CLIP, mode: 'squeeze' })).toEqual({
      ...squeezed,
      own: 'crop',
    });
  });

  it("are SigLIP's own where nothing says them", async () => {
    const found = await readPictureSettings(folder, { tower: { family: 'siglip', imageSize: 8 } });
    expect(found).toMatchObject({
      ...{ mode: 'squeeze', background: [127, 127, 127] },
      processor: { mean: [0.5, 0.5, 0.5], std: [0.5, 0.5, 0.5] },
    });
  });
});

describe.each(['siglip-qwen2', 'siglip-qwen3'])('the pictures of %s', (variant) => {
  const fixture = join(packageRoot(), 'test', 'fixtures', 'llava', variant);

  it.each([0, 1])('are those of the reference to the bit: %i', async (number) => {
    const tower = { family: 'siglip', imageSize: 31 } as const;
    const settings = await readPictureSettings(join(fixture, 'hf'), { tower });
    const { mean, std, rescaleFactor } = settings.processor;
    const table = normaliseTable(mean, std, rescaleFactor);
    const tensors = await readTensorFile(join(fixture, 'pictures', `${number}.safetensors`));
    using expected = tensors.get('pixel_values')!;
    const plane = settings.size ** 2;
    const values: number[] = [];
    for (let i = 0; i < expected.size(0); i++) {
      const file = join(fixture, 'pictures', `${number}-${i}.png`);
      const pixels = (await readPicture(file, settings)) as Uint8Array;
      for (let c = 0; c < 3; c++) {
        for (let p = 0; p < plane; p++) values.push(table[256 * c + pixels[3 * p + c]!]!);
      }
    }
    expect(values).toEqual(Array.from(expected.toTypedArray(), Number));
  });
});

it('a model normalises its pictures by the settings that it is given', async () => {
  const llava = await tinyLlava('llama3');
  expect(llava.input.image!.normaliseTable).toBeUndefined();
  await usePictures(llava, folder);
  expect(llava.input.image!.normaliseTable).toEqual(normaliseTable());
  const half = [0.5, 0.5, 0.5];
  await write('preprocessor_config.json', { image_mean: half, image_std: half });
  const settings = await usePictures(llava, folder, { mode: 'pad' });
  expect(settings).toMatchObject({ size: llava.config.vision.imageSize, mode: 'pad' });
  expect(llava.input.image!.normaliseTable).toEqual(
    normaliseTable([0.5, 0.5, 0.5], [0.5, 0.5, 0.5]),
  );
  const text = new TextModel(llava.config.text);
  expect(await usePictures(text, folder)).toBeNull();
  text.dispose();
  llava.dispose();
});
