/** `patina dashboard`: the page of runs. Files alone: nothing here loads libtorch. */
import { once } from 'node:events';

import { jsonLine } from '../base/json-text.js';
import { LOOPBACK, newToken } from '../server/access.js';
import { dashboard } from '../server/dashboard/dashboard.js';
import { listen } from '../server/listen.js';
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
    if (!page.isLocal) {
      session.stderr.write(
        `warning: other machines reach ${host}, and nothing on the way is encrypted: whoever has the address sees the runs and can stop them\n`,
      );
    }
    session.stderr.write('Ctrl-C ends the page; runs go on.\n');
    // What started it with a channel may die without a word (see page-beside.ts).
    if (!signal.aborted) await Promise.race([once(signal, 'abort'), once(process, 'disconnect')]);
  });
  if (process.connected) process.disconnect(); // An open channel keeps a process alive.
  session.exitCode = 0;
}

export interface OpenPage extends AsyncDisposable {
  /** With its token. */
  readonly address: string;
  readonly isLocal: boolean;
}

/** @throws EnvironmentError `E_PORT` */
export async function openPage(
  places: readonly string[],
  { port, host = '127.0.0.1' }: { readonly port: number; readonly host?: string },
): Promise<OpenPage> {
  const token = newToken();
  const isLocal = ['127.0.0.1', 'localhost', '::1'].includes(host);
  const app = dashboard({ places, token, ...(isLocal && { hosts: LOOPBACK }) });
  const listening = await listen(app, { host, port });
  const close = (): Promise<void> => listening.close();
  return { address: `${listening.url}/?token=${token}`, isLocal, [Symbol.asyncDispose]: close };
}
