/** `patina dashboard`: the page of runs. Files alone: nothing here loads libtorch. */
import { once } from 'node:events';
import { stat } from 'node:fs/promises';
import { resolve } from 'node:path';

import { UsageError } from '../base/errors.js';
import { jsonLine } from '../base/json-text.js';
import { hostsOf } from '../server/access.js';
import { dashboard } from '../server/dashboard/dashboard.js';
import { Runs } from '../server/dashboard/runs.js';
import { exposure, listen } from '../server/listen.js';
import { newSecret } from '../server/secret.js';
import type { Session } from './session.js';

export interface DashboardFlags {
  port: number;
  host: string;
  json?: boolean;
}

export async function dashboardCommand(
  places: readonly string[],
  { port, host, json = false }: DashboardFlags,
  session: Session,
): Promise<void> {
  await session.inOrder(async (signal) => {
    await using page = await openPage(places, { port, host });
    if (json) session.stdout.write(jsonLine({ type: 'listening', url: page.address }));
    else session.stdout.write(`${page.address}\n`);
    session.stderr.write(
      exposure(host, page.port, 'whoever has the address sees the runs and can stop them'),
    );
    if (page.isEmpty) session.stderr.write('There is no run yet; runs appear as they begin.\n');
    session.stderr.write('Ctrl-C ends the page; runs go on.\n');
    // What started it with a channel may die without a word (see page-beside.ts).
    if (!signal.aborted) await Promise.race([once(signal, 'abort'), once(process, 'disconnect')]);
  });
  if (process.connected) process.disconnect(); // An open channel keeps a process alive.
  session.exitCode = 0;
}

interface OpenPage extends AsyncDisposable {
  /** With its token. */
  readonly address: string;
  readonly port: number;
  /** There is no run so far. */
  readonly isEmpty: boolean;
}

/** @throws EnvironmentError `E_PORT`; UsageError `E_HOST`, `E_NO_RUNS` */
async function openPage(
  places: readonly string[],
  { port, host }: Pick<DashboardFlags, 'port' | 'host'>,
): Promise<OpenPage> {
  await Promise.all(places.map(expectFolder));
  const token = newSecret();
  const runs = new Runs(places);
  const listening = await listen(dashboard({ runs, token, hosts: hostsOf(host) }), { host, port });
  return {
    address: `${listening.url}/?token=${token}`,
    port: listening.port,
    isEmpty: (await runs.all()).length === 0,
    [Symbol.asyncDispose]: () => listening.close(),
  };
}

async function expectFolder(place: string): Promise<void> {
  const facts = await stat(place).catch(() => undefined);
  if (facts?.isDirectory() === true) return;
  const problem = facts === undefined ? 'There is no folder' : 'This is no folder:';
  throw new UsageError(`${problem} ${resolve(place)}.`, {
    code: 'E_NO_RUNS',
    hint: 'Name the folder that holds your runs, `patina dashboard FOLDER`; training makes `runs` where it is started.',
  });
}
