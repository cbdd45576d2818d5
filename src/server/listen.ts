/** A web application on a port of this machine: of the page of runs, and of models. */
import { createAdaptorServer } from '@hono/node-server';
import type { Hono } from 'hono';
import { once } from 'node:events';
import type { Server } from 'node:http';
import { type AddressInfo, isIPv6 } from 'node:net';
import { hostname } from 'node:os';
import { setTimeout } from 'node:timers/promises';

import { EnvironmentError, UsageError } from '../base/errors.js';
import { errorCode } from '../base/system-error.js';

export interface Listening {
  readonly port: number;
  /** As a browser on this machine reaches it: `http://127.0.0.1:8000`. */
  readonly url: string;
  /**
   * Takes no more requests. Those under way may go on until `finished` is, and what has been written may arrive for so many seconds more.
   *
   * @param finished @default at once
   * @param linger @default 0
   */
  close(finished?: Promise<unknown>, linger?: number): Promise<void>;
}

export interface ListenOptions {
  /** @default '127.0.0.1', where only this machine reaches it */
  readonly host?: string | undefined;
  /** 0 takes one that is free. */
  readonly port: number;
}

/** Seconds in which a request has to arrive. */
const ARRIVAL = 60;
/** Milliseconds between looks for connections that nobody uses any more, while it closes. */
const SWEEP = 20;

/** @throws EnvironmentError `E_PORT` where the port cannot be had; UsageError `E_HOST` for no address */
export async function listen(
  { fetch }: Pick<Hono, 'fetch'>,
  { host = '127.0.0.1', port }: ListenOptions,
): Promise<Listening> {
  // Node would listen at all there are, which a variable that is not set should not bring about.
  if (host === '') {
    throw new UsageError('The address to listen on is empty.', {
      code: 'E_HOST',
      hint: 'Leave --host out to be reached from this machine alone, or give one, 0.0.0.0 for all.',
    });
  }
  const server = createAdaptorServer({
    fetch,
    overrideGlobalObjects: false,
    serverOptions: { requestTimeout: 1000 * ARRIVAL, headersTimeout: 1000 * ARRIVAL },
  }) as Server;
  server.listen(port, host);
  try {
    await once(server, 'listening');
  } catch (cause) {
    const taken = errorCode(cause) === 'EADDRINUSE';
    const problem = taken ? 'is taken by another program' : `cannot be had (${reason(cause)})`;
    throw new EnvironmentError(`Port ${port} of ${host} ${problem}.`, {
      code: 'E_PORT',
      hint: taken
        ? 'Choose another by --port, or 0 for any that is free.'
        : 'Choose another address or port by --host and --port; ports below 1024 may need rights.',
      cause,
    });
  }
  const { port: own } = server.address() as AddressInfo;
  let closed: Promise<void> | undefined;
  return {
    port: own,
    url: `http://${inAddress(ANY.get(host) ?? host)}:${own}`,
    close: (finished, linger = 0) => (closed ??= close(server, finished, linger)),
  };
}

async function close(
  server: Server,
  finished: Promise<unknown> | undefined,
  linger: number,
): Promise<void> {
  const ended = new Promise<void>((resolve) => server.close(() => resolve()));
  const sweep = setInterval(() => server.closeIdleConnections(), SWEEP);
  try {
    await finished;
    await Promise.race([ended, setTimeout(1000 * linger, undefined, { ref: false })]);
    server.closeAllConnections();
    await ended;
  } finally {
    clearInterval(sweep);
  }
}

/** Addresses that stand for all of a machine, by the loopback one of their kind. */
const ANY: ReadonlyMap<string, string> = new Map([
  ['0.0.0.0', '127.0.0.1'],
  ['::', '::1'],
]);

/** Whether only this machine reaches an address. */
export function isLoopback(host: string): boolean {
  return /^(localhost|127\.\d+\.\d+\.\d+|::1)$/.test(host);
}

/** A host as it stands in an address. */
export function inAddress(host: string): string {
  return isIPv6(host) ? `[${host}]` : host;
}

/**
 * What to say of a server that other machines reach; nothing of one that they do not.
 *
 * @param secret what whoever gets it can do, a sentence without its full stop
 */
export function exposure(host: string, port: number, secret: string): string {
  if (isLoopback(host)) return '';
  const from = inAddress(ANY.has(host) ? hostname() : host);
  return `warning: other machines reach this at http://${from}:${port}, and nothing on the way is encrypted: ${secret}\n`;
}

function reason(cause: unknown): string {
  return errorCode(cause) ?? (cause as Error).message;
}
