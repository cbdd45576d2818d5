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
    throw new UsageError(`${file}${lineOf(file, reason)} does not run: ${firstLine(reason)}`, {
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

/** `:7` where the message names line 7 of the file, as it does for what cannot be parsed. */
function lineOf(file: string, message: string): string {
  const [, after = ''] = message.split(`${file}:`, 2);
  const line = /^\d+/.exec(after)?.[0];
  return line === undefined ? '' : `:${line}`;
}

function firstLine(text: string): string {
  return text.split('\n')[0]!.trim();
}
