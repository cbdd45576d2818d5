/** A thread of the pool: opens a loader from what it is given, then loads what it is asked for. */
import { parentPort, workerData, type Transferable } from 'node:worker_threads';

import { RecordLoader, type LoaderSpec, type LoadOutcome } from './record-loader.js';
import { toPlain } from '../../base/plain-error.js';
import type { Reply, Request } from './worker-pool.js';

const port = parentPort!;
const reply = (message: Reply, transfer: Transferable[] = []): void =>
  port.postMessage(message, transfer);

const opened = RecordLoader.open(workerData as LoaderSpec);
opened.then(
  () => reply({ type: 'ready' }),
  (error: unknown) => reply({ type: 'failed', error: toPlain(error) }),
);

port.on('message', ({ id, method, numbers }: Request) => {
  void answer(method, numbers).then(
    (result) => reply({ type: 'done', id, result }, buffersOf(result)),
    (error: unknown) => reply({ type: 'error', id, error: toPlain(error) }),
  );
});

async function answer(
  method: Request['method'],
  numbers: readonly number[],
): Promise<LoadOutcome | Int32Array> {
  const loader = await opened;
  return method === 'load' ? loader.load(numbers[0]!) : loader.measure(numbers[0]!, numbers[1]!);
}

/** What is handed over in place of being copied. */
function buffersOf(result: LoadOutcome | Int32Array): ArrayBuffer[] {
  if (result instanceof Int32Array) return [result.buffer as ArrayBuffer];
  if (result.status === 'rejected') return [];
  const { inputIds, labels, images } = result.sample;
  return [inputIds, labels, ...images].map(({ buffer }) => buffer as ArrayBuffer);
}
