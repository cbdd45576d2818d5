/** Writes what is published of the recipe's schema: `recipe.schema.json` and the interface `RecipeInput`. */
import { join } from 'node:path';
import { format } from 'prettier';

import { packageRoot } from '../../base/native-path.js';
import { writeWholeFile } from '../../base/whole-file.js';
import { recipeJsonSchema } from '../json-schema.js';
import { recipeInterfaces } from './interface.js';

const STYLE = { printWidth: 100, singleQuote: true };

/** The published files: their paths in the repository and their contents. */
export async function publishedFiles(): Promise<Record<string, string>> {
  const schema = recipeJsonSchema();
  const titled = { title: 'Patina recipe', ...schema };
  return {
    'recipe.schema.json': await format(JSON.stringify(titled), { ...STYLE, parser: 'json' }),
    'src/config/recipe-input.generated.ts': await format(recipeInterfaces(schema), {
      ...STYLE,
      parser: 'typescript',
    }),
  };
}

if (process.argv[1] === import.meta.filename) {
  for (const [path, text] of Object.entries(await publishedFiles())) {
    await writeWholeFile(join(packageRoot(), path), text);
  }
}
