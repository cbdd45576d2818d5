/** How `patina runs` is used. */
import type { Command } from 'commander';

import { didYouMean } from '../../base/did-you-mean.js';
import { UsageError } from '../../base/errors.js';
import type { RunsFlags } from '../runs.js';
import type { Session } from '../session.js';

const ROOT = ['--root <folder>', 'the folder that holds the runs', 'runs'] as const;

export function define(command: Command, session: Session): void {
  const list = async (): Promise<void> => {
    const { runsCommand } = await import('../runs.js');
    await runsCommand(command.opts<RunsFlags>(), session);
  };
  command
    .option(...ROOT)
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  patina runs
  patina runs show
  patina runs show my-recipe-20260131-235959`,
    )
    .allowExcessArguments()
    .action(async () => {
      const [stranger] = command.args;
      if (stranger !== undefined) throw unknownCommand(stranger);
      await list();
    });
  command
    .command('list')
    .description('List the runs, as `patina runs` alone does.')
    .addHelpText('after', '\nExamples:\n  patina runs list --root elsewhere')
    .action(list);
  command
    .command('show [run]')
    .description('Show a run with its loss curves; the newest if none is named.')
    .addHelpText(
      'after',
      '\nExamples:\n  patina runs show\n  patina runs show my-recipe-20260131-235959',
    )
    .action(async (name: string | undefined) => {
      const { showRun } = await import('../runs.js');
      await showRun(name, command.opts<RunsFlags>(), session);
    });
}

function unknownCommand(name: string): UsageError {
  const close = didYouMean(name, ['list', 'show']);
  return new UsageError(`unknown command '${name}'`, {
    code: 'E_USAGE',
    hint:
      close !== undefined
        ? `Did you mean ${close}?`
        : `\`patina runs show ${name}\` shows a run of that name.`,
  });
}
