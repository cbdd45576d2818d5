import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { expect, test } from 'vitest';
import { packageRoot } from '../base/native-path.js';
import { torchFacts } from '../torch/index.js';
import type { LinkSpeeds } from './links.js';

const run = (backend: string, ranks: number) =>
  promisify(execFile)(process.execPath, [
    join(packageRoot(), 'dist/src/parallel/links-main.js'),
    ...[backend, `${ranks}`],
  ]);

test.each([2, 3])('%i processes measure what is between them over Gloo', async (ranks) => {
  const { stdout, stderr } = await run('gloo', ranks);
  expect(stderr).toBe('');
  const { allGather, reduceScatter, allReduce, ...plan } = JSON.parse(stdout) as LinkSpeeds;
  expect(plan).toEqual({ backend: 'gloo', ranks });
  for (const speed of [allGather, reduceScatter, allReduce]) expect(speed).toBeGreaterThan(1e6);
});

/** Without several GPUs. */
test.skipIf((torchFacts().cuda?.devices.length ?? 0) > 1)(
  'processes that cannot work together end with the reason, and print nothing',
  async () => {
    await expect(run('nccl', 2)).rejects.toMatchObject({
      code: 3,
      stdout: '',
      stderr: expect.stringMatching(/GPU/) as string,
    });
  },
);
