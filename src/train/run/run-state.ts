/** `state.json` of a run folder: what the run is, and how it stands or ended. */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { jsonText } from '../../base/json-text.js';
import { writeWholeFile } from '../../base/whole-file.js';

/** How a run stands as its own process tells it; one that says `running` but is not alive has crashed. */
export const RUN_STATES = ['running', 'finished', 'interrupted', 'failed'] as const;
export type RunState = (typeof RUN_STATES)[number];

export interface RunFacts {
  name: string;
  /** Name of the recipe. */
  recipe: string;
  state: RunState;
  /** When the run was made, ISO 8601. */
  created: string;
  /** When this file was last written, ISO 8601. */
  changed: string;
  /** Updates done. */
  updates: number;
  /** Updates planned. */
  plannedUpdates?: number;
  /** Why it failed, one line. */
  reason?: string;
}

const FILE = 'state.json';

/** The facts of the run in `folder`, or undefined if it is none. */
export async function readRunFacts(folder: string): Promise<RunFacts | undefined> {
  try {
    const facts = JSON.parse(await readFile(join(folder, FILE), 'utf8')) as Partial<RunFacts>;
    const strings = [facts.name, facts.recipe, facts.created, facts.changed];
    const known = RUN_STATES.includes(facts.state as RunState);
    const valid = strings.every((text) => typeof text === 'string') && known;
    return valid && Number.isInteger(facts.updates) ? (facts as RunFacts) : undefined;
  } catch {
    return undefined;
  }
}

export async function writeRunFacts(folder: string, facts: RunFacts): Promise<void> {
  await writeWholeFile(join(folder, FILE), jsonText(facts));
}
