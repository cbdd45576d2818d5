/** The recipe's JSON Schema, and questions to it: which keys a place knows, which types it takes. */
import { z } from 'zod';

import { recipeFields } from './schema/recipe.js';

/** The part of JSON Schema (draft 2020-12) that zod makes of the recipe. */
export interface JsonSchema {
  $ref?: string;
  $defs?: Record<string, JsonSchema>;
  description?: string;
  default?: unknown;
  type?: string;
  enum?: readonly unknown[];
  const?: unknown;
  properties?: Record<string, JsonSchema>;
  required?: readonly string[];
  additionalProperties?: boolean | JsonSchema;
  anyOf?: readonly JsonSchema[];
  items?: JsonSchema;
  prefixItems?: readonly JsonSchema[];
  [keyword: string]: unknown;
}

let made: JsonSchema | undefined;

/** The schema of a recipe as it is written, with descriptions and defaults. */
export function recipeJsonSchema(): JsonSchema {
  made ??= z.toJSONSchema(recipeFields, {
    io: 'input',
    override: ({ jsonSchema }) => {
      // Every integer would carry the limits of a JavaScript number.
      if (jsonSchema.maximum === Number.MAX_SAFE_INTEGER) delete jsonSchema.maximum;
      if (jsonSchema.minimum === Number.MIN_SAFE_INTEGER) delete jsonSchema.minimum;
    },
  }) as JsonSchema;
  return made;
}

/** Everything that may stand at `path`: the alternatives of unions one by one. Empty for a path that is not known. */
export function schemasAt(path: readonly (string | number)[]): JsonSchema[] {
  let here = alternatives(recipeJsonSchema());
  for (const step of path) here = here.flatMap((schema) => alternatives(child(schema, step)));
  return here;
}

/** The keys that an object at `path` may have. */
export function keysAt(path: readonly (string | number)[]): string[] {
  return schemasAt(path).flatMap((schema) => Object.keys(schema.properties ?? {}));
}

/** What holds where nothing stands at `path`; undefined where that is nothing too. */
export function defaultAt(path: readonly (string | number)[]): unknown {
  const last = path.at(-1);
  if (last === undefined) return undefined;
  return schemasAt(path.slice(0, -1))
    .map((schema) => child(schema, last)?.default)
    .find((value) => value !== undefined);
}

/** Paths of all fields, such as `optimizer.learningRate`; those below lists are left out. */
export function allPaths(): string[] {
  const walk = (path: string[]): string[] =>
    keysAt(path).flatMap((key) => [[...path, key].join('.'), ...walk([...path, key])]);
  return walk([]);
}

/** A schema without its `$ref`. */
function dereferenced(schema: JsonSchema): JsonSchema {
  if (schema.$ref === undefined) return schema;
  const { $ref, ...beside } = schema;
  return { ...recipeJsonSchema().$defs?.[$ref.slice($ref.lastIndexOf('/') + 1)], ...beside };
}

function alternatives(schema: JsonSchema | undefined): JsonSchema[] {
  if (schema === undefined) return [];
  const whole = dereferenced(schema);
  return whole.anyOf === undefined ? [whole] : whole.anyOf.flatMap(alternatives);
}

function child(schema: JsonSchema, step: string | number): JsonSchema | undefined {
  if (typeof step === 'string' && !/^\d+$/.test(step)) {
    const other = schema.additionalProperties;
    return schema.properties?.[step] ?? (typeof other === 'object' ? other : undefined);
  }
  return schema.prefixItems?.[Number(step)] ?? schema.items;
}
