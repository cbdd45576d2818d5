/** From a file or an object to a recipe: read, overridden, checked, with all defaults. */
import { readFile } from 'node:fs/promises';
import { dirname, extname, resolve } from 'node:path';

import { UsageError } from '../base/errors.js';
import { errorCode } from '../base/system-error.js';
import { explain, valueAt, type Fault, type Path } from './explain.js';
import { applyOverride, parseOverride, withoutReplaced, type Override } from './overrides.js';
import { absoluteAt, withAbsolutePaths } from './paths.js';
import { RecipeError } from './recipe-error.js';
import { recipeSchema } from './schema/recipe-schema.js';
import type { Recipe } from './schema/recipe.js';
import { loadScript } from './script-file.js';
import { locateInScript } from './script-lines.js';
import { parseYaml, type LocatedRecipe } from './yaml-file.js';

export interface LoadRecipeOptions {
  /** Assignments such as `optimizer.learningRate=2e-5`, in order; paths in them start from `cwd`. */
  set?: readonly string[];
  /** @default process.cwd() */
  cwd?: string;
  /** What a TypeScript recipe gets by `import ... from 'patina'`. @default defineRecipe alone */
  exports?: object;
}

/**
 * The recipe in a `.ts`, `.js`, `.yaml`, `.yml` or `.json` file. Relative paths in it start from its folder.
 *
 * @throws RecipeError (E_RECIPE) with file, line and field of every fault
 * @throws UsageError E_RECIPE_MISSING, E_RECIPE_KIND, E_RECIPE_LOAD, E_RECIPE_EXPORT
 */
export async function loadRecipe(path: string, options: LoadRecipeOptions = {}): Promise<Recipe> {
  const file = resolve(options.cwd ?? process.cwd(), path);
  const { value, locate } = await readRecipe(path, file, options);
  return checkRecipe(withAbsolutePaths(value, dirname(file)), { ...options, locate });
}

export interface CheckOptions extends LoadRecipeOptions {
  /** What to call the recipe in messages, or where a field of it stands. @default 'recipe' */
  locate?: LocatedRecipe['locate'] | string;
}

/**
 * A recipe given as an object, with overrides applied, checked and completed.
 *
 * @throws RecipeError
 */
export function checkRecipe(
  recipe: unknown,
  { set = [], cwd = process.cwd(), locate = 'recipe' }: CheckOptions = {},
): Recipe {
  const overrides = set.map(parseOverride);
  let input = withoutReplaced(recipe, overrides);
  for (const override of overrides) {
    const value = absoluteAt(override.path, override.value, cwd);
    input = applyOverride(input, { ...override, value });
  }
  const parsed = recipeSchema.safeParse(input);
  if (parsed.success) {
    delete parsed.data.$schema;
    return parsed.data;
  }
  const faults = explain(parsed.error.issues, input);
  throw new RecipeError(
    faults.map((fault) => ({
      path: fault.path.join('.'),
      message: fault.message,
      origin: originOf(fault, recipe, overrides, locate),
    })),
    parsed.error,
  );
}

async function readRecipe(
  path: string,
  file: string,
  { exports }: LoadRecipeOptions,
): Promise<LocatedRecipe> {
  const extension = extname(file).toLowerCase();
  const text = await readText(path, file);
  if (['.yaml', '.yml', '.json'].includes(extension)) return parseYaml(text, path);
  if (/^\.[cm]?[jt]s$/.test(extension)) {
    const value = await loadScript(file, exports);
    return { value, locate: (place) => locateInScript(text, path, place) };
  }
  throw new UsageError(`${path} is no recipe: its name ends in "${extension}".`, {
    code: 'E_RECIPE_KIND',
    hint: 'Recipes are .ts, .js, .yaml, .yml and .json files.',
  });
}

async function readText(path: string, file: string): Promise<string> {
  try {
    return await readFile(file, 'utf8');
  } catch (cause) {
    const why = { ENOENT: 'does not exist', EISDIR: 'is a folder' }[errorCode(cause) ?? ''];
    throw new UsageError(`The recipe ${path} ${why ?? 'cannot be read'}.`, {
      code: 'E_RECIPE_MISSING',
      hint: `Looked for ${file}. List the built-in recipes with \`patina recipes list\`.`,
      cause,
    });
  }
}

/** The option that set the field, or made the section in which it is missing; else the place in the file. */
function originOf(
  { path, key }: Fault,
  recipe: unknown,
  overrides: readonly Override[],
  locate: LocatedRecipe['locate'] | string,
): string {
  const section = path.slice(0, -1);
  const isNew = valueAt(recipe, section) === undefined;
  const override = overrides.findLast(
    (set) => startsWith(path, set.path) || (isNew && startsWith(set.path, section)),
  );
  if (override !== undefined) return override.origin;
  return typeof locate === 'string' ? locate : locate(path, key);
}

function startsWith(path: Path, beginning: Path): boolean {
  return beginning.every((step, i) => String(step) === String(path[i]));
}
