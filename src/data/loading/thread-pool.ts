/**
 * Threads that work on records. Work is handed out in order, two pieces to a thread at most (one while the other waits for the
 * disk); what a thread hands over comes back without being copied.
 */
import { existsSync } from 'node:fs';
import { join } from 'node:path';
import { Worker } from 'node:worker_threads';

import { EnvironmentError, PatinaError } from '../../base/errors.js';
import { packageRoot } from '../../base/native-path.js';
import type { PlainError } from '../../base/plain-error.js';
import { threadError, workerFault } from './thread-error.js';

/** What threads are asked for: a method, by its name, of what they have opened. */
export interface Request {
  readonly id: number;
  readonly method: string;
  readonly numbers: readonly number[];
}

export type Reply =
  | { readonly type: 'ready' }
  | { readonly type: 'failed'; readonly error: PlainError }
  | { readonly type: 'done'; readonly id: number; readonly result: unknown }
  | { readonly type: 'error'; readonly id: number; readonly error: PlainError };

interface Job {
  readonly request: Request;
  readonly signal: AbortSignal;
  readonly resolve: (result: unknown) => void;
  readonly reject: (error: unknown) => void;
}

interface Thread {
  readonly worker: Worker;
  readonly jobs: Map<number, Job>;
}

const JOBS_AT_ONCE = 2;

export interface PoolOptions {
  threads: number;
  /** Module of a thread: see `serveThread`. */
  entry: string;
}

export class ThreadPool {
  readonly width: number;
  readonly #threads: Thread[] = [];
  readonly #waiting: Job[] = [];
  #nextId = 0;
  /** Why the pool works no longer. */
  #end: PatinaError | undefined;

  private constructor(threads: number) {
    this.width = threads * JOBS_AT_ONCE;
  }

  /**
   * Starts threads and waits until each is ready.
   *
   * @param spec what they begin with; cloned
   * @throws what the threads throw when they begin
   */
  static async open(spec: unknown, { threads, entry }: PoolOptions): Promise<ThreadPool> {
    const pool = new ThreadPool(threads);
    try {
      await Promise.all(Array.from({ length: threads }, () => pool.#start(spec, entry)));
      return pool;
    } catch (error) {
      await pool.close();
      throw error;
    }
  }

  /** @throws what the thread throws; the signal's reason if it is raised before the work begins */
  ask(method: string, numbers: readonly number[], signal: AbortSignal): Promise<unknown> {
    return new Promise<unknown>((resolve, reject) => {
      if (this.#end) {
        reject(this.#end);
        return;
      }
      const request = { id: this.#nextId++, method, numbers };
      this.#waiting.push({ request, signal, resolve, reject });
      this.#dispatch();
    });
  }

  async close(): Promise<void> {
    this.#fail(
      new PatinaError('The data have been closed.', {
        code: 'E_DATA_CLOSED',
        hint: 'Open them again.',
      }),
    );
    await Promise.all(this.#threads.map(({ worker }) => worker.terminate()));
  }

  #start(spec: unknown, entry: string): Promise<void> {
    // A thread needs none of the loaders and flags that this process was started with.
    const worker = new Worker(entry, { workerData: spec, execArgv: [], name: 'patina-data' });
    const thread: Thread = { worker, jobs: new Map() };
    this.#threads.push(thread);
    return new Promise((resolve, reject) => {
      const fail = (error: PatinaError): void => {
        reject(error);
        this.#fail(error);
      };
      worker.on('message', (reply: Reply) => {
        if (reply.type === 'failed') {
          fail(threadError(reply.error));
        } else if (reply.type === 'ready') {
          worker.unref();
          resolve();
        } else {
          this.#settle(thread, reply);
        }
      });
      worker.on('error', (error) => fail(workerFault(String(error), error)));
      worker.on('exit', (code) => fail(workerFault(`it ended with code ${code}`)));
    });
  }

  /** Gives waiting work to the threads with the least. */
  #dispatch(): void {
    while (this.#waiting.length > 0) {
      const thread = this.#threads.reduce((a, b) => (b.jobs.size < a.jobs.size ? b : a));
      if (thread.jobs.size >= JOBS_AT_ONCE) return;
      const job = this.#waiting.shift()!;
      if (job.signal.aborted) {
        job.reject(job.signal.reason);
        continue;
      }
      // Only work keeps the process alive, an idle thread does not.
      if (thread.jobs.size === 0) thread.worker.ref();
      thread.jobs.set(job.request.id, job);
      thread.worker.postMessage(job.request);
    }
  }

  #settle(thread: Thread, reply: Extract<Reply, { id: number }>): void {
    const job = thread.jobs.get(reply.id);
    if (!job) return;
    thread.jobs.delete(reply.id);
    if (thread.jobs.size === 0) thread.worker.unref();
    if (reply.type === 'done') job.resolve(reply.result);
    else job.reject(threadError(reply.error));
    this.#dispatch();
  }

  /** Ends the pool; the first reason is the true one. */
  #fail(error: PatinaError): void {
    this.#end ??= error;
    const jobs = [
      ...this.#threads.flatMap((thread) => [...thread.jobs.values()]),
      ...this.#waiting,
    ];
    for (const thread of this.#threads) thread.jobs.clear();
    this.#waiting.length = 0;
    for (const job of jobs) job.reject(this.#end);
  }
}

/**
 * A module of the compiled package: threads run compiled code, also where this module is run from source: Node.js 20 reads no
 * TypeScript.
 *
 * @param path within `src`, such as `data/loading/worker.js`
 * @throws EnvironmentError E_NOT_SET_UP
 */
export function compiledModule(path: string): string {
  const entry = join(packageRoot(), 'dist', 'src', path);
  if (existsSync(entry)) return entry;
  throw new EnvironmentError(`The compiled code ${entry} does not exist.`, {
    code: 'E_NOT_SET_UP',
    hint: 'Run `npm run setup`.',
  });
}
