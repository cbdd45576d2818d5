/** The room of recipes' shape: the schema, loading, overrides, the effective batch. */

export * from './define-recipe.js';
export * from './effective-batch.js';
export * from './load-recipe.js';
export * from './recipe-error.js';
export type { MemoryPolicy } from './schema/optimization.js';
export { isFrozen, loraOf, taskName } from './schema/recipe.js';
export type { LoraRecipe, PartRecipe, Recipe, SourceRecipe, TaskRecipe } from './schema/recipe.js';
