import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { prepareQuickstart } from '../recipes/quickstart/prepare.js';
import { QUICKSTART_DATA } from '../recipes/quickstart/recipes.js';
import type { TrainEvent } from '../train/index.js';
import { patina } from './testing.js';

const before = process.cwd();
let folder: string;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'patina-photographs-'));
  process.chdir(folder);
  await prepareQuickstart(QUICKSTART_DATA, { sizes: { train: 120, heldOut: 4, unseen: 3 } });
});
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true });
});

/** A picture that is like no other: soft patches of colour and noise, as a photograph has. */
async function photograph(name: string, seed: number): Promise<string> {
  const [width, height] = [48 + (seed % 3) * 8, 40];
  const pixels = Uint8ClampedArray.from({ length: 3 * width * height }, (_, i) => {
    const [x, y, c] = [(Math.floor(i / 3) % width) / 9, Math.floor(i / 3 / width) / 7, i % 3];
    return 128 + 100 * Math.sin(x * (1 + (seed % 4)) + c * seed + y) + 20 * Math.sin(i * 12.9);
  });
  await sharp(pixels, { raw: { width, height, channels: 3 } })
    .jpeg()
    .toFile(join(folder, name));
  return name;
}

test('patina train quickstart --data learns a dozen photographs by heart', async () => {
  const captions = ['harbour', 'meadow', 'kitchen', 'tram', 'owl', 'glacier'].flatMap((word) => [
    `A ${word} at noon.`,
    `A ${word} by night.`,
  ]);
  const records = [];
  for (const [i, value] of captions.entries()) {
    const conversations = [
      { from: 'human', value: '<image>\nWhat is this?' },
      { from: 'gpt', value },
    ];
    records.push({ image: await photograph(`${i}.jpg`, i), conversations });
  }
  const file = join(folder, 'photographs.json');
  writeFileSync(file, JSON.stringify(records));
  const probe = JSON.stringify([{ text: 'What is this?', images: [join(folder, '7.jpg')] }]);
  const { code, out, err } = await patina(
    ...['train', 'quickstart', '--data', file, '--json'],
    ...['--set', 'schedule.updates=180', '--set', 'batchSize=12'],
    ...['--set', `probes.questions=${probe}`],
  );
  expect(code, err).toBe(0);
  const events = out
    .trim()
    .split('\n')
    .map((line) => JSON.parse(line) as TrainEvent);
  const end = events.at(-1)!;
  expect(end).toMatchObject({ type: 'end', reason: 'finished' });
  expect((end as { loss: number }).loss).toBeLessThan(0.05);
  const probes = events.filter((event) => event.type === 'probes');
  expect(probes.at(-1)).toMatchObject({ update: 180, answers: [{ answer: captions[7] }] });
});
