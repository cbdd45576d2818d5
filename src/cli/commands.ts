/** The commands of `patina`: a name, a line for `patina --help`, and the file that defines the rest, loaded when it is used. */
import type { Command } from 'commander';

/** Where a command writes, and how it ends. */
export interface Session {
  /** For what was asked for. */
  readonly stdout: Output;
  /** For progress, warnings and errors. */
  readonly stderr: Output;
  /** A command that did its work, but found something wrong, sets it. @default 0 */
  exitCode: number;
}

export interface Output {
  readonly isTTY?: boolean;
  write(text: string): unknown;
}

/** What the file of a command exports. */
export interface CommandModule {
  /** Adds arguments, options and the action to `command`, which has its name and summary already. */
  define(command: Command, session: Session): void;
}

export interface CommandEntry {
  name: string;
  summary: string;
  load: () => Promise<CommandModule>;
}

export const COMMANDS: readonly CommandEntry[] = [
  {
    name: 'doctor',
    summary: 'Show what Patina runs on, and how to mend what is wrong',
    load: () => import('./doctor.js'),
  },
  {
    name: 'chat',
    summary: 'Talk to a model about pictures',
    load: () => import('./chat.js'),
  },
];
