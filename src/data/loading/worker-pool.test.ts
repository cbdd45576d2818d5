import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { packageRoot } from '../../base/native-path.js';
import { loaderSpec, TestFolder } from '../testing.js';
import { WorkerPool } from './worker-pool.js';

let folder: TestFolder;
beforeAll(async () => {
  folder = await TestFolder.make();
});
afterAll(() => folder.remove());

const signal = new AbortController().signal;
const NAMES = { code: 'E_WORKER' };
let modules = 0;

/** A pool whose threads run `body` for each request, once they have said that they are ready. */
async function pool(body: string, threads = 1): Promise<WorkerPool> {
  const entry = await folder.write(
    `worker-${modules++}.mjs`,
    `import { parentPort as port } from 'node:worker_threads';
     const done = (id, result) => port.postMessage({ type: 'done', id, result });
     port.on('message', ({ id, numbers }) => { ${body} });
     port.postMessage({ type: 'ready' });`,
  );
  return WorkerPool.open(loaderSpec([]), { threads, entry });
}

describe('a pool of threads', () => {
  it('does all work, two pieces to a thread at a time', async () => {
    const busy = await pool(
      `globalThis.now = (globalThis.now ?? 0) + 1;
       const most = globalThis.now;
       setTimeout(() => { globalThis.now--; done(id, [numbers[0], most]); }, 1);`,
      2,
    );
    expect(busy.width).toBe(4);
    const results = await Promise.all(
      Array.from({ length: 20 }, (_, i) => busy.load(i, signal) as Promise<unknown>),
    );
    expect(results.map((result) => (result as number[])[0])).toEqual([...Array(20).keys()]);
    expect(Math.max(...results.map((result) => (result as number[])[1]!))).toBe(2);
    await busy.close();
  });

  it.each([
    ['ends', 'process.exit(3)', { ...NAMES, message: /it ended with code 3/ }],
    ['throws', 'throw new Error("boom")', { ...NAMES, message: /boom/ }],
    ['fails', 'port.postMessage({type: "error", id, error: {message: "odd"}})', NAMES],
  ])('turns a thread that %s into a typed error', async (_, body, error) => {
    const broken = await pool(body);
    const work = [0, 1, 2, 3].map((i) => broken.load(i, signal));
    for (const outcome of await Promise.allSettled(work)) {
      expect(outcome.status).toBe('rejected');
      const reason = (outcome as PromiseRejectedResult).reason as { code: string; message: string };
      expect(reason.code).toBe(error.code);
      if ('message' in error) expect(reason.message).toMatch(error.message);
    }
    await broken.close();
  });

  it('tells a thread that ran out of memory', async () => {
    const hungry = await pool(
      `throw Object.assign(new Error('heap'), { code: 'ERR_WORKER_OUT_OF_MEMORY' });`,
    );
    await expect(hungry.load(0, signal)).rejects.toMatchObject({
      code: 'E_WORKER_MEMORY',
      exitCode: 5,
    });
    await hungry.close();
  });

  it('drops work whose signal is raised before its turn', async () => {
    const slow = await pool('setTimeout(() => done(id, numbers[0]), 20);');
    const controller = new AbortController();
    const work = [0, 1, 2].map((i) => slow.load(i, controller.signal));
    controller.abort(new Error('enough'));
    const outcomes = await Promise.allSettled(work);
    expect(outcomes.map(({ status }) => status)).toEqual(['fulfilled', 'fulfilled', 'rejected']);
    await slow.close();
  });

  it('rejects what is left when it is closed', async () => {
    const idle = await pool('');
    const work = idle.load(0, signal);
    const rejected = expect(work).rejects.toMatchObject({ code: 'E_DATA_CLOSED' });
    await idle.close();
    await rejected;
    await expect(idle.load(1, signal)).rejects.toMatchObject({ code: 'E_DATA_CLOSED' });
  });

  it('passes on why a thread cannot begin', async () => {
    const spec = { ...loaderSpec([]), tokenizer: folder.path };
    const entry = join(packageRoot(), 'dist', 'src', 'data', 'loading', 'worker.js');
    await expect(WorkerPool.open(spec, { threads: 2, entry })).rejects.toMatchObject({
      name: 'DataError',
      code: 'E_TOKENIZER_MISSING',
    });
  });
});
