import { configDefaults, defineConfig } from 'vitest/config';

/** Set by `npm run test:full`. */
const full = process.env['PATINA_FULL'] === '1';

export default defineConfig({
  test: {
    include: ['{src,parity,setup,test,bench}/**/*.test.ts'],
    // Slow ones.
    exclude: [...configDefaults.exclude, ...(full ? [] : ['**/*.full.test.ts'])],
    // Tensor code stays on the main thread of its process, and loading libtorch costs 0.4 s and
    // 150 MB: two processes run all files, without a fresh one for each.
    pool: 'forks',
    isolate: false,
    maxWorkers: 2,
    // One thread per process: reproducible sums, and no two processes fighting for two cores.
    env: { OMP_NUM_THREADS: '1', MKL_NUM_THREADS: '1' },
    testTimeout: 60_000,
    hookTimeout: 120_000,
    setupFiles: ['test/setup.ts'],
  },
});
