import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';

import { greedyFacts, LLAVA } from '../src/generate/testing.js';
import { compareGeneration } from './llava-generation.js';
import { Report } from './report.js';

const folders = ['llama3', 'llama31-tied-small'].map((name) => join(LLAVA, name));
const originals = process.env['PATINA_FIXTURES'];
if (originals !== undefined) {
  folders.push(...['llama3', 'llama31-tied'].map((name) => join(originals, 'llava', name)));
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe('parity llava, generation', () => {
  it.each(folders)('holds for %s, and is written down', async (folder) => {
    const out = await mkdtemp(join(tmpdir(), 'patina-generation-'));
    const report = new Report();
    await compareGeneration(report, folder, { device: 'cpu', out });
    expect(report.toString({ brief: true })).toMatch(/^All \d+ quantities are within tolerance.$/);
    const written = JSON.parse(await readFile(join(out, 'generation.json'), 'utf8')) as unknown;
    if (folder === folders[0]) {
      expect(written).toEqual(
        greedyFacts('llama3').map(({ input_ids, new_tokens }) => ({ input_ids, new_tokens })),
      );
    }
    await rm(out, { recursive: true });
  });

  it('compares nothing where there are no facts', async () => {
    const log = vi.spyOn(console, 'log').mockImplementation(() => undefined);
    const report = new Report();
    await compareGeneration(report, join(LLAVA, 'llama3', 'hf'), { device: 'cpu' });
    expect(report.toString()).toBe('Nothing was compared.');
    expect(log).toHaveBeenCalledOnce();
  });
});
