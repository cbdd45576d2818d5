import { chmodSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { findGpus, requireDriver } from './gpu.js';

let tools: string;
beforeEach(() => {
  tools = mkdtempSync(join(tmpdir(), 'patina-gpu-'));
});
afterEach(() => rmSync(tools, { recursive: true }));

function addNvidiaSmi(script: string): void {
  writeFileSync(join(tools, 'nvidia-smi'), `#!/bin/sh\n${script}\n`);
  chmodSync(join(tools, 'nvidia-smi'), 0o755);
}

const none = '/nowhere/version';

describe('findGpus', () => {
  it('reads the list of nvidia-smi', async () => {
    addNvidiaSmi('printf "580.65.06, NVIDIA H200, 9.0\\n580.65.06, NVIDIA H200, 9.0\\n"');
    const device = { name: 'NVIDIA H200', capability: '9.0' };
    const gpus = { driver: '580.65.06', devices: [device, device] };
    expect(await findGpus({ PATH: tools }, none)).toEqual(gpus);
  });

  it('asks an old nvidia-smi for less', async () => {
    addNvidiaSmi('case "$1" in *compute_cap*) exit 2;; esac; echo "418.87, Tesla V100"');
    const gpus = { driver: '418.87', devices: [{ name: 'Tesla V100', capability: '' }] };
    expect(await findGpus({ PATH: tools }, none)).toEqual(gpus);
  });

  it('asks the kernel module where there is no nvidia-smi', async () => {
    const file = join(tools, 'version');
    writeFileSync(file, 'NVRM version: NVIDIA UNIX x86_64 Kernel Module  560.35.03  Fri Aug 16\n');
    expect(await findGpus({ PATH: tools }, file)).toEqual({ driver: '560.35.03', devices: [] });
  });

  it('finds none where nvidia-smi is missing or has none', async () => {
    expect(await findGpus({ PATH: tools }, none)).toBeUndefined();
    addNvidiaSmi('echo "No devices were found"; exit 6');
    expect(await findGpus({ PATH: tools }, none)).toBeUndefined();
  });
});

describe('requireDriver', () => {
  const gpus = (driver: string, capability = '9.0'): Parameters<typeof requireDriver>[0] => ({
    driver,
    devices: [{ name: 'GPU', capability }],
  });

  it.each([
    ['580.65.06', '9.0', '2.11.0+cu130'],
    ['590.1', '', '2.11.0+cu130'],
    ['', '', '2.11.0+cu130'],
    ['525.60.13', '7.0', '2.11.0+cu126'],
    ['418.87', '7.0', '2.11.0'],
  ])('driver %s, capability %s runs %s', (driver, capability, build) => {
    expect(() => requireDriver(gpus(driver, capability), build)).not.toThrow();
  });

  it.each([
    ['575.57', '9.0', '2.11.0+cu130', 'E_DRIVER_OLD'],
    ['470.1', '9.0', '2.11.0+cu126', 'E_DRIVER_OLD'],
    ['580.65', '6.1', '2.11.0+cu130', 'E_GPU_OLD'],
  ])('driver %s, capability %s does not run %s', (driver, capability, build, code) => {
    expect(() => requireDriver(gpus(driver, capability), build)).toThrow(
      expect.objectContaining({ code }) as Error,
    );
  });
});
