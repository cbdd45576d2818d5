import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';

import { packageRoot } from '../../base/native-path.js';
import { FaultFolder } from './testing.js';

const FIXTURES = join(packageRoot(), 'test', 'fixtures', 'llava');
const told = (variant: string): { tokens: number }[] =>
  JSON.parse(readFileSync(join(FIXTURES, variant, 'sizes.json'), 'utf8')) as { tokens: number }[];
const fileOf = (picture: number): string =>
  join(FIXTURES, 'next-llama3', 'pictures', `size-${picture}.png`);

test('records with pictures in tiles are as long as their sizes make them', async () => {
  const folder = new FaultFolder(join(FIXTURES, 'next-llama3', 'hf'));
  try {
    const sizes = told('next-llama3');
    const record = (picture: number, id: string): object => ({
      id,
      image: fileOf(picture),
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
    const text = alone.tokens - sizes[14]!.tokens;
    const pictures = sizes[2]!.tokens + sizes[13]!.tokens + sizes[14]!.tokens;
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
  const folder = new FaultFolder(join(FIXTURES, 'siglip-qwen2', 'hf'));
  const findings = async (image: { mode?: 'pad' }) =>
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
    expect(await findings({})).toEqual([]);
    expect(await findings({ mode: 'pad' })).toMatchObject([
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

test('of a LLaVA-OneVision several pictures of a record take as much each, whatever their sizes', async () => {
  const folder = new FaultFolder(join(FIXTURES, 'onevision-qwen2', 'hf'));
  try {
    const tokens = async (...pictures: number[]): Promise<number> => {
      folder.records([
        {
          ...{ id: 'a', images: pictures.map(fileOf) },
          conversations: [
            { from: 'human', value: '<image>'.repeat(pictures.length) },
            { from: 'gpt', value: 'Yes.' },
          ],
        },
      ]);
      return (await folder.check()).summary.tokens;
    };
    const sizes = told('onevision-qwen2');
    expect((await tokens(2)) - (await tokens(9))).toBe(sizes[2]!.tokens - sizes[9]!.tokens);
    expect(await tokens(2, 9)).toBe(await tokens(9, 9));
    const newlineOfTemplate = 1;
    expect((await tokens(2, 9, 5)) - (await tokens(2, 9))).toBe(4 ** 2 + 1 + newlineOfTemplate);
  } finally {
    folder.remove();
  }
});
