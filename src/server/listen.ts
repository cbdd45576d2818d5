/** A web application on a port of this machine. */
import { serve } from '@hono/node-server';
import type { Hono } from 'hono';
import type { AddressInfo } from 'node:net';

import { EnvironmentError } from '../base/errors.js';
import { errorCode } from '../base/system-error.js';

export interface Listening extends AsyncDisposable {
  readonly port: number;
  readonly url: string;
  /** Takes no more requests, and ends those under way. */
  close(): Promise<void>;
}

export interface ListenOptions {
  /** @default '127.0.0.1' */
  readonly host?: string;
  /** 0 takes one that is free. */
  readonly port: number;
}

/** @throws EnvironmentError `E_PORT` where the port cannot be had */
export async function listen(
  { fetch }: Pick<Hono, 'fetch'>,
  { host = '127.0.0.1', port }: ListenOptions,
): Promise<Listening> {
  const server = await new Promise<ReturnType<typeof serve>>((resolve, reject) => {
    const created = serve({ fetch, hostname: host, port }, () => resolve(created));
    created.once('error', (cause: unknown) => {
      const taken = errorCode(cause) === 'EADDRINUSE';
      reject(
        new EnvironmentError(`Port ${port} of ${host} cannot be had: ${(cause as Error).message}`, {
          code: 'E_PORT',
          hint: taken
            ? 'Choose another by --port, or 0 for any that is free.'
            : 'Choose another address or port by --host and --port.',
          cause,
        }),
      );
    });
  });
  const { port: own } = server.address() as AddressInfo;
  const close = (): Promise<void> =>
    new Promise((resolve) => {
      server.close(() => resolve());
      if ('closeAllConnections' in server) server.closeAllConnections();
    });
  const shown = host.includes(':') ? `[${host}]` : host;
  return { port: own, url: `http://${shown}:${own}`, close, [Symbol.asyncDispose]: close };
}
