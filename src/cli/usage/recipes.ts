/** How `patina recipes` is used. */
import type { Command } from 'commander';

import { collect } from '../arguments.js';
import type { Session } from '../session.js';

export function define(command: Command, session: Session): void {
  command.addHelpText(
    'after',
    examples(
      'patina recipes list',
      'patina recipes show llava-llama-3-8b-lora',
      'patina recipes copy llava-llama-3-8b-lora my-recipe.ts',
    ),
  );
  command
    .command('list')
    .description('List the built-in recipes.')
    .option('--json', 'print one JSON object')
    .addHelpText('after', examples('patina recipes list'))
    .action(async (flags: { json?: boolean }) => {
      const { listRecipes } = await import('../recipes.js');
      listRecipes(flags, session);
    });
  command
    .command('show <recipe>')
    .description('Print a recipe as it is written, or with --json as it is trained.')
    .option('--set <field=value>', 'set a field; may be repeated', collect)
    .option('--json', 'print the recipe with all its defaults, as one JSON object')
    .addHelpText('after', examples('patina recipes show llava-llama-3-8b-lora --set batchSize=4'))
    .action(async (name: string, flags: { json?: boolean; set?: string[] }) => {
      const { showRecipe } = await import('../recipes.js');
      await showRecipe(name, flags, session);
    });
  command
    .command('copy <recipe> <file>')
    .description('Write a built-in recipe to a new .ts or .yaml file, to change it.')
    .addHelpText(
      'after',
      examples(
        'patina recipes copy llava-llama-3-8b-lora my-recipe.ts',
        'patina recipes copy llava-llama-3-8b-lora my-recipe.yaml',
      ),
    )
    .action(async (name: string, file: string) => {
      const { copyTo } = await import('../recipes.js');
      await copyTo(name, file, session);
    });
}

function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}
