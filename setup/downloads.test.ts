import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';

import { DOWNLOADS, TORCH } from './downloads.js';
import { list } from './files.js';

describe('the table of downloads', () => {
  const rows = Object.entries(DOWNLOADS).flatMap(([platform, kinds]) =>
    Object.entries(kinds).map(([kind, download]) => [`${platform} ${kind}`, download] as const),
  );

  it.each(rows)('%s is complete', (_name, { wheels, unpacked, tags }) => {
    expect(wheels[0]).toMatchObject({ name: 'torch', version: TORCH });
    for (const { name, version, bytes, sha256 } of wheels) {
      expect(name).toMatch(/^[a-z0-9-]+$/);
      expect(version).toMatch(/^\d+(\.\d+)+$/);
      expect(bytes).toBeGreaterThan(1e5);
      expect(sha256).toMatch(/^[0-9a-f]{64}$/);
    }
    expect(new Set(wheels.map(({ sha256 }) => sha256)).size).toBe(wheels.length);
    expect(unpacked).toBeGreaterThan(1e8);
    expect(tags.length).toBeGreaterThan(0);
  });
});

// The set-up itself needs Python only where it downloads; so do its tests.
describe.skipIf(!hasPython())('unpack.py', () => {
  const FILES = [
    'torch/lib/libtorch_cpu.so',
    'torch/lib/libc10.so',
    'torch/lib/libgomp.so.1',
    'torch/lib/libtorch_cuda.so',
    'torch/lib/libtorch_python.so',
    'torch/bin/ptxas',
    'torch/nn/functional.py',
    'torch/version.py',
    'torch/include/ATen/ATen.h',
    'nvidia/cu13/lib/libcudart.so.13',
    'nvidia/cu13/lib/libcublas.so.13',
    'nvidia/cu13/lib/libcudart_static.a',
    'nvidia/cu13/include/cuda.h',
    'torch-2.11.0.dist-info/licenses/LICENSE',
    'torch-2.11.0.dist-info/RECORD',
  ];
  const LEAN = [
    'nvidia/cu13/lib/libcudart.so.13',
    'torch-2.11.0.dist-info/licenses/LICENSE',
    'torch/include/ATen/ATen.h',
    'torch/lib/libc10.so',
    'torch/lib/libgomp.so.1',
    'torch/lib/libtorch_cpu.so',
    'torch/version.py',
  ];
  const CUDA = ['nvidia/cu13/include/cuda.h', 'nvidia/cu13/lib/libcublas.so.13'];

  it.each([
    ['lean', LEAN],
    ['cuda', [...LEAN, ...CUDA, 'torch/lib/libtorch_cuda.so'].sort()],
  ])('keeps for the %s copy what libtorch needs', (kind, expected) => {
    const folder = mkdtempSync(join(tmpdir(), 'patina-unpack-'));
    try {
      const wheel = join(folder, 'torch.whl');
      const make =
        'import sys, zipfile\nwith zipfile.ZipFile(sys.argv[1], "w") as z:\n  for f in sys.argv[2:]: z.writestr(f, f)';
      execFileSync('python3', ['-c', make, wheel, ...FILES]);
      const unpack = join(import.meta.dirname, 'unpack.py');
      execFileSync('python3', [unpack, kind, join(folder, 'out'), wheel]);
      expect(list(join(folder, 'out'))).toEqual(expected);

      writeFileSync(wheel, 'no wheel');
      expect(() =>
        execFileSync('python3', [unpack, kind, folder, wheel], { stdio: 'pipe' }),
      ).toThrow('BadZipFile: File is not a zip file');
    } finally {
      rmSync(folder, { recursive: true });
    }
  });
});

function hasPython(): boolean {
  try {
    execFileSync('python3', ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
