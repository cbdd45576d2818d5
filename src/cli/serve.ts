/** `patina serve`: a model by the protocol of OpenAI's API, with its adapters as models of their own. */
import { once } from 'node:events';
import { basename, resolve } from 'node:path';

import { UsageError } from '../base/errors.js';
import { jsonLine } from '../base/json-text.js';
import type { LoadedChatModel } from '../generate/index.js';
import { exposure, serve } from '../server/index.js';
import { loadNamed, type ModelFlags } from './load-named.js';
import { printError } from './print-error.js';
import type { Session } from './session.js';

export interface ServeFlags extends ModelFlags {
  name?: string;
  host: string;
  port: number;
  key?: string;
  files?: string;
  rows: number;
  waiting: number;
  places?: number;
  maxNewTokens: number;
  timeout: number;
  maxBody: number;
  json?: boolean;
}

export async function serveCommand(
  source: string,
  flags: ServeFlags,
  session: Session,
): Promise<void> {
  const { stdout, stderr } = session;
  const { adapter = [], name = basename(resolve(source)), json = false } = flags;
  const { host, port, key, files, rows, waiting, places, maxNewTokens, timeout, maxBody } = flags;
  const adapters = adapter.map(named);
  const names = [name, ...adapters.map((each) => each.name)];
  const twice = names.find((each, i) => names.indexOf(each) !== i);
  if (twice !== undefined) {
    throw wrong(`Two models are called ${twice}.`, 'Name them: --name NAME, --adapter NAME=PATH.');
  }
  await session.inOrder(async (signal) => {
    const chats = new Map<string, LoadedChatModel>();
    const load = async (): Promise<typeof chats> => {
      const parts = { ...flags, adapter: [] };
      const beside = await loadNamed(source, parts, { signal, stderr });
      chats.set(name, beside);
      for (const { name, path } of adapters) {
        const over = { ...parts, adapter: [path] };
        chats.set(name, await loadNamed(source, over, { signal, stderr, beside: beside.loaded }));
      }
      return chats;
    };
    try {
      const serving = await serve(load, {
        ...{ host, port, key, files, rows, waiting, places, maxNewTokens },
        seconds: timeout,
        bodyBytes: maxBody * 2 ** 20,
        onError: (error) => printError(error, stderr),
      });
      const { url } = serving;
      if (json) stdout.write(jsonLine({ type: 'listening', url, key: serving.key, models: names }));
      stderr.write(exposure(host, serving.port, 'whoever has the key can ask'));
      stderr.write(
        `Serving ${names.join(', ')} at ${url}/v1, chat at ${url}/#key=${encodeURIComponent(serving.key)}\n`,
      );
      if (key === undefined) stderr.write(`API key: ${serving.key}\n`);
      if (!signal.aborted) await once(signal, 'abort');
      stderr.write('Finishing what has been asked; once more ends at once.\n');
      await serving.close();
    } catch (error) {
      if (!signal.aborted || error !== signal.reason) throw error;
    } finally {
      for (const { model } of chats.values()) model.dispose();
    }
  });
}

/** `NAME=PATH`, or a path that gives the name. */
function named(adapter: string): { name: string; path: string } {
  const [, name, path] = /^([^=/\\]+)=(.+)$/s.exec(adapter) ?? [];
  return name === undefined
    ? { name: basename(resolve(adapter)), path: adapter }
    : { name, path: path! };
}

function wrong(message: string, hint: string): UsageError {
  return new UsageError(message, { code: 'E_USAGE', hint });
}
