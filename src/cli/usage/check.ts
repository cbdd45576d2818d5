/** How `patina check` is used. */
import type { Command } from 'commander';

import { CHANGED_BASE, collect, countValue } from '../arguments.js';
import type { CheckFlags } from '../check.js';
import type { Session } from '../session.js';

export function define(command: Command, session: Session): void {
  command
    .argument(
      '<recipe|data>',
      'name of a built-in recipe or a recipe file; or a file, folder or hub name of data',
    )
    .option('--model <model>', 'the model that the data are for: a folder, a hub name, or a run')
    .option('--data <file>', "check this file or data set in place of the recipe's")
    .option('--limit <n>', 'check the first n records alone', countValue)
    .option(
      '--set <field=value>',
      'set a field of the recipe, such as text.maxLength=4096; may be repeated',
      collect,
    )
    .option(
      '--fix <out>',
      'write a copy without the records that are better left out, and a list of those: a .jsonl file, or a folder',
    )
    .option(
      '--deep',
      'run model and gradients on this machine too where it is not the one that will train',
    )
    .option('--nproc <n>', 'devices that will train together; default: 1', countValue)
    .option('--threads <n>', 'threads that check records; default: one for each core', countValue)
    .option('--changed-base', CHANGED_BASE)
    .option('--json', 'print each finding as a line of JSON, and a summary as the last')
    .addHelpText(
      'after',
      `
Examples:
  patina check my-recipe.yaml
  patina check photos.jsonl
  patina check photos.jsonl --model llava-hf/llava-1.5-7b-hf --fix clean.jsonl
  patina check llava-llama-3-8b-lora --data photos.jsonl --json

Exit code: 4 if there is an error; warnings alone leave it at 0. See docs/checking.md.`,
    )
    .action(async (target: string, flags: CheckFlags) => {
      const { checkCommand } = await import('../check.js');
      await checkCommand(target, flags, session);
    });
}
