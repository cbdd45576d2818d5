/** How `patina train` is used. */
import { Option, type Command } from 'commander';

import { CHANGED_BASE, collect, countValue, nprocValue } from '../arguments.js';
import type { Session } from '../session.js';
import type { TrainFlags } from '../train.js';

export function define(command: Command, session: Session): void {
  command
    .argument('[recipe]', 'name of a built-in recipe, or a .ts, .yaml or .json file')
    .option(
      '--set <field=value>',
      'set a field of the recipe, such as optimizer.learningRate=2e-5; may be repeated',
      collect,
    )
    .option('--data <file>', "train on this file or data set in place of the recipe's")
    .option('--limit <n>', 'train on the first n records alone', countValue)
    .option(
      '--resume [run]',
      'go on with a run; default: the newest, of the recipe if one is named',
    )
    .option(
      '--nproc <n>',
      'train in n processes of this machine, one for each GPU with `gpus`; see docs/many-gpus.md',
      nprocValue,
    )
    .option('--max-updates <n>', 'stop after so many updates, with a checkpoint', countValue)
    .option(
      '--profile <n>',
      'after three updates profile n, tell where their time went, keep their trace in the run, and train on',
      countValue,
    )
    .addOption(
      new Option(
        '--fit [any]',
        'where the run does not fit its GPUs, change what makes it fit and keeps the method; any: the method too; see `patina plan`',
      ).choices(['any']),
    )
    .option(
      '--dry-run',
      'load model and data, show what would train, and train nothing; all records are checked by `patina check`',
    )
    .option('--changed-base', CHANGED_BASE)
    .option(
      '--page',
      'show the run on a page in the browser while it trains; see `patina dashboard`',
    )
    .option('--json', 'print each event as a line of JSON')
    .addHelpText(
      'after',
      `
Examples:
  patina train llava-llama-3-8b-lora --data photos.jsonl --dry-run
  patina train my-recipe.yaml --limit 100 --max-updates 10
  patina train my-recipe.ts --set optimizer.learningRate=1e-4 --set device=cuda:1
  patina train my-recipe.yaml --nproc gpus --set parallel.zero=2
  patina train my-recipe.yaml --profile 3 --max-updates 6
  patina train my-recipe.yaml --nproc gpus --fit
  patina train my-recipe.yaml --page
  patina train --resume
  patina train --resume my-recipe-20260131-235959 --set schedule.epochs=2

Ctrl-C, SIGTERM, SIGHUP or a reader of the output that leaves: the run finishes
its update, saves and ends with exit code 130. A second Ctrl-C leaves at once.
SIGUSR2: a checkpoint after the update that is under way.`,
    )
    .action(async (recipe: string | undefined, flags: TrainFlags) => {
      const { trainCommand } = await import('../train.js');
      await trainCommand(recipe, flags, session);
    });
}
