/**
 * `Store`: the key-value store that the ranks of a job share, c10d's TCPStore. Its server runs within rank 0 and ends with it.
 *
 * Requests are short and run on the store's own thread; to wait for keys is to ask again.
 */

import { setTimeout as sleep } from 'node:timers/promises';
import { EnvironmentError } from '../base/errors.js';
import { expectDone, expectValue, failureError, isFailure } from '../torch/errors.js';
import { native, type NativeFailure } from '../torch/native.js';

/** What every request of a store and every wait may say. */
export interface StoreOptions {
  /** Milliseconds until it fails. @default 60_000 */
  readonly timeout?: number;
  readonly signal?: AbortSignal;
}

const TIMEOUT = 60_000;
/** Milliseconds that a try may take beyond the time it was given: libtorch pauses for up to a second before it looks at the time. */
const SLACK = 3_000;
/** Milliseconds of one try to connect. */
const TRY = 2_000;
/** Milliseconds between two questions for a key: the first and the longest. */
const SOON = 5;
const LATER = 200;

export class Store {
  private constructor(
    private handle: number,
    readonly host: string,
    readonly port: number,
  ) {}

  /**
   * Connects to the server of a job, or starts it; a server with port 0 chooses a free one.
   *
   * @throws EnvironmentError `E_PORT_IN_USE` for a server whose port is taken, `E_STORE` where none is reached in time
   */
  static async open(
    host: string,
    port: number,
    { server = false, timeout = TIMEOUT, signal }: StoreOptions & { server?: boolean } = {},
  ): Promise<Store> {
    const end = performance.now() + timeout;
    for (;;) {
      signal?.throwIfAborted();
      // A try cannot be broken off, so each is short.
      const rest = Math.max(1, Math.min(end - performance.now(), server ? Infinity : TRY));
      try {
        const opened = expectValue(native.openStore(host, port, server, rest), 'Store.open()');
        const silent = (): EnvironmentError => silentError({ host, port, timeout });
        const patience = Math.max(0, end - performance.now()) + SLACK;
        const handle = await inTime(opened, { patience, silent, signal });
        return new Store(handle, host, expectValue(native.storePort(handle), 'Store.open()'));
      } catch (reason) {
        if (isFailure(reason) && !server && performance.now() < end) continue;
        throw connectError(reason, { host, port, server, timeout });
      }
    }
  }

  /** Sets a key. */
  async set(key: string, value: string, options?: StoreOptions): Promise<void> {
    await this.request('set', key, native.storeSet(this.handle, key, value), options);
  }

  /** The value of a key, `undefined` if nobody has set it. */
  async get(key: string, options?: StoreOptions): Promise<string | undefined> {
    return this.request('get', key, native.storeGet(this.handle, key), options);
  }

  /** Adds to a key, which counts from 0, and gives the sum. */
  async add(key: string, amount: number, options?: StoreOptions): Promise<number> {
    return this.request('add', key, native.storeAdd(this.handle, key, amount), options);
  }

  /** Deletes a key; whether it was there. */
  async delete(key: string, options?: StoreOptions): Promise<boolean> {
    return this.request('delete', key, native.storeDelete(this.handle, key), options);
  }

  /** Whether all of these keys are set. */
  async check(keys: readonly string[], options?: StoreOptions): Promise<boolean> {
    return this.request('check', keys.join(', '), native.storeCheck(this.handle, keys), options);
  }

  /**
   * Waits until all of these keys are set.
   *
   * @throws EnvironmentError `E_STORE_TIMEOUT` that names those which are not
   */
  async wait(keys: readonly string[], options: StoreOptions = {}): Promise<void> {
    const { timeout = TIMEOUT, signal } = options;
    const end = performance.now() + timeout;
    const missing = new Set(keys);
    for (let pause = SOON; ; pause = Math.min(2 * pause, LATER)) {
      for (const key of missing) {
        if (!(await this.check([key], options))) break;
        missing.delete(key);
      }
      if (missing.size === 0) return;
      if (performance.now() > end) break;
      await sleep(pause, undefined, { signal });
    }
    const unset: string[] = [];
    for (const key of missing) if (!(await this.check([key], options))) unset.push(key);
    throw new EnvironmentError(
      `the store at ${this.host}:${this.port} has not got ${unset.join(', ')} within ${timeout / 1000} s`,
      { code: 'E_STORE_TIMEOUT', hint: 'See whether the other ranks run.' },
    );
  }

  /** Ends the connection, and the server where it was started. */
  close(): void {
    expectDone(native.closeStore(this.handle), 'Store.close()');
    this.handle = -1;
  }

  /** The answer, or an error if it does not come in time: a server that is stopped does not answer at all. */
  private async request<T>(
    what: string,
    key: string,
    asked: Promise<T> | NativeFailure,
    { timeout = TIMEOUT, signal }: StoreOptions = {},
  ): Promise<T> {
    const name = `Store.${what}()`;
    const answer = expectValue(asked, name);
    const silence = new AbortController();
    const stop = signal === undefined ? silence.signal : AbortSignal.any([signal, silence.signal]);
    const late = sleep(timeout, undefined, { signal: stop }).then(() => {
      throw this.error(`has not answered within ${timeout / 1000} s`, what, key);
    });
    try {
      return await Promise.race([answer, late]);
    } catch (reason) {
      if (!isFailure(reason)) throw reason;
      throw this.error(`cannot be asked: ${reason.message}`, what, key);
    } finally {
      late.catch(() => undefined);
      silence.abort();
    }
  }

  private error(message: string, what: string, key: string): EnvironmentError {
    return new EnvironmentError(
      `the store at ${this.host}:${this.port} ${message} (${what} ${key})`,
      { code: 'E_STORE', hint: 'See whether rank 0, which holds it, runs.' },
    );
  }
}

/**
 * A connection that is made in time. What took longer, since whoever listens there says nothing, is left to itself, and closed should
 * it come all the same.
 */
async function inTime(
  opened: Promise<number>,
  options: { patience: number; silent: () => EnvironmentError; signal: AbortSignal | undefined },
): Promise<number> {
  const { patience, silent, signal } = options;
  const made = new AbortController();
  const stop = signal === undefined ? made.signal : AbortSignal.any([signal, made.signal]);
  const late = sleep(patience, undefined, { signal: stop }).then(
    () => {
      throw silent();
    },
    () => {
      signal?.throwIfAborted();
      return opened;
    },
  );
  try {
    return await Promise.race([opened, late]);
  } catch (reason) {
    opened.then(
      (handle) => native.closeStore(handle),
      () => undefined,
    );
    throw reason;
  } finally {
    late.catch(() => undefined);
    made.abort();
  }
}

function silentError({ host, port, timeout }: { host: string; port: number; timeout: number }) {
  return new EnvironmentError(
    `who listens at ${host}:${port} has not answered as the store of a job within ${timeout / 1000} s`,
    {
      code: 'E_STORE',
      hint: 'Another program may have the port: `ss -ltnp` shows who listens. Set MASTER_PORT to another one, the same for all ranks; see also whether rank 0 was stopped.',
    },
  );
}

/** Why a store is not connected to, or does not listen. */
export function connectError(
  reason: unknown,
  at: { host: string; port: number; server?: boolean; timeout: number },
): unknown {
  if (!isFailure(reason)) return reason;
  if (reason.kind !== 'distributed') return failureError(reason, { operator: 'Store.open()' });
  const { host, port, server = false, timeout } = at;
  if (server && /EADDRINUSE|in use/i.test(reason.message)) {
    return new EnvironmentError(`port ${port} is in use: rank 0 cannot listen there`, {
      code: 'E_PORT_IN_USE',
      hint: 'Set MASTER_PORT to another port, the same for all ranks; `ss -ltnp` shows who listens.',
    });
  }
  const whole = server ? `cannot listen at port ${port}` : `nothing answers at ${host}:${port}`;
  return new EnvironmentError(`${whole} (tried for ${timeout / 1000} s): ${reason.message}`, {
    code: 'E_STORE',
    hint: 'See whether rank 0 runs there, MASTER_ADDR and MASTER_PORT name it, and no firewall stands between.',
  });
}
