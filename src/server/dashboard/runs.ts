/** The runs of folders, each followed by one log. */
import { access, readdir } from 'node:fs/promises';
import { join, resolve, sep } from 'node:path';

import { HttpError } from '../http-error.js';
import { RunLog } from './run-log.js';

export class Runs {
  private readonly byFolder = new Map<string, RunLog>();
  private readonly byId = new Map<string, RunLog>();

  /** @param places the folders that hold runs, or runs themselves */
  constructor(private readonly places: readonly string[]) {}

  async all(): Promise<RunLog[]> {
    const folders = await Promise.all(this.places.map(runsWithin));
    return [...new Set(folders.flat())].map((folder) => this.log(folder));
  }

  /** Of a run that was listed before only its own folder is looked at. @throws HttpError `E_NOT_FOUND` */
  async find(id: string): Promise<RunLog> {
    if (!this.byId.has(id)) await this.all();
    const log = this.byId.get(id);
    if (log === undefined || !(await isRun(log.folder))) {
      throw notFound(`There is no run ${JSON.stringify(id)}.`);
    }
    return log;
  }

  private log(folder: string): RunLog {
    const known = this.byFolder.get(folder);
    if (known !== undefined) return known;
    // Where two places have runs of one name, the second is called by the folders above it too.
    const names = folder.split(sep);
    let length = 1;
    const id = (): string => names.slice(-length).join('/');
    while (this.byId.has(id())) length++;
    const log = new RunLog(folder, id());
    this.byFolder.set(folder, log);
    this.byId.set(log.id, log);
    return log;
  }
}

/** @returns an error of status 404 */
export function notFound(message: string, cause?: unknown): HttpError {
  const hint = 'List the runs at /api/runs.';
  return new HttpError(message, { status: 404, code: 'E_NOT_FOUND', hint, cause });
}

async function isRun(folder: string): Promise<boolean> {
  return access(join(folder, 'state.json')).then(
    () => true,
    () => false,
  );
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
