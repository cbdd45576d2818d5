/** Threads that load records; images come back without being copied. */
import type { Executor } from './executor.js';
import type { LoaderSpec, LoadOutcome } from './record-loader.js';
import { compiledModule, type PoolOptions, ThreadPool } from './thread-pool.js';

export class WorkerPool implements Executor {
  readonly #pool: ThreadPool;

  private constructor(pool: ThreadPool) {
    this.#pool = pool;
  }

  /**
   * Starts threads and waits until each has its tokenizer.
   *
   * @throws EnvironmentError E_NOT_SET_UP without compiled code; what the threads throw when they open the loader
   */
  static async open(
    spec: LoaderSpec,
    { threads, entry = compiledModule('data/loading/worker.js') }: Partial<PoolOptions> & Threads,
  ): Promise<WorkerPool> {
    return new WorkerPool(await ThreadPool.open(spec, { threads, entry }));
  }

  get width(): number {
    return this.#pool.width;
  }

  load(record: number, signal: AbortSignal): Promise<LoadOutcome> {
    return this.#pool.ask('load', [record], signal) as Promise<LoadOutcome>;
  }

  measure(from: number, to: number, signal: AbortSignal): Promise<Int32Array> {
    return this.#pool.ask('measure', [from, to], signal) as Promise<Int32Array>;
  }

  count(from: number, to: number, signal: AbortSignal): Promise<Int32Array> {
    return this.#pool.ask('count', [from, to], signal) as Promise<Int32Array>;
  }

  close(): Promise<void> {
    return this.#pool.close();
  }
}

type Threads = Pick<PoolOptions, 'threads'>;
