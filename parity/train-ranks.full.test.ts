import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../src/base/native-path.js';

/** Runs the compiled runner as a user does. */
function parity(...args: string[]): { code: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(packageRoot(), 'dist', 'parity', 'main.js'), 'train', ...args],
    { encoding: 'utf8', timeout: 590_000 },
  );
  return { code: status, text: stdout + stderr };
}

const FOLDER = join(packageRoot(), 'test', 'fixtures', 'llava', 'llama31-tied-small');

const stages = ['0', '1', '2', '3'];
// With four ranks some have no record of a micro-batch.
const cases = ['1', '3', '4'].flatMap((ranks) =>
  stages.flatMap((zero) => [[], ['--accumulate']].map((more) => [ranks, zero, more] as const)),
);
test.each(cases)(
  '%s ranks in stage %s follow the reference (%s)',
  (ranks, zero, more) => {
    const { code, text } = parity(FOLDER, '--ranks', ranks, '--zero', zero, ...more);
    expect(text).toContain('All 15 quantities are within tolerance.');
    expect(code).toBe(0);
  },
  600_000,
);
