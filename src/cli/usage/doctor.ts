/** How `patina doctor` is used. */
import type { Command } from 'commander';

import type { DoctorFlags } from '../doctor.js';
import type { Session } from '../session.js';

export function define(command: Command, session: Session): void {
  command
    .option('--json', 'print one JSON object')
    .option('--links', 'measure how fast processes exchange tensors here, also without GPUs')
    .addHelpText(
      'after',
      `
Examples:
  patina doctor
  patina doctor --links
  patina doctor --json

Where there are several GPUs, the links between them are measured, which takes up to 20 seconds: bytes that each card sends per second,
and as many it receives, in each collective.

Exit code: 0 if Patina can work, 3 if a fault prevents it.`,
    )
    .action(async (flags: DoctorFlags) => {
      const { doctorCommand } = await import('../doctor.js');
      await doctorCommand(flags, session);
    });
}
