/** What is wrong with a recipe, in words: zod says where, the schema says what was expected. */
import type { z } from 'zod';

import { didYouMean } from '../base/did-you-mean.js';
import { allPaths, keysAt, schemasAt, type JsonSchema } from './json-schema.js';

export type Path = readonly (string | number)[];

export interface Fault {
  path: Path;
  /** The key itself is wrong, not its value. */
  key: boolean;
  message: string;
}

/** One fault for each issue, and for each unknown key. */
export function explain(issues: readonly z.core.$ZodIssue[], recipe: unknown): Fault[] {
  return issues.flatMap((issue) => faultsOf(issue, [], recipe));
}

function faultsOf(issue: z.core.$ZodIssue, outer: Path, recipe: unknown): Fault[] {
  const path = [
    ...outer,
    ...issue.path.map((step) => (typeof step === 'number' ? step : String(step))),
  ];
  if (issue.code === 'unrecognized_keys') {
    return issue.keys.map((key) => ({
      path: [...path, key],
      key: true,
      message: unknownKey(path, key),
    }));
  }
  if (issue.code === 'invalid_union') {
    // The alternative that was meant is the one whose kind is right and only something inside it is wrong.
    const meant = issue.errors.find((branch) => branch.every((inner) => inner.path.length > 0));
    if (meant !== undefined) return meant.flatMap((inner) => faultsOf(inner, path, recipe));
  }
  const saysEnough = issue.code === 'custom' || issue.code === 'invalid_format';
  const message = saysEnough ? issue.message : wrongValue(path, valueAt(recipe, path));
  return [{ path, key: false, message }];
}

/** What stands at `path`, or undefined. */
export function valueAt(value: unknown, path: Path): unknown {
  return path.reduce<unknown>(
    (outer, step) =>
      typeof outer === 'object' && outer !== null && Object.hasOwn(outer, step)
        ? (outer as Record<string | number, unknown>)[step]
        : undefined,
    value,
  );
}

/** `unknown key`, with the key of the same section that it resembles, or the section where it belongs. */
export function unknownKey(section: Path, key: string): string {
  const known = keysAt(section);
  const elsewhere = allPaths().filter((path) => path.endsWith(`.${key}`));
  const nearest = didYouMean(key, known);
  if (elsewhere.length > 0 && !known.includes(key)) {
    return `unknown key here. Did you mean ${elsewhere.join(' or ')}?`;
  }
  if (nearest !== undefined) return `unknown key. Did you mean "${nearest}"?`;
  return known.length === 0 ? 'unknown key' : `unknown key; known here: ${known.join(', ')}`;
}

function wrongValue(path: Path, value: unknown): string {
  const schemas = schemasAt(path);
  const expected = `expected ${either(schemas.flatMap(expectations))}`;
  if (value === undefined) return `is missing: ${expected}`;
  const options = schemas.flatMap((schema) => schema.enum ?? []);
  const nearest =
    typeof value === 'string'
      ? didYouMean(
          value,
          options.filter((option) => typeof option === 'string'),
        )
      : undefined;
  const advice = nearest === undefined ? '' : `. Did you mean "${nearest}"?`;
  return `${expected}, got ${shown(value)}${advice}`;
}

function expectations(schema: JsonSchema): string[] {
  if (schema.enum !== undefined) return schema.enum.map(shown);
  if ('const' in schema) return [shown(schema.const)];
  const keys = Object.keys(schema.properties ?? {}).filter((key) => !key.startsWith('$'));
  const words: Record<string, string> = {
    integer: `a whole number${limits(schema)}`,
    number: `a number${limits(schema)}`,
    string: 'a text',
    boolean: 'true or false',
    array: schema['minItems'] === undefined ? 'a list' : 'a list that is not empty',
    object: keys.length === 0 ? 'a section' : `a section with ${keys.join(', ')}`,
  };
  if (schema.prefixItems !== undefined) return [`a list of ${schema.prefixItems.length}`];
  return [words[schema.type ?? ''] ?? schema.type ?? 'something else'];
}

function limits(schema: JsonSchema): string {
  const bounds = [
    ['of at least', schema['minimum']],
    ['above', schema['exclusiveMinimum']],
    ['of at most', schema['maximum']],
    ['below', schema['exclusiveMaximum']],
  ] as const;
  const words = bounds
    .filter(([, bound]) => typeof bound === 'number')
    .map(([word, bound]) => ` ${word} ${String(bound)}`);
  return words.join(' and');
}

function either(words: readonly string[]): string {
  const unique = [...new Set(words)];
  return unique.length < 2
    ? (unique[0] ?? 'something else')
    : `${unique.slice(0, -1).join(', ')} or ${unique.at(-1)!}`;
}

function shown(value: unknown): string {
  if (typeof value === 'number' || typeof value === 'function')
    return String(value).split('\n')[0]!;
  const text = JSON.stringify(value) ?? String(value);
  return text.length > 60 ? `${text.slice(0, 57)}...` : text;
}
