import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { configDefaults, defineConfig } from 'vitest/config';

/** Set by `npm run test:full`. */
const full = process.env['PATINA_FULL'] === '1';

const folders = ['src', 'parity', 'setup', 'test', 'bench'];
/** Slow ones stay behind. */
const exclude = [...configDefaults.exclude, ...(full ? [] : ['**/*.full.test.ts'])];

/** Files that count the tensors or bytes of their process, in which others may have left some to the collector. */
const counting = folders
  .flatMap((folder) =>
    readdirSync(folder, { recursive: true, encoding: 'utf8' }).map((file) => join(folder, file)),
  )
  .filter((file) => file.endsWith('.test.ts'))
  .filter((file) => /\b(liveTensors|memoryStats)\(/.test(readFileSync(file, 'utf8')));

export default defineConfig({
  test: {
    // Tensor code stays on the main thread of its process, and loading libtorch costs 0.4 s and
    // 150 MB: two processes run all files without a fresh one for each, but for those that count.
    pool: 'forks',
    maxWorkers: 2,
    // One thread per process: reproducible sums, and no two processes fighting for two cores.
    env: { OMP_NUM_THREADS: '1', MKL_NUM_THREADS: '1' },
    testTimeout: 60_000,
    hookTimeout: 120_000,
    setupFiles: ['test/setup.ts'],
    projects: [
      {
        extends: true,
        test: {
          name: 'shared',
          isolate: false,
          include: folders.map((folder) => `${folder}/**/*.test.ts`),
          exclude: [...exclude, ...counting],
        },
      },
      { extends: true, test: { name: 'alone', isolate: true, include: counting, exclude } },
    ],
  },
});
