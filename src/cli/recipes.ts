/** `patina recipes`: the recipes that are built in, to read and to copy. */
import type { Command } from 'commander';

import { builtInRecipe, findRecipe } from '../recipes/find-recipe.js';
import { recipes } from '../recipes/built-in.js';
import { asYaml, copyRecipe } from '../recipes/copy-recipe.js';
import { collect } from './arguments.js';
import type { Session } from './commands.js';

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
    .action(({ json = false }: { json?: boolean }) => {
      session.stdout.write(json ? listJson() : listText());
    });
  command
    .command('show <recipe>')
    .description('Print a recipe as it is written, or with --json as it is trained.')
    .option('--set <field=value>', 'set a field; may be repeated', collect)
    .option('--json', 'print the recipe with all its defaults, as one JSON object')
    .addHelpText('after', examples('patina recipes show llava-llama-3-8b-lora --set batchSize=4'))
    .action(
      async (name: string, { json = false, set = [] }: { json?: boolean; set?: string[] }) => {
        const text =
          json || set.length > 0
            ? `${JSON.stringify(await findRecipe(name, { set }), null, 2)}\n`
            : asYaml(builtInRecipe(name));
        session.stdout.write(text);
      },
    );
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
      await copyRecipe(builtInRecipe(name), file);
      session.stderr.write(`wrote ${file}; train with: patina train ${file}\n`);
    });
}

function examples(...lines: readonly string[]): string {
  return `\nExamples:\n${lines.map((line) => `  ${line}`).join('\n')}`;
}

function listJson(): string {
  const list = Object.values(recipes).map(({ name, description }) => ({ name, description }));
  return `${JSON.stringify({ recipes: list })}\n`;
}

function listText(): string {
  return Object.values(recipes)
    .map(({ name, description = '' }) => `${name}\n    ${description}\n`)
    .join('');
}
