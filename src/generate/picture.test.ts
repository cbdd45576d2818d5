import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { normaliseTable } from '../data/image/normalise.js';
import { TextModel } from '../models/index.js';
import { readPictureSettings, usePictures } from './picture.js';
import { tinyLlava } from './testing.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'patina-picture-'));
});
afterEach(() => rm(folder, { recursive: true }));

const write = (name: string, json: unknown): Promise<void> =>
  writeFile(join(folder, name), typeof json === 'string' ? json : JSON.stringify(json));

describe('settings of pictures', () => {
  it("are CLIP's, padded, where the folder says nothing", async () => {
    expect(await readPictureSettings(folder, { size: 336 })).toMatchObject({
      ...{ size: 336, mode: 'pad', background: [122, 116, 104] },
      processor: { json: { do_pad: true, image_processor_type: 'LlavaImageProcessor' } },
    });
  });

  it('are those of the image processor', async () => {
    const half = [0.5, 0.5, 0.5];
    await write('preprocessor_config.json', {
      ...{ do_center_crop: true, image_mean: half, image_std: half, rescale_factor: 1 / 255 },
    });
    const found = await readPictureSettings(folder, { size: 8 });
    expect(found).toMatchObject({ mode: 'crop', background: [127, 127, 127] });
    expect(await readPictureSettings(folder, { size: 8, mode: 'pad' })).toMatchObject({
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
    expect(await readPictureSettings(folder, { size: 8 })).toMatchObject({ mode });
  });

  it('within a processor come first, as in transformers', async () => {
    await write('preprocessor_config.json', { do_center_crop: true });
    await write('processor_config.json', { image_processor: { do_pad: true } });
    expect(await readPictureSettings(folder, { size: 8 })).toMatchObject({ mode: 'pad' });
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
    [{ do_center_crop: false, size: { height: 8, width: 8 } }, 'squeezed'],
  ])('refuse %j', async (json, message) => {
    await write('preprocessor_config.json', json);
    await expect(readPictureSettings(folder, { size: 8 })).rejects.toThrow(message);
  });

  it('of pictures that are squeezed become what is chosen', async () => {
    const size = { height: 8, width: 8 };
    await write('preprocessor_config.json', { do_center_crop: false, size });
    const found = await readPictureSettings(folder, { size: 8, mode: 'crop' });
    expect(found.processor.json).toMatchObject({ size: { shortest_edge: 8 }, crop_size: size });
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
