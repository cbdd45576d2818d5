import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { asSetupError, SetupError } from './errors.js';
import { FakeProject, fakeDownloads } from './fake-project.js';
import { requireGlibc } from './fetch.js';
import { setUp } from './main.js';

let project: FakeProject;
beforeEach(() => {
  project = new FakeProject();
});
afterEach(() => project.remove());

interface Fault {
  /** Environment of the set-up. */
  env?: Record<string, string>;
  /** What else is wrong; further environment may be returned. */
  prepare?: (() => Record<string, string>) | undefined;
  downloads?: ReturnType<typeof fakeDownloads>;
  code: string;
  /** Part of the message. */
  message: RegExp;
  /** Part of the hint. */
  hint: RegExp;
}

function remove(...tools: Parameters<FakeProject['removeTool']>[0][]) {
  return (): Record<string, string> => {
    for (const tool of tools) project.removeTool(tool);
    return {};
  };
}

function gpus(rows: string) {
  return (): Record<string, string> => {
    project.addGpus(rows);
    return {};
  };
}

function named(options: Parameters<FakeProject['addLibtorch']>[1], spoil = ''): Fault['prepare'] {
  return () => {
    const folder = project.addLibtorch('torch', options);
    if (spoil !== '') project.write(join('torch', spoil), '');
    return { PATINA_LIBTORCH: folder };
  };
}

const FAULTS: Record<string, Fault> = {
  'no npm': {
    prepare: remove('npm'),
    code: 'E_NO_NPM',
    message: /no npm/,
    hint: /Install Node/,
  },
  'npm without network': {
    env: { FAKE_NPM: 'npm error code ENOTFOUND' },
    code: 'E_NETWORK',
    message: /no connection/,
    hint: /proxy settings of npm/,
  },
  'npm with a full disk': {
    env: { FAKE_NPM: 'npm error code ENOSPC' },
    code: 'E_DISK_FULL',
    message: /disk is full/,
    hint: /Free some space/,
  },
  'npm with a full disk, which it takes lightly': {
    env: { FAKE_NPM_WARNING: 'npm warn tar TAR_ENTRY_ERROR ENOSPC: no space left on device' },
    code: 'E_DISK_FULL',
    message: /disk is full/,
    hint: /Free some space/,
  },
  'npm that fails otherwise': {
    env: { FAKE_NPM: 'npm error code EUSAGE' },
    code: 'E_NPM',
    message: /EUSAGE/,
    hint: /npm ci/,
  },
  'no Python': {
    prepare: remove('python3'),
    code: 'E_NO_PYTHON',
    message: /no Python 3/,
    hint: /python3-pip|brew install python/,
  },
  'no pip': {
    env: { FAKE_PIP: 'none' },
    code: 'E_NO_PIP',
    message: /has no pip/,
    hint: /ensurepip/,
  },
  'pip without network': {
    env: { FAKE_PIP: 'fail: NewConnectionError: Failed to establish a new connection' },
    code: 'E_NETWORK',
    message: /no connection/,
    hint: /proxy settings of pip/,
  },
  'pip that finds no such wheel': {
    env: { FAKE_PIP: 'fail: ERROR: No matching distribution found for torch==1.0' },
    code: 'E_PIP',
    message: /No matching distribution/,
    hint: /pip config list/,
  },
  'pip that leaves nothing': {
    env: { FAKE_PIP: 'nothing' },
    code: 'E_PIP',
    message: /left no file/,
    hint: /Update pip/,
  },
  'a wheel with another hash, seen by pip': {
    env: { FAKE_PIP: 'fail: ERROR: THESE PACKAGES DO NOT MATCH THE HASHES' },
    code: 'E_HASH',
    message: /torch 1\.0 .*SHA-256/,
    hint: /pip config list/,
  },
  'a wheel with another hash, seen here': {
    env: { FAKE_PIP: 'wrong' },
    code: 'E_HASH',
    message: /torch 1\.0 .*SHA-256/,
    hint: /pip config list/,
  },
  'too little free space': {
    downloads: fakeDownloads({ unpacked: 1e18 }),
    code: 'E_DISK_FULL',
    message: /needs 1000000000\.0 GB, .* are free/,
    hint: /Free at least/,
  },
  'a disk that fills during the download': {
    env: { FAKE_PIP: 'fail: OSError: [Errno 28] No space left on device' },
    code: 'E_DISK_FULL',
    message: /disk is full/,
    hint: /Free some space/,
  },
  'a disk that fills while unpacking': {
    env: { FAKE_UNPACK: 'OSError: [Errno 28] No space left on device' },
    code: 'E_DISK_FULL',
    message: /disk is full/,
    hint: /Free some space/,
  },
  'a platform without wheels': {
    downloads: {},
    code: 'E_PLATFORM',
    message: /no libtorch to download/,
    hint: /PATINA_LIBTORCH/,
  },
  'PATINA_LIBTORCH names nothing': {
    env: { PATINA_LIBTORCH: '/nowhere/torch' },
    code: 'E_LIBTORCH_MISSING',
    message: /no folder \/nowhere\/torch/,
    hint: /PATINA_LIBTORCH/,
  },
  'PATINA_LIBTORCH names no libtorch': {
    prepare: () => ({ PATINA_LIBTORCH: project.path('native') }),
    code: 'E_LIBTORCH_UNSUITABLE',
    message: /has no include\/ATen/,
    hint: /PATINA_LIBTORCH/,
  },
  'PATINA_LIBTORCH is too old': {
    prepare: named({ version: '2.8.1' }),
    code: 'E_LIBTORCH_OLD',
    message: /2\.8\.1.* 2\.9 to 2\.15/,
    hint: /2\.9 to 2\.15/,
  },
  'PATINA_LIBTORCH is of another age': {
    prepare: named({ version: '1.13.0' }),
    code: 'E_LIBTORCH_OLD',
    message: /1\.13\.0/,
    hint: /2\.9 to 2\.15/,
  },
  'PATINA_LIBTORCH is too new': {
    prepare: named({ version: '2.16.0' }),
    code: 'E_LIBTORCH_NEW',
    message: /2\.16\.0/,
    hint: /2\.9 to 2\.15/,
  },
  'PATINA_LIBTORCH tells no version': {
    prepare: named({}, 'version.py'),
    code: 'E_LIBTORCH_OLD',
    message: /no known version/,
    hint: /2\.9 to 2\.15/,
  },
  'a driver that is too old, with a torch that suits': {
    prepare: gpus('535.183.01, NVIDIA A100-SXM4-80GB, 8.0'),
    code: 'E_DRIVER_OLD',
    message: /535\.183\.01.*580/,
    hint: /2\.11\.0\+cu126.*--cpu/,
  },
  'a driver that is too old for everything': {
    prepare: gpus('470.42.01, Tesla T4, 7.5'),
    code: 'E_DRIVER_OLD',
    message: /470\.42\.01/,
    hint: /^(?!.*cu126).*nvidia-driver-580/,
  },
  'a GPU that is too old': {
    prepare: gpus('580.65.06, Tesla V100, 7.0'),
    code: 'E_GPU_OLD',
    message: /V100 .*7\.0.*7\.5/,
    hint: /cu126/,
  },
  'no compiler': {
    prepare: remove('c++'),
    code: 'E_NO_COMPILER',
    message: /no C\+\+ compiler/,
    hint: /g\+\+|xcode-select/,
  },
  'a compiler in CXX that is not there': {
    env: { CXX: 'g++-99 -O3' },
    code: 'E_NO_COMPILER',
    message: /g\+\+-99/,
    hint: /CXX/,
  },
  'a compiler without C++20': {
    env: { FAKE_CXX: 'old' },
    code: 'E_COMPILER_OLD',
    message: /8\.3\.0.*cannot compile C\+\+20/s,
    hint: /g\+\+ 11/,
  },
  'no CMake': {
    prepare: remove('cmake'),
    code: 'E_NO_CMAKE',
    message: /no CMake/,
    hint: /Install CMake 3\.18/,
  },
  'an old CMake': {
    env: { FAKE_CMAKE: '3.16.3' },
    code: 'E_CMAKE_OLD',
    message: /3\.16\.3.*3\.18/,
    hint: /pip install cmake/,
  },
  'an addon that does not compile': {
    env: { FAKE_BUILD: 'fail: addon.cc:1:1: error: expected' },
    code: 'E_ADDON_BUILD',
    message: /addon\.cc:1:1: error/,
    hint: /addon-build\.log/,
  },
  'a compiler that is ended for want of memory': {
    env: { FAKE_BUILD: 'fail: c++: fatal error: Killed signal terminated program cc1plus' },
    code: 'E_ADDON_BUILD',
    message: /memory/,
    hint: /Free about 2 GB/,
  },
  'a disk that fills while compiling': {
    env: { FAKE_BUILD: 'fail: error: No space left on device' },
    code: 'E_DISK_FULL',
    message: /disk is full/,
    hint: /Free some space/,
  },
  'an addon that does not load': {
    env: { FAKE_BUILD: 'broken' },
    code: 'E_ADDON_LOAD',
    message: /does not load: Error: .+/,
    hint: /--again/,
  },
};

describe('faults of the set-up', () => {
  it.each(Object.entries(FAULTS))('%s', async (_name, fault) => {
    const { env, prepare, downloads = fakeDownloads(), code, message, hint } = fault;
    const all = project.env({ ...env, ...prepare?.() });
    const { root, report } = project;
    await expect(setUp({ root, report, env: all, downloads })).rejects.toSatisfy((error) => {
      expect(error).toBeInstanceOf(SetupError);
      expect(error).toMatchObject({
        code,
        message: expect.stringMatching(message) as string,
        hint: expect.stringMatching(hint) as string,
        exitCode: 3,
      });
      return true;
    });
    // Nothing is half there: no record, no temporary folder, no lock.
    expect(project.has('.patina/setup.json')).toBe(false);
    expect(leftovers()).toEqual([]);
    // And the same command succeeds when the fault is mended.
    if (env !== undefined && prepare === undefined) {
      await setUp({ root, report, env: project.env(), downloads });
      expect(project.has('.patina/setup.json')).toBe(true);
    }
  });

  it('TypeScript that does not compile leaves libtorch and the addon in use', async () => {
    project.write('src/cli/main.ts', 'wrong');
    const options = { root: project.root, report: project.report, env: project.env() };
    await expect(setUp({ ...options, downloads: fakeDownloads() })).rejects.toMatchObject({
      code: 'E_TYPESCRIPT',
      message: expect.stringContaining('src/cli/main.ts(1,1): error TS1005') as string,
    });
    expect(JSON.parse(project.read('.patina/setup.json'))).toMatchObject({ javascript: '' });
    project.write('src/cli/main.ts', 'export {};');
    await setUp({ ...options, env: project.env({ FAKE_BUILD: 'broken' }) });
    expect(project.has('dist/src/cli/main.js')).toBe(true);
  });

  it('the old C++ ABI', async () => {
    if (process.platform !== 'linux') return;
    const env = project.env({
      PATINA_LIBTORCH: project.addLibtorch('torch', { symbols: 'NSs' }),
    });
    await expect(setUp({ root: project.root, report: project.report, env })).rejects.toMatchObject({
      code: 'E_LIBTORCH_UNSUITABLE',
      message: expect.stringContaining('ABI') as string,
    });
  });

  it.each(['', '2.17'])('a C library that the wheels do not run on: "%s"', (version) => {
    if (process.platform !== 'linux') return;
    expect(() => requireGlibc('2.28')).not.toThrow();
    expect(() => requireGlibc('2.41')).not.toThrow();
    expect(() => requireGlibc(version)).toThrow(
      expect.objectContaining({ code: 'E_PLATFORM' }) as Error,
    );
  });

  it.each(['ENOSPC', 'EDQUOT'])('%s while writing is a full disk', (code) => {
    const error = asSetupError(Object.assign(new Error(`${code}: write`), { code }));
    expect(error).toMatchObject({ code: 'E_DISK_FULL', exitCode: 3, hint: /Free some space/ });
  });

  it.each(['EACCES', 'EROFS'])('%s while writing is a folder without rights', (code) => {
    const error = asSetupError(Object.assign(new Error(`${code}: open`), { code }));
    expect(error).toMatchObject({ code: 'E_UNWRITABLE', exitCode: 3 });
  });

  it('leaves other errors alone', () => {
    const error = new TypeError('a bug');
    expect(asSetupError(error)).toBe(error);
  });
});

function leftovers(): string[] {
  const entries = project.has('.patina')
    ? readdirSync(project.path('.patina'), { recursive: true, encoding: 'utf8' })
    : [];
  return entries.filter((name) => /\.new-|setup\.lock/.test(name));
}
