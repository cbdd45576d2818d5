/**
 * Recipes in TypeScript and JavaScript. The module `patina` is this package, wherever the file lies: no package.json,
 * no tsconfig.json and no node_modules beside it are needed.
 */
import { createJiti } from 'jiti';
import { pathToFileURL } from 'node:url';

import { UsageError } from '../base/errors.js';
import { defineRecipe } from './define-recipe.js';

/**
 * The default export of the module in `file`.
 *
 * @param exports What `import ... from 'patina'` gives.
 * @throws UsageError E_RECIPE_LOAD if it does not run, E_RECIPE_EXPORT if it exports no recipe.
 */
export async function loadScript(
  file: string,
  exports: object = { defineRecipe },
): Promise<unknown> {
  const jiti = createJiti(pathToFileURL(file).href, {
    fsCache: false,
    moduleCache: false,
    interopDefault: false,
    virtualModules: { patina: exports },
  });
  let module: unknown;
  try {
    module = await jiti.import(file);
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new UsageError(`${file} does not run: ${reason.split('\n')[0]!}`, {
      code: 'E_RECIPE_LOAD',
      hint: 'Mend the file; what it imports must lie beside it or be "patina".',
      cause,
    });
  }
  const recipe: unknown =
    typeof module === 'object' && module !== null && 'default' in module
      ? module.default
      : undefined;
  if (typeof recipe !== 'object' || recipe === null) {
    throw new UsageError(`${file} exports no recipe.`, {
      code: 'E_RECIPE_EXPORT',
      hint: 'End it with `export default defineRecipe({ ... });`.',
    });
  }
  return recipe;
}
