import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import type { z } from 'zod';

import { packageRoot } from '../base/native-path.js';
import { publishedFiles } from './generate/main.js';
import { allPaths, schemasAt } from './json-schema.js';
import type { RecipeInput } from './recipe-input.generated.js';
import type { recipeSchema } from './schema/recipe-schema.js';

test('what is published is what the schema says (else run `npm run generate`)', async () => {
  for (const [path, text] of Object.entries(await publishedFiles())) {
    expect(readFileSync(join(packageRoot(), path), 'utf8'), path).toBe(text);
  }
});

test('the interface and the schema take the same recipes', () => {
  type Input = z.input<typeof recipeSchema>;
  // The assignments are the test: the compiler refuses them when one side has more or less.
  const there = (recipe: Input): RecipeInput => recipe;
  const back = (recipe: RecipeInput): Input => recipe;
  expect([there, back]).toHaveLength(2);
});

test('every field is described', () => {
  for (const path of allPaths()) {
    const steps = path.split('.');
    const sections = schemasAt(steps.slice(0, -1));
    const fields = sections.map(({ properties }) => properties?.[steps.at(-1)!]);
    const described = fields.some(
      (field) => field !== undefined && field.description?.endsWith('.'),
    );
    expect(described, path).toBe(true);
  }
});
