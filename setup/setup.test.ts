import { execFile } from 'node:child_process';
import { cpSync, mkdtempSync, readdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, sep } from 'node:path';
import { promisify } from 'node:util';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';

import { check } from './check.js';
import { FakeProject, fakeDownloads, library } from './fake-project.js';
import { isCurrent, setUp } from './main.js';
import type { SetupRecord } from './record.js';

let project: FakeProject;
beforeEach(() => {
  project = new FakeProject();
});
afterEach(() => project.remove());

type Options = Partial<Omit<Parameters<typeof setUp>[0], 'env'>>;

/** Runs the set-up and returns what it said. */
async function run(env: Record<string, string> = {}, options: Options = {}): Promise<string> {
  const { root, report } = project;
  report.text = '';
  await setUp({ root, report, downloads: fakeDownloads(), env: project.env(env), ...options });
  return report.text;
}

function record(): SetupRecord {
  return JSON.parse(project.read('.patina/setup.json')) as SetupRecord;
}

describe('the set-up', () => {
  it('does everything once, records it, and then has nothing to do', async () => {
    const said = await run();
    expect(said).toMatch(
      /npm packages(.|\n)*downloading torch(.|\n)*addon(.|\n)*TypeScript(.|\n)*ready/,
    );
    const { version, libtorch, addon, node } = record();
    expect({ version, node }).toEqual({ version: 2, node: process.version });
    expect(libtorch).toMatchObject({ from: 'private', version: '2.11.0+cu130', cuda: false });
    expect(libtorch.folder).toBe('.patina/libtorch/2.11.0-lean/torch');
    expect(readdirSync(project.path(addon.folder)).sort()).toEqual(['patina.node', 'pixels.node']);
    expect(project.has('.patina/downloads')).toBe(false);
    expect(isCurrent(project.root, project.env())).toBe(true);

    // It does not even ask a tool: there are none any more.
    rmSync(project.tools, { recursive: true });
    expect(await run()).toBe('setup: nothing to do\n');
  });

  it('makes anew what somebody deleted or changed, and only that', async () => {
    await run();
    const steps = async (env?: Record<string, string>): Promise<string[]> =>
      [...(await run(env)).matchAll(/^setup: (\w+ing) /gm)].map(([, verb]) => verb!);

    rmSync(project.path('dist'), { recursive: true });
    expect(await steps()).toEqual(['compiling']);
    project.write('src/cli/main.ts', 'export const changed = true;');
    expect(await steps()).toEqual(['compiling']);
    rmSync(project.path('node_modules/typescript'), { recursive: true });
    expect(await steps()).toEqual(['installing']);
    rmSync(project.path('.patina/addon'), { recursive: true });
    expect(await steps()).toEqual(['building']);
    project.write('native/addon.cc', 'int answer() { return 43; }\n');
    expect(await steps()).toEqual(['building']);
    // The former build is still there.
    project.write('native/addon.cc', 'int answer() { return 42; }\n');
    expect(await steps({ FAKE_BUILD: 'broken' })).toEqual([]);
    rmSync(project.path('.patina/libtorch/2.11.0-lean/torch/lib'), { recursive: true });
    // The same libtorch again: the addon fits it.
    expect(await steps()).toEqual(['downloading', 'downloading', 'unpacking']);
    for (const broken of ['not JSON', '{ "version": 2 }', '[]']) {
      project.write('.patina/setup.json', broken);
      expect(await steps()).toEqual(['compiling']);
    }
  });

  it('keeps what is built when the compiler goes away', async () => {
    await run();
    project.removeTool('c++');
    project.removeTool('cmake');
    expect(await run()).toBe('setup: nothing to do\n');
  });

  it('builds everything anew with --again, without a new download', async () => {
    await run();
    const said = await run({}, { again: true });
    expect(said).toMatch(/npm packages(.|\n)*addon(.|\n)*TypeScript/);
    expect(said).not.toMatch(/downloading/);
  });
});

describe('a project that is set up', () => {
  let elsewhere: string;
  beforeEach(() => {
    elsewhere = join(mkdtempSync(join(tmpdir(), 'patina-elsewhere-')), 'project');
  });
  afterEach(() => rmSync(join(elsewhere, '..'), { recursive: true }));

  const WAYS = {
    moved: () => renameSync(project.root, elsewhere),
    copied: () => {
      cpSync(project.root, elsewhere, { recursive: true });
      rmSync(project.root, { recursive: true });
    },
  };
  const LIBTORCHES = {
    'the private copy': () => ({}),
    'a libtorch within the project': () => ({ PATINA_LIBTORCH: project.addLibtorch('torch') }),
  };
  const cases = Object.entries(WAYS).flatMap(([way, go]) =>
    Object.entries(LIBTORCHES).map(([name, add]) => [way, name, go, add] as const),
  );
  it.each(cases)('%s with %s, is set up there', async (_way, _name, go, add) => {
    await run(add());
    const { hash } = record().addon;
    go();
    expect(isCurrent(elsewhere, project.env())).toBe(true);
    const found = await check(elsewhere, project.env());
    expect(found).toMatchObject({
      current: true,
      libtorch: 'standing',
      record: { addon: { hash } },
    });
    expect(found.record!.libtorch.folder.startsWith(join(elsewhere, sep))).toBe(true);
    expect(readFileSync(join(elsewhere, '.patina/setup.json'), 'utf8')).not.toContain(project.root);
  });

  it('copied with a libtorch outside of it, goes on using that one', async () => {
    const outside = new FakeProject();
    try {
      const torch = outside.addLibtorch('torch');
      await run({ PATINA_LIBTORCH: torch });
      WAYS.copied();
      expect(await check(elsewhere, project.env())).toMatchObject({
        current: true,
        record: { libtorch: { folder: torch } },
      });
    } finally {
      outside.remove();
    }
  });

  it('has an addon that looks for libtorch within the project from its own folder', async () => {
    await run({ FAKE_CMAKE_LOG: project.path('log') });
    expect(project.read('log')).toMatch(
      /^-DPATINA_RPATH=(\$ORIGIN|@loader_path)\/\.\.\/\.\.\/libtorch\/2\.11\.0-lean\/torch\/lib$/m,
    );
  });
});

describe('the choice of libtorch', () => {
  it('takes PATINA_LIBTORCH first, then the active Python, then a private copy', async () => {
    const named = project.addLibtorch('named', { version: '2.12.0' });
    const ofPython = project.addLibtorch('venv/torch', { version: '2.10.0+cu126', cuda: true });
    await run({ PATINA_LIBTORCH: named, FAKE_TORCH: ofPython });
    expect(record().libtorch).toMatchObject({
      from: 'PATINA_LIBTORCH',
      folder: 'named',
      cuda: false,
    });
    await run({ FAKE_TORCH: ofPython }, { again: true });
    expect(record().libtorch).toMatchObject({ from: 'python', folder: 'venv/torch', cuda: true });
    await run({}, { again: true });
    expect(record().libtorch).toMatchObject({ from: 'private', version: '2.11.0+cu130' });
  });

  it('stays, whatever Python is active then, until it is gone, changed or another is named', async () => {
    await run();
    const ofPython = project.addLibtorch('venv/torch');
    expect(await run({ FAKE_TORCH: ofPython })).toBe('setup: nothing to do\n');
    const named = project.addLibtorch('named');
    await run({ PATINA_LIBTORCH: named });
    expect(record().libtorch.folder).toBe('named');
    expect(await run({ FAKE_TORCH: ofPython })).toBe('setup: nothing to do\n');
    // Another build of the same size.
    project.write(join('named/lib', library('torch_cpu')), 'lybrary');
    await run({ FAKE_TORCH: ofPython });
    expect(record().libtorch.folder).toBe('venv/torch');
    rmSync(ofPython, { recursive: true });
    await run();
    expect(record().libtorch.from).toBe('private');
  });

  it('names an unsuitable torch of the active Python and passes it over', async () => {
    const old = project.addLibtorch('venv/torch', { version: '2.1.0' });
    expect(await run({ FAKE_TORCH: old })).toMatch(
      /passing over the active Python's torch: .*2\.1\.0/,
    );
    expect(record().libtorch.from).toBe('private');
  });

  it('downloads the CUDA set where there is a GPU, unless declined', async () => {
    project.addGpus('580.65.06, NVIDIA H200, 9.0');
    const withoutCuda = project.addLibtorch('venv/torch', { version: '2.11.0+cpu' });
    const said = await run({ FAKE_TORCH: withoutCuda });
    expect(said).toMatch(/passing over .*cannot use the GPU/);
    expect(said).toMatch(
      /complete \(2\.11\.0\+cu130; decline it with --cpu\): .* to download, .* on disk/,
    );
    expect(record().libtorch).toMatchObject({ from: 'private', cuda: true });
    expect(record().libtorch.folder).toContain('2.11.0-cuda');
    await run({}, { again: true, cpu: true });
    expect(record().libtorch).toMatchObject({ from: 'private', cuda: false });
  });

  it('warns where PATINA_LIBTORCH cannot use the GPU', async () => {
    project.addGpus('580.65.06, NVIDIA H200, 9.0');
    const said = await run({ PATINA_LIBTORCH: project.addLibtorch('named') });
    expect(said).toMatch(/^warning: There is a GPU, but/m);
  });
});

const execute = promisify(execFile);

describe('setup.js as a program', () => {
  beforeEach(() => {
    project.addSetup();
    const downloads = JSON.stringify(fakeDownloads());
    project.write(
      'setup/downloads.js',
      `export const TORCH = '2.11.0'; export const CUDA_BUILD = '2.11.0+cu130'; export const DOWNLOADS = ${downloads};
       export const OLDER_CUDA_BUILD = '2.11.0+cu126';`,
    );
  });

  async function program(
    args: string[] = [],
    env: Record<string, string> = {},
  ): Promise<{ status: number | string; stdout: string; stderr: string }> {
    const all = project.env({ FAKE_LOG: project.path('log'), ...env });
    try {
      const file = project.path('setup/setup.js');
      const { stdout, stderr } = await execute(process.execPath, [file, ...args], { env: all });
      return { status: 0, stdout, stderr };
    } catch (error) {
      const { code, signal, stdout, stderr } = error as {
        code: number | null;
        signal: string | null;
        stdout: string;
        stderr: string;
      };
      return { status: code ?? signal ?? '', stdout, stderr };
    }
  }

  it('goes on after an interrupted download, without the wheels that are there', async () => {
    expect(await program([], { FAKE_PIP: 'break' })).toMatchObject({ status: 'SIGKILL' });
    expect(project.has('.patina/setup.lock')).toBe(true);
    expect(project.has('.patina/libtorch')).toBe(false);
    expect(await program(['--quiet'])).toMatchObject({ status: 0, stdout: '', stderr: '' });
    expect(project.read('log')).toBe('torch\nnvidia-cuda-runtime\nnvidia-cuda-runtime\n');
    expect(readdirSync(project.path('.patina')).sort()).toEqual([
      'addon',
      'libtorch',
      'setup.json',
    ]);
  });

  it('lets two at once wait for each other', async () => {
    const both = await Promise.all([0, 1].map(() => program([], { FAKE_PIP: 'slow' })));
    expect(both.map(({ status }) => status)).toEqual([0, 0]);
    expect(both.map(({ stderr }) => stderr).join('')).toMatch(
      /waiting for another set-up \(process \d+\)/,
    );
    expect(project.read('log')).toBe('torch\nnvidia-cuda-runtime\n');
  });

  it('prints an error, its code and a hint, and exits 3', async () => {
    project.removeTool('c++');
    const { status, stdout, stderr } = await program(['--quiet']);
    expect({ status, stdout }).toEqual({ status: 3, stdout: '' });
    expect(stderr).toMatch(
      /^error: There is no C\+\+ compiler\.\ncode: E_NO_COMPILER\nhint: .+\n$/,
    );
  });

  it('exits 3 where the project folder cannot be written', async () => {
    project.write('.patina', 'a file in the way');
    expect(await program()).toMatchObject({
      status: 3,
      stderr: expect.stringMatching(/^code: E_UNWRITABLE$/m) as string,
    });
  });

  it('refuses unknown options with exit code 2, and prints help', async () => {
    const { status, stderr } = await program(['--agian']);
    expect({ status, stderr }).toEqual({
      status: 2,
      stderr: expect.stringMatching(/^error: unknown option '--agian'\ncode: E_USAGE\n/) as string,
    });
    expect(await program(['--help'])).toMatchObject({
      status: 0,
      stdout: expect.stringMatching(/^usage: npm run setup/) as string,
    });
  });

  it('tells with --check what is there and what is missing, and changes nothing', async () => {
    project.removeTool('cmake');
    const before = JSON.parse((await program(['--check'])).stdout) as unknown;
    expect(before).toMatchObject({ record: null, current: false, libtorch: null, gpus: null });
    expect(before).toMatchObject({ tools: [{ code: 'E_NO_CMAKE', command: /install cmake/ }] });
    expect(project.has('.patina')).toBe(false);
  });

  it('tells with --check of a driver that is too old for the recorded libtorch', async () => {
    project.addGpus('535.183.01, NVIDIA A100, 8.0');
    const torch = project.addLibtorch('venv/torch', { cuda: true });
    await program([], { FAKE_TORCH: torch });
    const { stdout } = await program(['--check']);
    expect(JSON.parse(stdout)).toMatchObject({
      current: true,
      libtorch: 'standing',
      driver: { code: 'E_DRIVER_OLD' },
      gpus: { driver: '535.183.01', devices: [{ name: 'NVIDIA A100', capability: '8.0' }] },
    });
    rmSync(torch, { recursive: true });
    expect(JSON.parse((await program(['--check'])).stdout)).toMatchObject({ libtorch: 'gone' });
  });
});
