/** `patina doctor RUN`: the post-mortem of a run, as text, JSON or a page. */
import { resolve } from 'node:path';

import { jsonLine } from '../base/json-text.js';
import { writing } from '../base/system-error.js';
import { writeWholeFile } from '../base/whole-file.js';
import { postMortemPage } from '../guard/post-mortem/page.js';
import { postMortem, type PostMortem } from '../guard/post-mortem/post-mortem.js';
import { findRun } from '../train/run/list-runs.js';
import type { Session } from './session.js';
import { requireTargets } from './targets.js';
import { eventLines } from './train-view/event-lines.js';

export interface DoctorRunFlags {
  json?: boolean;
  html?: string;
}

const WRITING = 'write the report';

export async function doctorRun(
  name: string,
  { json = false, html }: DoctorRunFlags,
  session: Session,
): Promise<void> {
  const run = await findRun(name);
  await requireTargets({ '--html': html }, WRITING);
  const found = await postMortem(run);
  if (html !== undefined) {
    const page = await postMortemPage(found);
    await writing(html, WRITING, () => writeWholeFile(resolve(html), page));
  }
  session.stdout.write(json ? jsonLine(plain(found)) : describe(found));
  if (html !== undefined) session.stderr.write(`wrote ${html}\n`);
}

function plain({ run, ending, told, recoveries, skipped, unread }: PostMortem): object {
  const { name, recipe, state, updates } = run;
  return { run: { name, recipe, state, updates }, ending, skipped, unread, told, recoveries };
}

function describe({ run, ending, told, recoveries, skipped, unread }: PostMortem): string {
  const times = (updates: readonly number[]): string =>
    updates.length === 1 ? '' : `  told at updates ${updates.join(', ')}\n`;
  return [
    `${run.name}: ${ending}.\n`,
    ...(skipped === 0 ? [] : [`${skipped} updates were skipped.\n`]),
    ...unread.map((what) => `Not all is known: ${what}.\n`),
    ...(told.length === 0
      ? [
          unread.length === 0
            ? 'Nothing was found: no diagnosis was told, and its curves show nothing odd.\n'
            : 'Nothing was found in what could be read.\n',
        ]
      : []),
    ...told.map(
      ({ diagnosis, updates }) => `\n${eventLines(diagnosis).join('\n')}\n${times(updates)}`,
    ),
    ...(recoveries.length === 0
      ? []
      : ['\n', ...recoveries.map((each) => `${eventLines(each).join('\n')}\n`)]),
  ].join('');
}
