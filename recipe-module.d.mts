/** What a recipe file gets by `import ... from 'patina'`, for editors; see src/recipes/copy-recipe.ts. */
declare module 'patina' {
  export const defineRecipe: typeof import('./src/config/define-recipe.js').defineRecipe;
  export const recipes: typeof import('./src/recipes/built-in.js').recipes;
  export type RecipeInput = import('./src/config/define-recipe.js').RecipeInput;
}
