/** How `patina dashboard` is used. */
import type { Command } from 'commander';

import { portValue } from '../arguments.js';
import type { DashboardFlags } from '../dashboard.js';
import type { Session } from '../session.js';

export function define(command: Command, session: Session): void {
  command
    .argument('[places...]', 'folders that hold runs, or runs themselves', ['runs'])
    .option('--port <n>', 'the port; 0 takes one that is free', portValue, 7860)
    .option(
      '--host <address>',
      'the address to listen at; any other than a loopback one lets other machines in',
      '127.0.0.1',
    )
    .option('--json', 'print where it listens as one line of JSON')
    .addHelpText(
      'after',
      `
The page follows runs that any process writes, on this machine or another, those
that have ended and those that crashed too: it reads their files. Its address holds
a token, without which nobody gets in.

Examples:
  patina dashboard
  patina dashboard runs /mnt/cluster/runs
  patina train my-recipe.yaml --page
  patina dashboard --host 0.0.0.0 --port 8080

Ctrl-C ends it; runs go on.`,
    )
    .action(async (places: string[], flags: DashboardFlags) => {
      const { dashboardCommand } = await import('../dashboard.js');
      await dashboardCommand(places, flags, session);
    });
}
