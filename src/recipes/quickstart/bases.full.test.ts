/**
 * The quickstart's second stage over weights in few bits learns what it learns over those in fp32. Measured: validation loss after 150 updates
 * 0.02836 in fp32, 0.02851 in NF4 (0.5 % more), 0.02878 in fp8 (1.5 % more).
 */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { train, type EndEvent } from '../../train/index.js';
import { findRecipe } from '../find-recipe.js';
import { gradientErrors } from './gradient-errors.js';
import { prepareQuickstart } from './prepare.js';
import { QUICKSTART_DATA } from './recipes.js';

const before = process.cwd();
let folder: string;
/** What the first stage left, and the validation loss after the second over it in fp32. */
let from: string;
let dense: number;
beforeAll(async () => {
  folder = mkdtempSync(join(tmpdir(), 'patina-quickstart-bases-'));
  process.chdir(folder);
  await prepareQuickstart(QUICKSTART_DATA);
  from = (await end('quickstart')).checkpoint!;
  dense = await second();
}, 600_000);
afterAll(() => {
  process.chdir(before);
  rmSync(folder, { recursive: true });
});

async function end(name: string, ...set: string[]): Promise<EndEvent> {
  let last: EndEvent | undefined;
  for await (const event of train(await findRecipe(name, { set }))) {
    if (event.type === 'end') last = event;
  }
  return last!;
}

async function second(...set: string[]): Promise<number> {
  const settings = ['validation.fraction=0.05', 'validation.everyUpdates=150', ...set];
  return (await end('quickstart-questions', `model.from=${from}`, ...settings)).validationLoss!;
}

test.each([
  ['nf4', ['train.decoder.doubleQuantised=false'], 0.02],
  ['nf4', ['train.decoder.doubleQuantised=true'], 0.02],
  ['fp8', [], 0.02],
] as const)('%s %o costs less of the loss than %d', { timeout: 600_000 }, async (...given) => {
  const [base, set, most] = given;
  const quantised = await second(`train.decoder.base=${base}`, ...set);
  expect(Math.abs(quantised / dense - 1)).toBeLessThan(most);
  // It is not the same model.
  expect(quantised).not.toBe(dense);
});

test('gradients in e4m3 are half as far off as those in e5m2', { timeout: 600_000 }, async () => {
  const { float8_e4m3fn, float8_e5m2 } = await gradientErrors(from, [
    'What is in the picture? A red circle is left of a blue square.',
    'Is there a green triangle? No. How many shapes are there? There are two.',
  ]);
  // Measured: 2.3 % and 4.6 %.
  expect(float8_e4m3fn).toBeLessThan(0.03);
  expect(float8_e5m2 / float8_e4m3fn).toBeGreaterThan(1.7);
});
