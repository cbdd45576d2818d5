import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

import { packageRoot } from '../../base/native-path.js';
import { FaultFolder } from './testing.js';

const LLAVAS = join(packageRoot(), 'test', 'fixtures', 'llava');
const FIXTURE = join(LLAVAS, 'next-llama3');

test('records with pictures in tiles are as long as their sizes make them', async () => {
  const folder = new FaultFolder(join(FIXTURE, 'hf'));
  try {
    const told = JSON.parse(readFileSync(join(FIXTURE, 'sizes.json'), 'utf8')) as {
      tokens: number;
    }[];
    const record = (picture: number, id: string): object => ({
      id,
      image: join(FIXTURE, 'pictures', `size-${picture}.png`),
      conversations: [
        { from: 'human', value: `<image>\n${id}?` },
        { from: 'gpt', value: id },
      ],
    });
    folder.records([record(2, 'a'), record(13, 'b'), record(14, 'c')]);
    const { summary } = await folder.check();
    folder.records([record(14, 'c')]);
    const { summary: alone } = await folder.check();
    // The same text about three pictures.
    const text = alone.tokens - told[14]!.tokens;
    const pictures = told[2]!.tokens + told[13]!.tokens + told[14]!.tokens;
    expect(summary.tokens).toBe(3 * text + pictures);

    const limit = { text: { maxLength: alone.tokens } };
    expect((await folder.check(limit)).findings).toEqual([]);
    folder.records([record(2, 'a')]);
    const { findings } = await folder.check(limit);
    expect(findings).toMatchObject([{ severity: 'error' }]);
  } finally {
    folder.remove();
  }
});

test('pictures that a SigLIP has squeezed, and a recipe padded, are told of', async () => {
  const folder = new FaultFolder(join(LLAVAS, 'siglip-qwen2', 'hf'));
  const told = async (image: { mode?: 'pad' }) =>
    (await folder.check({ image })).findings.filter(({ code }) => code === 'pictures-not-squeezed');
  try {
    folder.records([
      {
        id: 'a',
        image: await folder.picture('a.png'),
        conversations: [
          { from: 'human', value: '<image>\na?' },
          { from: 'gpt', value: 'a' },
        ],
      },
    ]);
    expect(await told({})).toEqual([]);
    expect(await told({ mode: 'pad' })).toMatchObject([
      {
        severity: 'warning',
        message:
          "pictures are padded to squares, and the model's image processor has them squeezed",
      },
    ]);
  } finally {
    folder.remove();
  }
});
