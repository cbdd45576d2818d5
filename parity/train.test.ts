import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test, vi } from 'vitest';
import { packageRoot } from '../src/base/native-path.js';
import { run } from './train.js';

const out = mkdtempSync(join(tmpdir(), 'patina-parity-'));
beforeAll(() => {
  vi.spyOn(console, 'log').mockImplementation(() => undefined);
});
afterAll(() => {
  vi.restoreAllMocks();
  rmSync(out, { recursive: true });
});

test('50 updates of full, projector and decoder training follow the reference', async () => {
  const folder = join(packageRoot(), 'test', 'fixtures', 'llava', 'llama3');
  expect(await run([folder, '--out', out])).toBe(true);
  const written = JSON.parse(readFileSync(join(out, 'trajectories.json'), 'utf8')) as Record<
    string,
    { losses: number[]; learning_rates: number[] }
  >;
  expect(written['full']!.losses).toHaveLength(50);
  expect(written['full']!.losses[49]!).toBeLessThan(written['full']!.losses[0]! / 5);
  expect(written['projector']!.learning_rates[0]).toBe(0);
});

const originals = process.env['PATINA_FIXTURES'];
test.runIf(originals !== undefined).each(['llama3', 'llama31-tied'])(
  'all runs of %s, adapters too',
  async (name) => {
    expect(await run([join(originals!, 'llava', name)])).toBe(true);
  },
);
