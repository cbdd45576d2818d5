/** The files that a run has told of, which are shown; no others are: its probes' pictures, and records that were left out or diagnosed. */
import { isAbsolute, join } from 'node:path';

import type { Recipe } from '../../config/index.js';
import { showRecord } from '../../guard/post-mortem/shown-record.js';
import type { GuardedRecord } from '../../train/events.js';
import { ofType } from '../../train/run/logs.js';
import { readRunRecipe } from '../../train/run/run-folder.js';
import { startedIn } from './run-control.js';
import type { RunLog } from './run-log.js';
import type { RecordView } from './shown.js';

/** The file of a picture by the path under which probes name it; `undefined` where none does. */
export async function toldPicture(log: RunLog, path: string): Promise<string | undefined> {
  const probes = ofType(log.ofType('probes'), 'probes');
  const isTold = probes.some(({ answers }) => answers.some(({ images }) => images.includes(path)));
  if (!isTold) return undefined;
  return isAbsolute(path) ? path : join(await startedIn(log.folder), path);
}

/** A record with its pictures; `undefined` where the run has not told of it. */
export async function toldRecord(
  log: RunLog,
  source: string,
  number: number,
): Promise<RecordView | undefined> {
  const told: GuardedRecord[] = [
    ...ofType(log.ofType('diagnosis'), 'diagnosis').flatMap(({ records }) => records),
    ...ofType(log.ofType('bad-record'), 'bad-record').map(({ record: { file, ...place } }) => ({
      ...place,
      ...{ source: file, line: place.line ?? place.record },
    })),
  ];
  const found = told.find((each) => each.source === source && each.record === number);
  if (found === undefined) return undefined;
  const { sources } = ((await readRunRecipe(log.folder)) as Recipe).data;
  const { text, pictures } = await showRecord(found, sources);
  return { text, pictures };
}
