import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { LLAMA3_TEMPLATE, loadTokenizer } from '../../text/index.js';
import { checkRecipe } from '../../config/index.js';
import { SIDE } from './draw.js';
import {
  isPrepared,
  prepareQuickstart,
  QUICKSTART_IMAGE_TOKEN,
  QUICKSTART_VOCABULARY,
  SIZES,
} from './prepare.js';
import { quickstart, quickstartQuestions } from './recipes.js';
import { makeScenes } from './scenes.js';

let root: string;
let folder: string;
beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'patina-quickstart-'));
  folder = join(root, 'data');
  expect(await isPrepared(folder)).toBe(false);
  await prepareQuickstart(folder, { sizes: { train: 120, heldOut: 6, unseen: 4 } });
});
afterAll(() => rmSync(root, { recursive: true }));

interface Written {
  image: string;
  conversations: { from: string; value: string }[];
}
const records = (name: string): Written[] =>
  JSON.parse(readFileSync(join(folder, name), 'utf8')) as Written[];

test('unseen combinations are in no training scene, and no scene comes twice', () => {
  const { train, heldOut, unseen } = makeScenes(SIZES, 1);
  const pair = ({ shape, colour }: (typeof train)[number]): string => `${colour} ${shape}`;
  const trained = new Set(train.map(pair));
  expect(unseen.filter((scene) => trained.has(pair(scene)))).toEqual([]);
  expect(heldOut.every((scene) => trained.has(pair(scene)))).toBe(true);
  const all = [...train, ...heldOut, ...unseen].map((scene) => JSON.stringify(scene));
  expect(new Set(all).size).toBe(all.length);
  expect(makeScenes(SIZES, 1)).toEqual({ train, heldOut, unseen });
});

test('the folder holds pictures of both kinds and records about them', async () => {
  expect(await isPrepared(folder)).toBe(true);
  const captions = records('captions.json');
  expect(captions).toHaveLength(120);
  expect(captions[0]!.conversations[0]!.value).toBe('<image>\nDescribe the picture.');
  for (const { image } of captions.slice(0, 2)) {
    const { format, width, height } = await sharp(join(folder, image)).metadata();
    expect([format, width, height]).toEqual([image.endsWith('png') ? 'png' : 'jpeg', SIDE, SIDE]);
  }
  const asked = records('heldout.json').flatMap(({ conversations }) => conversations);
  expect(asked.map(({ value }) => value)).toContain('<image>\nWhat shape is shown?');
});

test('the tokenizer has the ids of the recipes, and words as tokens', async () => {
  const tokenizer = await loadTokenizer(join(folder, 'tokenizer'));
  expect(readFileSync(join(folder, 'tokenizer/chat_template.jinja'), 'utf8')).toBe(LLAMA3_TEMPLATE);
  expect(tokenizer.encode('What colour is it?')).toHaveLength(5);
  expect(tokenizer.vocabularySize).toBe(QUICKSTART_VOCABULARY);
  expect(tokenizer.imageTokenId).toBe(QUICKSTART_IMAGE_TOKEN);
  for (const recipe of [quickstart, quickstartQuestions]) checkRecipe(recipe);
});
