/** `patina train --fit`: of what fits, only what keeps the method, unless more is asked for. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, test } from 'vitest';

import { plan, type Plan } from '../plan/plan.js';
import { cardsOf, SMALL, smallRecipe } from '../plan/search/testing.js';
import { fitRecipe, fittedText } from './fit.js';
import { patina } from './testing.js';

const folder = mkdtempSync(join(tmpdir(), 'patina-fit-'));
const file = join(folder, 'small.json');
writeFileSync(file, JSON.stringify(SMALL));
afterAll(() => {
  rmSync(folder, { recursive: true });
});

describe('a recipe', () => {
  const recipe = smallRecipe();
  let whole: Plan;
  beforeAll(async () => {
    whole = await plan(recipe, { gpus: cardsOf(2 ** 40) });
  });

  test('that fits stays as it is', async () => {
    const fitted = await fitRecipe(recipe, { fit: true, gpus: cardsOf(2 ** 40) });
    expect(fitted).toMatchObject({ set: [], numerics: 'none', total: whole.perRank[0]!.total });
    expect(fittedText(fitted)).toMatch(
      /^fits as it is \(planned: .* of 1\.00 TiB, .* an update\)$/,
    );
  });

  test('that does not is changed so that it does, by the same method', async () => {
    const gpus = cardsOf(0.75 * whole.perRank[0]!.reserved);
    const tried: string[] = [];
    const fitted = await fitRecipe(recipe, {
      ...{ fit: true, gpus },
      onPlan: (set) => tried.push(set.join(' ')),
    });
    expect(fitted.set).not.toEqual([]);
    expect(fitted.set.join()).not.toMatch(/lora|base/);
    expect(tried).toContain(fitted.set.join(' '));
    const again = await plan(smallRecipe(fitted.set), { gpus });
    expect(again.fits).toBe(true);
    expect(again.perRank[0]!.total).toBe(fitted.total);
    expect(fittedText(fitted)).toContain(`made to fit by --set ${fitted.set[0]!}`);
  });

  test('that no change of its own makes fit ends, and says what another method would', async () => {
    const gpus = cardsOf(0.45 * whole.perRank[0]!.reserved, 1);
    const error = await fitRecipe(recipe, { fit: true, gpus }).catch((each: unknown) => each);
    expect(error).toMatchObject({ code: 'E_NO_FIT', exitCode: 5 });
    expect((error as { hint: string }).hint).toMatch(/train\.decoder.*--fit any takes/);
    const fitted = await fitRecipe(recipe, { fit: 'any', gpus });
    expect(fitted.numerics).toBe('another method');
    expect(fittedText(fitted)).toMatch(/another method/);
  });
});

test.each([
  ['on the CPU', [file, '--fit', '--set', 'device=cpu'], 'E_FIT_DEVICE'],
  ['of a run that goes on', ['--resume', 'runs/one', '--fit'], 'E_FIT'],
  ['of what there is not', [file, '--fit', 'all'], 'Allowed choices are any'],
])('%s it is refused', async (_, args, message) => {
  const { code, err } = await patina('train', ...args);
  expect(code).toBe(2);
  expect(err).toContain(message);
});
