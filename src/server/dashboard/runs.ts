/** The runs of folders, each followed by one log. */
import { readdir } from 'node:fs/promises';
import { basename, join, resolve } from 'node:path';

import { HttpError } from '../http-error.js';
import { RunLog } from './run-log.js';

export class Runs {
  private readonly logs = new Map<string, RunLog>();

  /** @param places the folders that hold runs, or runs themselves */
  constructor(private readonly places: readonly string[]) {}

  async all(): Promise<RunLog[]> {
    const folders = await Promise.all(this.places.map(runsWithin));
    return [...new Set(folders.flat())].map((folder) => this.log(folder));
  }

  /** @throws HttpError `E_NOT_FOUND` */
  async find(id: string): Promise<RunLog> {
    const log = (await this.all()).find(({ folder }) => basename(folder) === id);
    if (log === undefined) throw notFound(`There is no run ${JSON.stringify(id)}.`);
    return log;
  }

  private log(folder: string): RunLog {
    const known = this.logs.get(folder) ?? new RunLog(folder);
    this.logs.set(folder, known);
    return known;
  }
}

/** @returns an error of status 404 */
export function notFound(message: string, cause?: unknown): HttpError {
  const hint = 'List the runs at /api/runs.';
  return new HttpError(message, { status: 404, code: 'E_NOT_FOUND', hint, cause });
}

async function runsWithin(place: string): Promise<string[]> {
  const folder = resolve(place);
  const names = await readdir(folder).catch((): string[] => []);
  if (names.includes('state.json')) return [folder];
  const within = await Promise.all(
    names.map(async (name) => {
      const inside = await readdir(join(folder, name)).catch((): string[] => []);
      return inside.includes('state.json') ? [join(folder, name)] : [];
    }),
  );
  return within.flat();
}
