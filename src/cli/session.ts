/**
 * Where a command writes, and what ends it from outside: signals, and an output that takes no more. Nothing else listens to these.
 *
 * Work with something to lose ends in order, as after Ctrl-C; any other ends at once.
 */
import { PatinaError } from '../base/errors.js';
import { errorCode, writeError } from '../base/system-error.js';
import { exitCodeOf, printError } from './print-error.js';

/** Where a command writes, and how it ends. */
export interface Session {
  /** For what was asked for. */
  readonly stdout: Output;
  /** For progress, warnings and errors. */
  readonly stderr: Output;
  /** A command that did its work, but found something wrong, sets it. @default 0 */
  exitCode: number;
  /**
   * Runs work that must end in order. Its signal is raised, with an error that says why, by the first SIGINT, SIGTERM or SIGHUP and by
   * an output that takes no more; the work then ends soon, and the exit code becomes 130. A second SIGINT or SIGTERM ends the process.
   *
   * @throws what the work throws; EnvironmentError `E_DISK_FULL` where the disk under an output is full
   */
  inOrder<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T>;
}

export interface Output {
  readonly isTTY?: boolean;
  write(text: string): unknown;
  /** A stream tells here that what was written did not arrive. */
  on?(event: 'error', listener: (error: unknown) => void): unknown;
}

/** The exit code of what was ended from outside, as shells have it for Ctrl-C. */
export const INTERRUPTED = 130;

class Interrupted extends PatinaError {
  override readonly exitCode: number = INTERRUPTED;

  constructor(message: string) {
    super(message, { code: 'E_INTERRUPTED', hint: 'Run the same command again.' });
  }
}

const SIGNALS = ['SIGINT', 'SIGTERM', 'SIGHUP'] as const;
/** A pipe without a reader, and a terminal that is gone. */
const GONE = new Set(['EPIPE', 'EIO', 'ECONNRESET']);
/**
 * Milliseconds in which further signals are the first one again: `timeout`, `npm` and terminals signal a process and its group,
 * which is the process once more.
 */
const ECHO = 500;

export function openSession(stdout: Output, stderr: Output): Session {
  return new ProcessSession(stdout, stderr);
}

class ProcessSession implements Session {
  exitCode = 0;
  readonly stdout: Output;
  readonly stderr: Output;
  /** Stops the work that is to end in order. */
  #stop: AbortController | undefined;

  constructor(stdout: Output, stderr: Output) {
    this.stdout = this.#guarded(stdout, 'standard output');
    this.stderr = this.#guarded(stderr, 'standard error');
  }

  async inOrder<T>(work: (signal: AbortSignal) => Promise<T>): Promise<T> {
    const stop = new AbortController();
    const { signal } = stop;
    const interrupt = (name: NodeJS.Signals): void => {
      stop.abort(new Interrupted(`told to end by ${name}`));
    };
    const unlisten = (name: NodeJS.Signals): unknown => process.off(name, interrupt);
    signal.addEventListener('abort', () => {
      // From then on a second one ends the process; but a shell that goes hands on SIGHUP as often as it likes.
      setTimeout(() => ['SIGINT' as const, 'SIGTERM' as const].forEach(unlisten), ECHO).unref();
    });
    for (const name of SIGNALS) process.on(name, interrupt);
    this.#stop = stop;
    try {
      const result = await work(signal);
      if (signal.aborted) {
        if (!(signal.reason instanceof Interrupted)) throw signal.reason;
        this.exitCode = INTERRUPTED;
      }
      return result;
    } finally {
      this.#stop = undefined;
      SIGNALS.forEach(unlisten);
    }
  }

  /** An output whose faults end what writes to it; what comes after a fault is dropped. */
  #guarded(output: Output, name: string): Output {
    let open = true;
    const fail = (error: unknown): void => {
      if (!open) return;
      open = false;
      const gone = GONE.has(errorCode(error) ?? '');
      this.#end(
        gone ? new Interrupted(`nobody reads ${name} any more`) : writeError(error, name, 'print'),
      );
    };
    output.on?.('error', fail);
    return {
      isTTY: output.isTTY === true,
      write: (text) => {
        if (open) output.write(text);
      },
    };
  }

  #end(reason: unknown): void {
    if (this.#stop !== undefined) {
      this.#stop.abort(reason);
      return;
    }
    if (!(reason instanceof Interrupted)) printError(reason, this.stderr);
    process.exit(this.exitCode || exitCodeOf(reason));
  }
}

/** Runs something that Ctrl-C stops, and the program goes on. */
export async function interruptible<T>(run: (signal: AbortSignal) => Promise<T>): Promise<T> {
  const stop = new AbortController();
  const interrupt = (): void => stop.abort();
  process.on('SIGINT', interrupt);
  try {
    return await run(stop.signal);
  } finally {
    process.off('SIGINT', interrupt);
  }
}
