import {
  cpSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
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
  await expect(async () => {
    expect(await run([folder, '--out', out])).toBe(true);
  }).toLeakNothing();
  const written = JSON.parse(readFileSync(join(out, 'trajectories.json'), 'utf8')) as Record<
    string,
    { losses: number[]; learning_rates: number[] }
  >;
  expect(written['full']!.losses).toHaveLength(50);
  expect(written['full']!.losses[49]!).toBeLessThan(written['full']!.losses[0]! / 5);
  expect(written['projector']!.learning_rates[0]).toBe(0);
});

test.each(['siglip-qwen2', 'siglip-qwen3'])(
  '20 updates of %s follow the reference: a SigLIP tower under a Qwen decoder',
  async (variant) => {
    const folder = join(packageRoot(), 'test', 'fixtures', 'llava', variant);
    await expect(async () => {
      expect(await run([folder])).toBe(true);
    }).toLeakNothing();
  },
);

test.each(['next-llama3', 'onevision-qwen2'])(
  '50 updates with pictures in tiles follow it, the newline with the projector: %s',
  async (variant) => {
    const folder = join(packageRoot(), 'test', 'fixtures', 'llava', variant);
    await expect(async () => {
      expect(await run([folder])).toBe(true);
    }).toLeakNothing();
  },
);

test('a policy that there is not is refused', async () => {
  const folder = join(packageRoot(), 'test', 'fixtures', 'llava', 'llama3');
  await expect(run([folder, '--policy', 'most'])).rejects.toMatchObject({
    code: 'E_USAGE',
    hint: 'Give one of keep, products, attention, recompute, offload.',
  });
});

test.each([
  ['--packed', '--accumulate'],
  ['--packed', '--ranks', '2'],
  ['--device', 'cuda', '--zero', '0'],
])('%s is refused with %s', async (...flags) => {
  const folder = join(packageRoot(), 'test', 'fixtures', 'llava', 'llama3');
  await expect(run([folder, ...flags])).rejects.toMatchObject({
    code: 'E_USAGE',
    message: `parity train cannot run with ${flags[0]} over ranks.`,
  });
});

test('a device that there is not is refused', async () => {
  await expect(run([out, '--device', 'tpu'])).rejects.toMatchObject({
    code: 'E_USAGE',
    hint: 'Give one of cpu, cuda.',
  });
});

test('what is packed is said once for each micro-batch, at any level', async () => {
  const fixture = join(packageRoot(), 'test', 'fixtures', 'llava', 'llama31-tied-small');
  const folder = join(out, 'packed');
  mkdirSync(folder);
  for (const name of ['hf', 'inputs.safetensors']) {
    cpSync(join(fixture, name), join(folder, name), { recursive: true });
  }
  const settings = { updates: 1, accumulate: 1 };
  writeFileSync(join(folder, 'facts.json'), JSON.stringify({ trajectories: { settings } }));
  vi.mocked(console.log).mockClear();
  const target = join(out, 'packed-written');
  expect(await run([folder, '--out', target, '--packed', '--policy', 'attention'])).toBe(true);
  const said = vi.mocked(console.log).mock.calls.map(([line]) => String(line));
  const rows = said.filter((line) => line.startsWith('micro-batch'));
  expect(rows.length).toBeGreaterThan(1);
  rows.forEach((line, i) => {
    const found = /^micro-batch (\d+): (\d+) records? in one row of (\d+) tokens \((.*)\)$/.exec(
      line,
    );
    const lengths = found![4]!.split(' + ').map(Number);
    expect(found!.slice(1, 4).map(Number)).toEqual([
      ...[i, lengths.length],
      lengths.reduce((a, b) => a + b),
    ]);
  });
});

interface Written {
  losses: number[];
  gradient_norms: number[];
  learning_rates: number[];
}

test('without answers it writes what was asked for, by the settings and learning rates of the facts', async () => {
  const fixture = join(packageRoot(), 'test', 'fixtures', 'llava', 'llama31-tied-small');
  const folder = join(out, 'bare');
  mkdirSync(folder);
  for (const name of ['hf', 'inputs.safetensors', 'adapter-lora-start']) {
    cpSync(join(fixture, name), join(folder, name), { recursive: true });
  }
  const settings = {
    updates: 2,
    warmup_updates: 1,
    accumulate: 1,
    clip: null,
    weight_decay: '0.5 on parameters with 2+ dimensions, 0 on others',
  };
  const trajectories = { settings, runs: { full: { lr: 0.25 }, lora: {} } };
  writeFileSync(join(folder, 'facts.json'), JSON.stringify({ trajectories }));
  const target = join(out, 'written');
  expect(await run([folder, '--out', target])).toBe(true);
  const written = JSON.parse(readFileSync(join(target, 'trajectories.json'), 'utf8')) as Record<
    string,
    Written
  >;
  expect(Object.keys(written)).toEqual(['full', 'projector', 'decoder', 'lora']);
  expect(written['full']!.learning_rates).toEqual([0, 0.25]);
  expect(written['lora']!.learning_rates).toEqual([0, 2e-3]);
  expect(readdirSync(target).sort()).toEqual([
    'adapter-lora-final',
    'final-full.safetensors',
    'final-projector.safetensors',
    'trajectories.json',
  ]);
  // Nothing was compared and nothing was asked for.
  expect(await run([folder])).toBe(false);
});

const originals = process.env['PATINA_FIXTURES'];
test.runIf(originals !== undefined).each(['llama3', 'llama31-tied'])(
  'all runs of %s, adapters too',
  async (name) => {
    expect(await run([join(originals!, 'llava', name)])).toBe(true);
  },
);
