import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { normaliseTable } from '../data/image/normalise.js';
import { readPictureSettings } from './picture.js';

let folder: string;
beforeEach(async () => {
  folder = await mkdtemp(join(tmpdir(), 'patina-picture-'));
});
afterEach(() => rm(folder, { recursive: true }));

const write = (name: string, json: unknown): Promise<void> =>
  writeFile(join(folder, name), typeof json === 'string' ? json : JSON.stringify(json));

describe('settings of pictures', () => {
  it("are CLIP's, padded, where the folder says nothing", async () => {
    expect(await readPictureSettings(folder, { size: 336 })).toEqual({
      ...{ size: 336, mode: 'pad', background: [122, 116, 104] },
      normaliseTable: normaliseTable(),
    });
  });

  it('are those of the image processor', async () => {
    const half = [0.5, 0.5, 0.5];
    await write('preprocessor_config.json', {
      ...{ do_center_crop: true, image_mean: half, image_std: half, rescale_factor: 1 / 255 },
    });
    const found = await readPictureSettings(folder, { size: 8 });
    expect(found).toMatchObject({ mode: 'crop', background: [127, 127, 127] });
    expect(found.normaliseTable[255]).toBe(1);
    expect(await readPictureSettings(folder, { size: 8, mode: 'pad' })).toMatchObject({
      mode: 'pad',
    });
  });

  it.each([
    [{ image_processor: { do_center_crop: true, do_pad: true } }, 'pad'],
    [{ image_processor: { do_center_crop: true } }, 'crop'],
    [{ image_processor: { do_center_crop: false } }, 'pad'],
    [{ image_token: '<image>' }, 'pad'],
  ])('are found within a processor: %o', async (json, mode) => {
    await write('processor_config.json', json);
    expect(await readPictureSettings(folder, { size: 8 })).toMatchObject({ mode });
  });

  it.each(['not json', { image_mean: [1] }, []])('refuse %o', async (json) => {
    await write('preprocessor_config.json', json);
    await expect(readPictureSettings(folder, { size: 8 })).rejects.toMatchObject({
      code: 'E_PROCESSOR',
    });
  });
});
