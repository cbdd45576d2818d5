/** `defineRecipe`: a recipe in TypeScript with completion and types. */
import type { RecipeInput } from './recipe-input.generated.js';

export type { RecipeInput } from './recipe-input.generated.js';

/** Returns the recipe as it is; it is there for its types. */
export function defineRecipe(recipe: RecipeInput): RecipeInput {
  return recipe;
}
