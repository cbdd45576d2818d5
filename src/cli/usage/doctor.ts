/** How `patina doctor` is used. */
import type { Command } from 'commander';

import { UsageError } from '../../base/errors.js';
import type { DoctorFlags } from '../doctor.js';
import type { DoctorRunFlags } from '../doctor-run.js';
import type { Session } from '../session.js';

export function define(command: Command, session: Session): void {
  command
    .argument('[run]', 'name or folder of a run: why its loss broke, or how it ended')
    .option('--html <file>', 'with a run: write its curves, causes and records as a page')
    .option('--json', 'print one JSON object')
    .option('--links', 'measure how fast processes exchange tensors here, also without GPUs')
    .addHelpText(
      'after',
      `
Examples:
  patina doctor
  patina doctor --links
  patina doctor --json
  patina doctor my-recipe-20260131-235959 --html report.html

Where there are several GPUs, the links between them are measured, which takes
up to 20 seconds: bytes that each card sends per second, and as many it receives,
in each collective.

Exit code: 0 if Patina can work, 3 if a fault prevents it.`,
    )
    .action(async (run: string | undefined, flags: DoctorFlags & DoctorRunFlags) => {
      if (run !== undefined) {
        const { doctorRun } = await import('../doctor-run.js');
        await doctorRun(run, flags, session);
        return;
      }
      if (flags.html !== undefined) throw noRun();
      const { doctorCommand } = await import('../doctor.js');
      await doctorCommand(flags, session);
    });
}

function noRun(): UsageError {
  return new UsageError('--html is about a run, and none was named.', {
    code: 'E_USAGE',
    hint: 'Name one, such as `patina doctor RUN --html report.html`; `patina runs` lists them.',
  });
}
