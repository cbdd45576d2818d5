/** A recipe as the text of a file of one's own, in TypeScript or YAML, with what an editor needs to help. */
import { writeFile } from 'node:fs/promises';
import { dirname, extname, join, resolve } from 'node:path';
import { stringify } from 'yaml';

import { UsageError } from '../base/errors.js';
import { packageRoot } from '../base/native-path.js';
import { errorCode, writeError } from '../base/system-error.js';
import type { RecipeInput } from '../config/define-recipe.js';
import { keysAt } from '../config/json-schema.js';
import { withMovedPaths } from '../config/paths.js';

/** The text of a `.ts` file. It runs wherever it lies: Patina gives it the module "patina". */
export function asTypeScript(recipe: RecipeInput): string {
  return [
    '// The next line lets an editor know the module "patina"; to run, the recipe does not need it.',
    `/// <reference path=${JSON.stringify(join(packageRoot(), 'recipe-module.d.mts'))} />`,
    "import { defineRecipe } from 'patina';",
    '',
    `export default defineRecipe(${printed(ordered(recipe), '')});`,
    '',
  ].join('\n');
}

/** The text of a `.yaml` file. */
export function asYaml(recipe: RecipeInput): string {
  const schema = join(packageRoot(), 'recipe.schema.json');
  return `# yaml-language-server: $schema=${schema}\n${stringify(ordered(recipe), { lineWidth: 100 })}`;
}

/**
 * Writes `recipe` to a new file. Relative paths in it, which start from `cwd`, lead to the same places from there.
 *
 * @throws UsageError E_RECIPE_KIND for another ending, E_FILE_EXISTS; EnvironmentError E_UNWRITABLE, E_DISK_FULL
 */
export async function copyRecipe(
  recipe: RecipeInput,
  path: string,
  { cwd = process.cwd() }: { cwd?: string } = {},
): Promise<void> {
  const text = { '.ts': asTypeScript, '.yaml': asYaml, '.yml': asYaml }[
    extname(path).toLowerCase()
  ];
  if (text === undefined) {
    throw new UsageError(`${path} does not say in which language to write the recipe.`, {
      code: 'E_RECIPE_KIND',
      hint: 'Choose a name that ends in .ts or .yaml.',
    });
  }
  const file = resolve(cwd, path);
  const moved = withMovedPaths(recipe, { from: cwd, to: dirname(file) }) as RecipeInput;
  try {
    await writeFile(file, text(moved), { flag: 'wx' });
  } catch (error) {
    if (errorCode(error) !== 'EEXIST') throw writeError(error, path, 'write the recipe');
    throw new UsageError(`${path} exists already.`, {
      code: 'E_FILE_EXISTS',
      hint: 'Choose another name, or remove the file.',
      cause: error,
    });
  }
}

/** The fields in the order in which the schema tells of them. */
function ordered(recipe: RecipeInput): Record<string, unknown> {
  const fields = Object.entries(recipe);
  const order = keysAt([]);
  return Object.fromEntries(fields.sort(([a], [b]) => order.indexOf(a) - order.indexOf(b)));
}

const WIDTH = 80;

/** A value as TypeScript: on one line where it fits, else one entry a line. */
function printed(value: unknown, indent: string): string {
  if (typeof value === 'string') return quoted(value);
  if (typeof value === 'number') return number(value);
  if (typeof value !== 'object' || value === null) return String(value);
  const inner = `${indent}  `;
  const isList = Array.isArray(value);
  const entries = Object.entries(value)
    .filter(([, entry]) => entry !== undefined)
    .map(([key, entry]) => `${isList ? '' : `${keyed(key)}: `}${printed(entry, inner)}`);
  const [open, close] = isList ? ['[', ']'] : ['{', '}'];
  const space = isList || entries.length === 0 ? '' : ' ';
  const line = `${open}${space}${entries.join(', ')}${space}${close}`;
  if (indent !== '' && !line.includes('\n') && indent.length + line.length < WIDTH) return line;
  return `${open}\n${entries.map((entry) => `${inner}${entry},\n`).join('')}${indent}${close}`;
}

function quoted(text: string): string {
  const escaped = JSON.stringify(text).slice(1, -1).replaceAll('\\"', '"').replaceAll("'", "\\'");
  return `'${escaped}'`;
}

function keyed(key: string): string {
  return /^[A-Za-z_$][\w$]*$/.test(key) ? key : quoted(key);
}

/** Learning rates read better as 2e-5 than as 0.00002. */
function number(value: number): string {
  return value !== 0 && Math.abs(value) < 1e-3 ? value.toExponential() : String(value);
}
