/** The room of recipes that are built in: found by name, copied to files of one's own. */

export { recipes } from './built-in.js';
export { asTypeScript, asYaml, copyRecipe } from './copy-recipe.js';
export { builtInRecipe, findRecipe } from './find-recipe.js';
