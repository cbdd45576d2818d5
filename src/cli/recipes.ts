/** `patina recipes`: the recipes that are built in, to read and to copy. */
import { jsonLine, jsonText } from '../base/json-text.js';
import { builtInRecipe, findRecipe } from '../recipes/find-recipe.js';
import { recipes } from '../recipes/built-in.js';
import { asYaml, copyRecipe } from '../recipes/copy-recipe.js';
import type { Session } from './session.js';

export function listRecipes({ json = false }: { json?: boolean }, session: Session): void {
  session.stdout.write(json ? listJson() : listText());
}

export async function showRecipe(
  name: string,
  { json = false, set = [] }: { json?: boolean; set?: string[] },
  session: Session,
): Promise<void> {
  const text =
    json || set.length > 0
      ? jsonText(await findRecipe(name, { set }))
      : asYaml(builtInRecipe(name));
  session.stdout.write(text);
}

export async function copyTo(name: string, file: string, session: Session): Promise<void> {
  await copyRecipe(builtInRecipe(name), file);
  session.stderr.write(`wrote ${file}; train with: patina train ${file}\n`);
}

function listJson(): string {
  const list = Object.values(recipes).map(({ name, description }) => ({ name, description }));
  return jsonLine({ recipes: list });
}

function listText(): string {
  return Object.values(recipes)
    .map(({ name, description = '' }) => `${name}\n    ${description}\n`)
    .join('');
}
