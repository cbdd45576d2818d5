/** How `patina quickstart` is used. */
import type { Command } from 'commander';

import { QUICKSTART_DATA } from '../../recipes/quickstart/recipes.js';
import { collect } from '../arguments.js';
import type { QuickstartFlags } from '../quickstart.js';
import type { Session } from '../session.js';

export function define(command: Command, session: Session): void {
  command
    .option('--set <field=value>', 'set a field of both recipes; may be repeated', collect)
    .option('--json', 'print the result as one JSON object')
    .addHelpText(
      'after',
      `
Draws pictures of shapes, trains a small LLaVA on them in two stages (captions
with everything trained; then questions, the decoder by LoRA), and asks it about
pictures that it has never seen. Everything lies in ${QUICKSTART_DATA} and beside
it afterwards. Takes a bit over a minute on two cores.

Examples:
  patina quickstart
  patina quickstart --set schedule.updates=100`,
    )
    .action(async (flags: QuickstartFlags) => {
      const { quickstartCommand } = await import('../quickstart.js');
      await quickstartCommand(flags, session);
    });
}
