import { execFile } from 'node:child_process';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { describe, expect, it, vi } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import { describeHealth } from './doctor.js';
import {
  examine,
  type Fault,
  type Health,
  type LinkPlan,
  type SetupCheck,
  type TorchAnswer,
} from './health.js';

const GIB = 2 ** 30;
const execute = promisify(execFile);

const CHECK: SetupCheck = {
  record: {
    libtorch: { folder: '/opt/torch', version: '2.11.0+cu130', from: 'python', cuda: true },
    addon: { folder: '/project/.patina/addon/1' },
  },
  current: true,
  libtorch: 'standing',
  gpus: { driver: '580.65.06', devices: [{ name: 'NVIDIA H200', capability: '9.0' }] },
  driver: null,
  tools: [],
};

const FACTS: TorchAnswer = {
  version: '2.11.0+cu130',
  cpuCapability: 'AVX512',
  threads: 16,
  cuda: {
    driver: '13.0',
    runtime: '13.0',
    devices: [
      {
        index: 0,
        name: 'NVIDIA H200',
        capability: '9.0',
        totalBytes: 139 * GIB,
        freeBytes: 138 * GIB,
      },
    ],
  },
  processGroups: { gloo: null, nccl: null },
};

const LOAD_FAULT = { code: 'E_ADDON', message: 'cannot load', hint: 'Build it.', command: 'mend' };
const NO_CMAKE = { code: 'E_NO_CMAKE', message: 'no CMake', hint: 'Install it.', command: 'apt' };
const OLD_DRIVER = { code: 'E_DRIVER_OLD', message: 'too old', hint: 'Update.', command: 'apt' };

function health(
  check: Partial<SetupCheck> = {},
  facts: TorchAnswer | Omit<Fault, 'severity'> = FACTS,
): Promise<Health> {
  return examine({
    root: tmpdir(),
    askSetup: () => Promise.resolve({ ...CHECK, ...check }),
    askTorch: () => Promise.resolve(facts),
  });
}

describe('patina doctor', () => {
  it('tells everything of a machine where all is well', async () => {
    const found = await health();
    expect(found).toMatchObject({ ok: true, faults: [], addon: { loads: true } });
    expect(
      describeHealth({ ...found, disk: { folder: '/p', freeBytes: 5 * GIB } }).split('\n'),
    ).toEqual([
      `Node      ${process.version} (${process.platform}-${process.arch})`,
      'libtorch  2.11.0+cu130, AVX512, 16 threads, from the Python that was active at the set-up (/opt/torch)',
      'addon     /project/.patina/addon/1 (loads)',
      'GPU 0     NVIDIA H200, compute capability 9.0, 138 GiB free of 139 GiB',
      'driver    580.65.06, runs CUDA up to 13.0; libtorch is built for CUDA 13.0',
      'processes Gloo works; NCCL is there for several GPUs',
      expect.stringMatching(/^memory {4}\d.* free of /) as string,
      'disk      5.00 GiB free at /p',
      '',
      'No faults.',
      '',
    ]);
  });

  it('works where nothing is set up', async () => {
    const found = await health({ record: null, current: false, libtorch: null, tools: [NO_CMAKE] });
    expect(found).toMatchObject({ ok: false, libtorch: null, addon: null });
    expect(found.faults.map(({ code, severity }) => [code, severity])).toEqual([
      ['E_NOT_SET_UP', 'error'],
      ['E_NO_CMAKE', 'error'],
    ]);
    expect(describeHealth(found)).toContain(
      'error: Patina is not set up. [E_NOT_SET_UP]\n  Run the set-up.\n  > npm run setup\n',
    );
  });

  const faults: [string, Partial<SetupCheck>, Parameters<typeof health>[1], Partial<Fault>][] = [
    ['an addon that does not load', {}, LOAD_FAULT, { ...LOAD_FAULT, severity: 'error' }],
    [
      'an addon that does not load as the sources have changed',
      { current: false },
      LOAD_FAULT,
      { code: 'E_ADDON', severity: 'error', command: 'npm run setup' },
    ],
    [
      'a libtorch that is gone',
      { libtorch: 'gone' },
      LOAD_FAULT,
      { code: 'E_LIBTORCH_GONE', severity: 'error' },
    ],
    [
      'a libtorch that has changed',
      { libtorch: 'changed' },
      FACTS,
      { code: 'E_LIBTORCH_CHANGED', severity: 'error' },
    ],
    [
      'another libtorch in PATINA_LIBTORCH',
      { libtorch: 'renamed' },
      FACTS,
      { code: 'E_LIBTORCH_RENAMED', severity: 'warning' },
    ],
    ['an outdated set-up', { current: false }, FACTS, { code: 'E_OUTDATED', severity: 'warning' }],
    [
      'a driver that is too old',
      { driver: OLD_DRIVER },
      { ...FACTS, cuda: null },
      { ...OLD_DRIVER, severity: 'warning' },
    ],
    [
      'a GPU that libtorch cannot reach',
      {},
      { ...FACTS, cuda: null },
      { code: 'E_CUDA_UNREACHABLE', severity: 'warning' },
    ],
    [
      'a GPU and a libtorch without CUDA',
      {
        record: {
          ...CHECK.record!,
          libtorch: { ...CHECK.record!.libtorch, cuda: false, from: 'PATINA_LIBTORCH' },
        },
      },
      { ...FACTS, cuda: null },
      {
        code: 'E_LIBTORCH_WITHOUT_CUDA',
        severity: 'warning',
        command: 'unset PATINA_LIBTORCH; npm run setup -- --again',
      },
    ],
  ];
  it.each(faults)('names %s and what mends it', async (_name, check, facts, fault) => {
    const { ok, faults: found } = await health(check, facts);
    expect(found).toEqual([expect.objectContaining(fault)]);
    expect(ok).toBe(fault.severity === 'warning');
    expect(found[0]!.command).not.toBe('');
  });

  it('shows GPUs that libtorch does not reach as the system tells of them', async () => {
    const found = await health({}, { ...FACTS, cuda: null });
    expect(describeHealth(found)).toContain(
      'GPU 0     NVIDIA H200, compute capability 9.0, not reached by libtorch\n' +
        'driver    580.65.06; libtorch is not using CUDA\n',
    );
  });

  it('says why processes cannot work together', async () => {
    const processGroups = { gloo: 'no loopback', nccl: 'there is no GPU that libtorch can use' };
    expect(describeHealth(await health({}, { ...FACTS, processGroups }))).toContain(
      'processes Gloo does not work (no loopback); no several GPUs: there is no GPU that libtorch can use\n',
    );
    expect(describeHealth(await health({}, LOAD_FAULT))).toContain('processes not known\n');
  });

  describe('links', () => {
    const [gpu] = FACTS.cuda!.devices;
    const two = { ...FACTS, cuda: { ...FACTS.cuda!, devices: [gpu!, { ...gpu!, index: 1 }] } };
    const speeds = { allGather: 251e9, reduceScatter: 24.83e9, allReduce: 1.2e9 };
    const ask = (facts: TorchAnswer, links: boolean, fault?: Omit<Fault, 'severity'>) => {
      const askLinks = vi.fn((plan: LinkPlan) => Promise.resolve(fault ?? { ...plan, ...speeds }));
      const found = examine({
        ...{ root: tmpdir(), links, askLinks },
        askSetup: () => Promise.resolve(CHECK),
        askTorch: () => Promise.resolve(facts),
      });
      return found.then((result) => ({ ...result, asked: askLinks.mock.calls.flat() }));
    };

    it('are measured between several GPUs, or where somebody wants it', async () => {
      const noNccl = { ...two, processGroups: { gloo: null, nccl: 'no headers' } };
      expect((await ask(two, false)).asked).toEqual([{ backend: 'nccl', ranks: 2 }]);
      expect((await ask(FACTS, false)).asked).toEqual([]);
      expect((await ask(FACTS, true)).asked).toEqual([{ backend: 'gloo', ranks: 2 }]);
      expect((await ask(noNccl, false)).asked).toEqual([]);
    });

    it('are told in bytes per second of each collective', async () => {
      const found = await ask(two, false);
      expect(found.links).toEqual({ backend: 'nccl', ranks: 2, ...speeds });
      expect(describeHealth(found)).toContain(
        '\nlinks     2 GPUs over NCCL: all-gather 251 GB/s, reduce-scatter 24.8 GB/s, all-reduce 1.20 GB/s\n',
      );
    });

    it('are measured by real processes', async () => {
      const patina = join(packageRoot(), 'bin', 'patina.js');
      const { stdout } = await execute(process.execPath, [patina, 'doctor', '--links']);
      expect(stdout).toMatch(/^links {5}\d+ .* over (Gloo|NCCL): all-gather [\d.]+ .*GB\/s$/m);
    });

    it('that fail are a warning', async () => {
      const fault = { code: 'E_LINKS', message: 'fail', hint: 'Look.', command: 'nvidia-smi topo' };
      const found = await ask(two, false, fault);
      expect(found).toMatchObject({ ok: true, links: null });
      expect(found.faults).toEqual([{ severity: 'warning', ...fault }]);
      expect(describeHealth(found)).not.toContain('links');
    });
  });

  it('asks the real set-up', async () => {
    const found = await examine({ askTorch: () => Promise.resolve(FACTS) });
    expect(found.node.version).toBe(process.version);
    expect(found.disk.freeBytes).toBeGreaterThan(0);
    expect(found.memory.freeBytes).toBeLessThanOrEqual(found.memory.totalBytes);
  });
});
