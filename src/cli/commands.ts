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
    name: 'quickstart',
    summary: 'Train a small model on drawn pictures, from nothing to answers',
    load: () => import('./quickstart.js'),
  },
  {
    name: 'train',
    summary: 'Train a model by a recipe, or go on with a run',
    load: () => import('./train.js'),
  },
  {
    name: 'runs',
    summary: 'List runs, or show one with its curves',
    load: () => import('./runs.js'),
  },
  {
    name: 'recipes',
    summary: 'List, show and copy the recipes that are built in',
    load: () => import('./recipes.js'),
  },
  {
    name: 'doctor',
    summary: 'Show what Patina runs on, and how to mend what is wrong',
    load: () => import('./doctor.js'),
  },
  {
    name: 'show',
    summary: 'Show what a model sees of records and pictures',
    load: () => import('./show.js'),
  },
  {
    name: 'chat',
    summary: 'Talk to a model about pictures',
    load: () => import('./chat.js'),
  },
  {
    name: 'export',
    summary: 'Write a model for another tool, or say what a folder is',
    load: () => import('./export.js'),
  },
];
