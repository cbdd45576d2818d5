/** `--set a.b=c`: one field of a recipe from the command line, read by the type that the schema has there. */
import { plural } from '../base/format.js';
import { parse } from 'yaml';

import { unknownKey, valueAt, type Path } from './explain.js';
import { defaultAt, keysAt, schemasAt } from './json-schema.js';
import { RecipeError } from './recipe-error.js';

export interface Override {
  path: Path;
  value: unknown;
  /** As it was typed, for messages. */
  origin: string;
}

/**
 * Reads `a.b=c`. Where the schema wants a text the value is taken as it stands, elsewhere as YAML (`[0.9, 0.95]`,
 * `null`, `2e-5`). Items of lists are counted from 0: `data.sources.0.weight=2`.
 *
 * @throws RecipeError for a missing `=`, an unknown field, or a value that is not YAML.
 */
export function parseOverride(assignment: string): Override {
  const origin = `--set ${assignment}`;
  const equals = assignment.indexOf('=');
  const name = assignment.slice(0, Math.max(0, equals)).trim();
  const fault = (message: string, path = ''): never => {
    throw new RecipeError([{ path, message, origin }]);
  };
  if (equals < 1 || name === '') fault('expected FIELD=VALUE, such as optimizer.learningRate=2e-5');
  const path: (string | number)[] = [];
  for (const part of name.split('.')) {
    const schemas = schemasAt(path);
    const isIndex = /^\d+$/.test(part) && schemas.some(({ type }) => type === 'array');
    const isKey =
      keysAt(path).includes(part) ||
      schemas.some((schema) => typeof schema.additionalProperties === 'object');
    if (!isIndex && !isKey) fault(unknownKey(path, part), [...path, part].join('.'));
    path.push(isIndex ? Number(part) : part);
  }
  const text = assignment.slice(equals + 1);
  const wanted = schemasAt(path);
  if (wanted.length > 0 && wanted.every(({ type }) => type === 'string')) {
    return { path, value: text, origin };
  }
  try {
    return { path, value: parse(text) as unknown, origin };
  } catch (error) {
    return fault(error instanceof Error ? error.message.split('\n')[0]! : String(error), name);
  }
}

/**
 * A copy of `recipe` with the field of `override` set. What stands there in short form, or by default, becomes a section
 * first: `data.sources.0.weight=2` keeps its path, `train.decoder.base=nf4` the adapter above.
 *
 * @throws RecipeError for an item beyond the end of a list, or a base beneath what trains fully.
 */
export function applyOverride(recipe: unknown, { path, value, origin }: Override): unknown {
  let result = recipe;
  for (const [i, step] of path.entries()) {
    const before = path.slice(0, i);
    const here = valueAt(result, before) ?? defaultAt(before);
    const fault = (at: Path, message: string): RecipeError =>
      new RecipeError([{ path: at.join('.'), message, origin }]);
    const length = Array.isArray(here) ? here.length : 0;
    if (typeof step === 'number' && step > length) {
      throw fault(before, `the list has ${plural(length, 'item')}, counted from 0`);
    }
    // A section has no place for `full`, so that the part would stop learning without a word.
    if (here === 'full' && (step === 'base' || step === 'doubleQuantised')) {
      const part = before.join('.');
      throw fault(
        path,
        `${part} is "full", and what is in few bits cannot learn: set ${part}.lora first, or ${part}=frozen`,
      );
    }
    if (here !== undefined) result = withValue(result, before, asSection(before, here));
  }
  return withValue(result, path, value);
}

/** What a short form stands for. */
function asSection(path: Path, value: unknown): unknown {
  if (typeof value === 'string' && keysAt(path).includes('path')) return { path: value };
  const field = path.join('.');
  if (field === 'memory.policy' && typeof value === 'string') {
    const others = value === 'products' || value === 'attention' ? 'recompute' : value;
    return { vision: others, projector: others, decoder: value };
  }
  if (field === 'memory.keepBlocks' && typeof value === 'number') return { decoder: value };
  if (field === 'memory.keepBlocks.decoder' && typeof value === 'number') return { keep: value };
  return value;
}

/** What says the same in another way, so that setting the one takes the others out of a recipe. */
const REPLACES: Readonly<Record<string, readonly Path[]>> = {
  batchSize: [['batchTokens'], ['batchImages']],
  batchTokens: [['batchSize'], ['accumulate']],
  'schedule.epochs': [['schedule', 'updates']],
  'schedule.warmupRatio': [['schedule', 'warmupUpdates']],
};

/** A copy of `recipe` without the fields in whose place overrides come. */
export function withoutReplaced(recipe: unknown, overrides: readonly Override[]): unknown {
  return overrides.flatMap(({ path }) => REPLACES[path.join('.')] ?? []).reduce(without, recipe);
}

function without(recipe: unknown, [step, ...rest]: Path): unknown {
  if (step === undefined || !isSection(recipe) || !Object.hasOwn(recipe, step)) return recipe;
  const { [step]: inner, ...others } = recipe;
  return rest.length === 0 ? others : { ...others, [step]: without(inner, rest) };
}

/** A copy of `recipe` with `value` at `path`; a section that was no section becomes one. */
export function withValue(recipe: unknown, [step, ...rest]: Path, value: unknown): unknown {
  if (step === undefined) return value;
  const inner = (outer: Record<string | number, unknown> | unknown[]): unknown =>
    withValue((outer as Record<string | number, unknown>)[step], rest, value);
  if (typeof step === 'number') {
    const list: unknown[] = Array.isArray(recipe) ? [...(recipe as unknown[])] : [];
    list[step] = inner(list);
    return list;
  }
  const section = isSection(recipe) ? { ...recipe } : {};
  section[step] = inner(section);
  return section;
}

function isSection(value: unknown): value is Record<string, unknown> {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}
