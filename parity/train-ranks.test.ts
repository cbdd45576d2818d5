import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { packageRoot } from '../src/base/native-path.js';

/** Runs the compiled runner as a user does. */
function parity(...args: string[]): { code: number | null; text: string } {
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(packageRoot(), 'dist', 'parity', 'main.js'), 'train', ...args],
    { encoding: 'utf8', timeout: 240_000 },
  );
  return { code: status, text: stdout + stderr };
}

const FOLDER = join(packageRoot(), 'test', 'fixtures', 'llava', 'llama31-tied-small');

// Full training, projector, decoder, LoRA and DoRA over tied embeddings; some micro-batches have records without pictures.
test.each(['0', '1', '2', '3'])(
  '2 ranks in stage %s follow the reference',
  (zero) => {
    const { code, text } = parity(FOLDER, '--ranks', '2', '--zero', zero);
    expect(text).toContain('All 15 quantities are within tolerance.');
    expect(code).toBe(0);
  },
  250_000,
);

test('a number of ranks or a stage that there is not is refused', () => {
  for (const args of [
    ['--ranks', '0'],
    ['--ranks', 'two'],
    ['--zero', '4'],
  ]) {
    const { code, text } = parity(FOLDER, ...args);
    expect(code).toBe(2);
    expect(text).toMatch(/parity train cannot run with --ranks/);
  }
});
