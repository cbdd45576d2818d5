/** The data of the built-in `quickstart` are drawn when they are first needed. */
import { join, resolve } from 'node:path';

import type { Recipe } from '../config/index.js';
import { isPrepared, prepareQuickstart, SIZES } from '../recipes/quickstart/prepare.js';
import { QUICKSTART_DATA } from '../recipes/quickstart/recipes.js';
import type { Session } from './session.js';

/**
 * Draws what the recipe lacks of the quickstart's; nothing for any other recipe.
 *
 * @throws those of `prepareQuickstart`; the signal's reason
 */
export async function drawIfNeeded(
  { model }: Recipe,
  session: Session,
  signal: AbortSignal,
): Promise<void> {
  const folder = resolve(QUICKSTART_DATA);
  if (model.tokenizer !== join(folder, 'tokenizer') || (await isPrepared(folder))) return;
  const pictures = SIZES.train + SIZES.heldOut + SIZES.unseen;
  session.stderr.write(`drawing ${pictures} pictures, in ${QUICKSTART_DATA}\n`);
  await prepareQuickstart(folder, { signal });
}
