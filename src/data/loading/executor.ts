/** Where records are loaded: in this thread, or in workers. */
import type { LoadOutcome } from './record-loader.js';
import { RecordLoader, type LoaderSpec } from './record-loader.js';

export interface Executor {
  /** How many records are worked on at once. */
  readonly width: number;
  /** @throws errors of `RecordLoader.load`; the signal's reason if it is raised before the work begins */
  load(record: number, signal: AbortSignal): Promise<LoadOutcome>;
  measure(from: number, to: number, signal: AbortSignal): Promise<Int32Array>;
  count(from: number, to: number, signal: AbortSignal): Promise<Int32Array>;
  close(): Promise<void>;
}

/** Loads in this thread, one record after another, so that not all of them are in memory half done. */
export class InlineExecutor implements Executor {
  readonly width = 1;
  readonly #loader: RecordLoader;
  #last: Promise<unknown> = Promise.resolve();

  private constructor(loader: RecordLoader) {
    this.#loader = loader;
  }

  static async open(spec: LoaderSpec): Promise<InlineExecutor> {
    return new InlineExecutor(await RecordLoader.open(spec));
  }

  load(record: number, signal: AbortSignal): Promise<LoadOutcome> {
    return this.#next(() => this.#loader.load(record), signal);
  }

  measure(from: number, to: number, signal: AbortSignal): Promise<Int32Array> {
    return this.#next(() => this.#loader.measure(from, to), signal);
  }

  count(from: number, to: number, signal: AbortSignal): Promise<Int32Array> {
    return this.#next(() => this.#loader.count(from, to), signal);
  }

  async close(): Promise<void> {
    await this.#last;
    await this.#loader.close();
  }

  #next<T>(work: () => Promise<T>, signal: AbortSignal): Promise<T> {
    const result = this.#last.then(() => {
      signal.throwIfAborted();
      return work();
    });
    this.#last = result.catch(() => undefined);
    return result;
  }
}
