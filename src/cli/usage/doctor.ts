/** How `patina doctor` is used. */
import type { Command } from 'commander';

import type { DoctorFlags } from '../doctor.js';
import type { Session } from '../session.js';

export function define(command: Command, session: Session): void {
  command
    .option('--json', 'print one JSON object')
    .addHelpText(
      'after',
      `
Examples:
  patina doctor
  patina doctor --json

Exit code: 0 if Patina can work, 3 if a fault prevents it.`,
    )
    .action(async (flags: DoctorFlags) => {
      const { doctorCommand } = await import('../doctor.js');
      await doctorCommand(flags, session);
    });
}
