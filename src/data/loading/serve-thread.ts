/** The inside of a thread of a pool: opens what it works with, then answers one request after another. */
import { parentPort, workerData, type Transferable } from 'node:worker_threads';

import { toPlain } from '../../base/plain-error.js';
import type { Reply, Request } from './thread-pool.js';

export interface ThreadWork<Spec, Opened> {
  /** Once, of what the pool was opened with; an error ends the pool. */
  open(spec: Spec): Promise<Opened>;
  answer(opened: Opened, request: Pick<Request, 'method' | 'numbers'>): Promise<unknown>;
  /** What is handed over in place of being copied. */
  buffersOf(result: unknown): ArrayBuffer[];
}

/** Serves the pool that has started this thread. */
export function serveThread<Spec, Opened>(work: ThreadWork<Spec, Opened>): void {
  const port = parentPort!;
  const reply = (message: Reply, transfer: Transferable[] = []): void =>
    port.postMessage(message, transfer);

  const opened = work.open(workerData as Spec);
  opened.then(
    () => reply({ type: 'ready' }),
    (error: unknown) => reply({ type: 'failed', error: toPlain(error) }),
  );

  port.on('message', ({ id, ...request }: Request) => {
    void opened
      .then((each) => work.answer(each, request))
      .then(
        (result) => reply({ type: 'done', id, result }, work.buffersOf(result)),
        (error: unknown) => reply({ type: 'error', id, error: toPlain(error) }),
      );
  });
}
