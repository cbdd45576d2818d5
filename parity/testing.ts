/** For tests of the runners that start processes: they run compiled, as a user runs them. */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { packageRoot } from '../src/base/native-path.js';

/** `parity train` on the smaller stored folder: full training, projector, decoder, LoRA and DoRA over tied embeddings. */
export function trainParity(...args: string[]): { code: number | null; text: string } {
  const root = packageRoot();
  const folder = join(root, 'test', 'fixtures', 'llava', 'llama31-tied-small');
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(root, 'dist', 'parity', 'main.js'), 'train', folder, ...args],
    { encoding: 'utf8', timeout: 590_000 },
  );
  return { code: status, text: stdout + stderr };
}
