/**
 * The commands of `patina`: a name, a line for `patina --help`, and the file that defines the rest, loaded when it is used.
 *
 * A file of `usage/` has the arguments, options and help of a command and loads the work itself, a file of this folder, within
 * the action: help needs no libtorch.
 */
import type { Command } from 'commander';

import type { Session } from './session.js';

/** What a file of `usage/` exports. */
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
    load: () => import('./usage/quickstart.js'),
  },
  {
    name: 'check',
    summary: 'Check data, model and recipe before they cost GPU time',
    load: () => import('./usage/check.js'),
  },
  {
    name: 'train',
    summary: 'Train a model by a recipe, or go on with a run',
    load: () => import('./usage/train.js'),
  },
  {
    name: 'plan',
    summary: 'Say whether a run fits on given GPUs, and how long it takes',
    load: () => import('./usage/plan.js'),
  },
  {
    name: 'runs',
    summary: 'List runs, or show one with its curves',
    load: () => import('./usage/runs.js'),
  },
  {
    name: 'dashboard',
    summary: 'Show runs on a page in the browser, live',
    load: () => import('./usage/dashboard.js'),
  },
  {
    name: 'recipes',
    summary: 'List, show and copy the recipes that are built in',
    load: () => import('./usage/recipes.js'),
  },
  {
    name: 'doctor',
    summary: 'Show what Patina runs on, or why a run broke, and what to do',
    load: () => import('./usage/doctor.js'),
  },
  {
    name: 'show',
    summary: 'Show what a model sees of records and pictures',
    load: () => import('./usage/show.js'),
  },
  {
    name: 'chat',
    summary: 'Talk to a model about pictures',
    load: () => import('./usage/chat.js'),
  },
  {
    name: 'serve',
    summary: "Serve a model over OpenAI's API, with a chat page",
    load: () => import('./usage/serve.js'),
  },
  {
    name: 'eval',
    summary: 'Score a model on a benchmark, or on questions of your own',
    load: () => import('./usage/eval.js'),
  },
  {
    name: 'export',
    summary: 'Write a model for another tool, or say what a folder is',
    load: () => import('./usage/export.js'),
  },
];
