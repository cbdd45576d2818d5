/** What a name on the command line means: a built-in recipe or a file. */
import { existsSync } from 'node:fs';
import { resolve } from 'node:path';

import { didYouMean } from '../base/did-you-mean.js';
import { UsageError } from '../base/errors.js';
import { defineRecipe, type RecipeInput } from '../config/define-recipe.js';
import { checkRecipe, loadRecipe, type LoadRecipeOptions } from '../config/load-recipe.js';
import { withAbsolutePaths } from '../config/paths.js';
import type { Recipe } from '../config/schema/recipe.js';
import { recipes } from './built-in.js';

/** What a recipe file gets by `import ... from 'patina'`. */
export const recipeModule = { defineRecipe, recipes };

/**
 * The built-in recipe as it is written.
 *
 * @throws UsageError E_RECIPE_UNKNOWN
 */
export function builtInRecipe(name: string): RecipeInput {
  if (Object.hasOwn(recipes, name)) return recipes[name]!;
  const nearest = didYouMean(name, Object.keys(recipes));
  throw new UsageError(`There is no recipe "${name}", and no file of that name.`, {
    code: 'E_RECIPE_UNKNOWN',
    hint:
      nearest === undefined ? 'List them with `patina recipes list`.' : `Did you mean ${nearest}?`,
  });
}

/**
 * The recipe that `nameOrFile` means, overridden, checked and completed. A built-in name wins over a file without
 * ending; paths in built-in recipes start from the working directory.
 *
 * @throws UsageError E_RECIPE_UNKNOWN and what `loadRecipe` throws
 */
export async function findRecipe(
  nameOrFile: string,
  options: LoadRecipeOptions = {},
): Promise<Recipe> {
  const { cwd = process.cwd() } = options;
  const isName = Object.hasOwn(recipes, nameOrFile);
  const isFile = /[/\\]|\.([cm]?[jt]s|ya?ml|json)$/i.test(nameOrFile);
  if (!isName && (isFile || existsSync(resolve(cwd, nameOrFile)))) {
    return loadRecipe(nameOrFile, { exports: recipeModule, ...options });
  }
  const recipe = withAbsolutePaths(builtInRecipe(nameOrFile), cwd);
  return checkRecipe(recipe, { ...options, locate: `recipe ${nameOrFile}` });
}
