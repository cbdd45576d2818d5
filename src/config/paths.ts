/** Paths in a recipe count from the recipe's own file, so that it means the same wherever it is started from. */
import { existsSync } from 'node:fs';
import { relative, resolve } from 'node:path';

import type { Path } from './explain.js';
import { withValue } from './overrides.js';

const ANY = '*';
/** Fields that hold a path or a name; a name is left alone unless a file or folder of that name is there. */
const NAMES: Path[] = [
  ...['from', 'llm', 'vision', 'projector', 'adapter', 'tokenizer'].map((key) => ['model', key]),
  ['text', 'template'],
  ...['data', 'validation'].flatMap((section) => [
    [section, 'sources', ANY],
    [section, 'sources', ANY, 'path'],
  ]),
];
/** Fields that can only be paths. */
const PATHS: Path[] = [
  ['data', 'sources', ANY, 'images'],
  ['validation', 'sources', ANY, 'images'],
  ['validation', 'tasks', ANY, 'data'],
  ['validation', 'tasks', ANY, 'images'],
  ['probes', 'questions', ANY, 'images', ANY],
];

/** A copy of `recipe` whose relative paths start from `folder`. */
export function withAbsolutePaths(recipe: unknown, folder: string): unknown {
  return mapPaths(recipe, (text, mustBePath) => absolute(text, folder, mustBePath));
}

/** A copy of `recipe`, whose relative paths start from `from`, for a file in the folder `to`: they still lead where they led. */
export function withMovedPaths(
  recipe: unknown,
  { from, to }: { from: string; to: string },
): unknown {
  if (resolve(from) === resolve(to)) return recipe;
  return mapPaths(recipe, (text, mustBePath) => {
    const path = absolute(text, from, mustBePath);
    if (path === text) return text;
    const moved = relative(to, path);
    return moved.startsWith('..') ? moved : `./${moved}`;
  });
}

function mapPaths(recipe: unknown, change: (text: string, mustBePath: boolean) => string): unknown {
  let result = recipe;
  for (const pattern of [...NAMES, ...PATHS]) {
    for (const [path, text] of texts(result, pattern)) {
      result = withValue(result, path, change(text, PATHS.includes(pattern)));
    }
  }
  return result;
}

/** The path that a value at `path` stands for when it was given in `folder`; any other value as it is. */
export function absoluteAt(path: Path, value: unknown, folder: string): unknown {
  const holder = withValue(undefined, path, value);
  return path.reduce<unknown>(
    (outer, step) => (outer as Record<string | number, unknown>)[step],
    withAbsolutePaths(holder, folder),
  );
}

function absolute(text: string, folder: string, mustBePath: boolean): string {
  if (text.startsWith('~')) return text;
  const path = resolve(folder, text);
  return mustBePath || /^\.{1,2}(\/|$)/.test(text) || existsSync(path) ? path : text;
}

/** The texts at the places that `pattern` means, with their paths. */
function texts(value: unknown, pattern: Path, path: Path = []): [Path, string][] {
  const [step, ...rest] = pattern;
  if (step === undefined) return typeof value === 'string' ? [[path, value]] : [];
  if (typeof value !== 'object' || value === null) return [];
  return Object.entries(value)
    .filter(([key]) => step === ANY || key === step)
    .flatMap(([key, inner]) =>
      texts(inner, rest, [...path, Array.isArray(value) ? Number(key) : key]),
    );
}
