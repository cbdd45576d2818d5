/**
 * A small project and fake tools for the tests of the set-up: a folder of scripts that stands for the whole PATH, so that
 * nothing is downloaded or compiled. Environment variables FAKE_... make the tools fail.
 */
import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { Report } from './report.js';

export type Tool = 'python3' | 'c++' | 'cmake' | 'npm' | 'nvidia-smi';

/** A report that keeps what it is told. */
export class QuietReport extends Report {
  text = '';

  override write(text: string): void {
    this.text += text;
  }
}

export class FakeProject {
  readonly root = mkdtempSync(join(tmpdir(), 'patina-setup-'));
  readonly tools = mkdtempSync(join(tmpdir(), 'patina-tools-'));
  readonly report = new QuietReport();

  constructor() {
    const packages = {
      '': { name: 'patina' },
      'node_modules/node-api-headers': { version: '1.9.0', integrity: 'sha512-a' },
      'node_modules/typescript': { version: '6.0.3', integrity: 'sha512-b' },
      'node_modules/elsewhere': { version: '1.0.0', integrity: 'sha512-c', optional: true },
    };
    this.write('package.json', '{ "name": "patina", "type": "module" }');
    this.write('package-lock.json', JSON.stringify({ packages }));
    this.write('tsconfig.json', '{}');
    this.write('tsconfig.build.json', '{}');
    this.write('native/addon.cc', 'int answer() { return 42; }\n');
    this.write('src/cli/main.ts', 'export {};\n');
    for (const [tool, script] of Object.entries(TOOLS)) {
      if (tool !== 'nvidia-smi') this.#addTool(tool, script);
    }
  }

  /** The environment in which the fakes are the only tools. */
  env(extra: Record<string, string> = {}): NodeJS.ProcessEnv {
    return { PATH: this.tools, FAKE_ADDON: loadableAddon(), ...extra };
  }

  path(...parts: string[]): string {
    return join(this.root, ...parts);
  }

  read(path: string): string {
    return readFileSync(this.path(path), 'utf8');
  }

  has(path: string): boolean {
    return existsSync(this.path(path));
  }

  write(path: string, text: string): void {
    mkdirSync(dirname(this.path(path)), { recursive: true });
    writeFileSync(this.path(path), text);
  }

  removeTool(tool: Tool): void {
    rmSync(join(this.tools, tool));
  }

  /** GPUs as `nvidia-smi` lists them: `driver, name, capability`, one a line. */
  addGpus(rows: string): void {
    this.#addTool('nvidia-smi', `process.stdout.write(${JSON.stringify(`${rows}\n`)});`);
  }

  /** A folder that looks like a libtorch. */
  addLibtorch(
    path: string,
    {
      version = '2.11.0+cu130',
      symbols = 'NSt7__cxx1112basic_string',
      cuda = false,
    }: { version?: string; symbols?: string; cuda?: boolean } = {},
  ): string {
    this.write(join(path, 'version.py'), `__version__ = '${version}'\n`);
    this.write(join(path, 'include/ATen/ATen.h'), '');
    this.write(join(path, 'lib', library('torch_cpu')), 'library');
    this.write(join(path, 'lib', library('c10')), symbols);
    if (cuda) this.write(join(path, 'lib', library('torch_cuda')), '');
    return this.path(path);
  }

  /** Copies the real set-up into the project, to be run as a program, with what it shares with the sources. */
  addSetup(): void {
    cpSync(import.meta.dirname, this.path('setup'), { recursive: true });
    for (const file of readdirSync(join(import.meta.dirname, '../src/base'))) {
      if (!file.endsWith('.js')) continue;
      this.write(
        `src/base/${file}`,
        readFileSync(join(import.meta.dirname, '../src/base', file), 'utf8'),
      );
    }
  }

  remove(): void {
    rmSync(this.root, { recursive: true, force: true });
    rmSync(this.tools, { recursive: true, force: true });
  }

  #addTool(name: string, script: string): void {
    const path = join(this.tools, name);
    writeFileSync(path, `#!${process.execPath}\n${PRELUDE}\n${script}\n`);
    chmodSync(path, 0o755);
  }
}

/** A download table for this platform whose wheels the fake pip makes. */
export function fakeDownloads({
  sha256,
  unpacked = 1000,
}: { sha256?: string; unpacked?: number } = {}) {
  const wheels = ['torch', 'nvidia-cuda-runtime'].map((name) => ({
    name,
    version: '1.0',
    bytes: 100,
    sha256: sha256 ?? createHash('sha256').update(`wheel ${name}`).digest('hex'),
  }));
  const download = { wheels, unpacked, tags: ['linux_x86_64'], tested: true };
  return { [`${process.platform}-${process.arch}`]: { lean: download, cuda: download } };
}

export function library(name: string): string {
  return `lib${name}.${process.platform === 'darwin' ? 'dylib' : 'so'}`;
}

let addon: string | undefined;

/** A real, empty addon: the set-up loads what it has built. */
function loadableAddon(): string {
  if (addon === undefined) {
    addon = join(mkdtempSync(join(tmpdir(), 'patina-addon-')), 'empty.node');
    const source = 'void *napi_register_module_v1(void *env, void *exports) { return exports; }';
    execFileSync('cc', ['-shared', '-fPIC', '-x', 'c', '-', '-o', addon], { input: source });
  }
  return addon;
}

const PRELUDE = `
const fs = require('node:fs');
const { join, dirname } = require('node:path');
const args = process.argv.slice(2);
const after = (option) => args[args.indexOf(option) + 1];
const write = (path, text) => { fs.mkdirSync(dirname(path), { recursive: true }); fs.writeFileSync(path, text); };
const fail = (text) => { process.stderr.write(text + '\\n'); process.exit(1); };
`;

const TOOLS: Record<Tool, string> = {
  python3: `
    const pip = process.env.FAKE_PIP ?? '';
    if (args[0] === '--version') console.log('Python 3.11.0');
    else if (args[0] === '-c') console.log(process.env.FAKE_TORCH ?? '');
    else if (args[0] === '-m' && args[2] === '--version') { if (pip === 'none') fail('No module named pip'); }
    else if (args[0] === '-m') {
      const [name] = fs.readFileSync(after('--requirement'), 'utf8').split('==');
      fs.appendFileSync(process.env.FAKE_LOG ?? '/dev/null', name + '\\n');
      if (pip === 'break' && name !== 'torch') process.kill(process.ppid, 'SIGKILL');
      if (pip === 'slow') Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, 300);
      if (pip.startsWith('fail: ')) fail(pip.slice(6));
      if (pip !== 'nothing') write(join(after('--dest'), name + '-1.0.whl'), pip === 'wrong' ? 'other' : 'wheel ' + name);
    } else {
      const [, kind, folder] = args;
      const library = (name) => join(folder, 'torch', 'lib', 'lib' + name + (process.platform === 'darwin' ? '.dylib' : '.so'));
      write(join(folder, 'torch', 'version.py'), "__version__ = '2.11.0+cu130'\\n");
      write(join(folder, 'torch', 'include', 'ATen', 'ATen.h'), '');
      write(library('torch_cpu'), 'library');
      if (process.env.FAKE_UNPACK) fail(process.env.FAKE_UNPACK);
      write(library('c10'), 'NSt7__cxx1112basic_string');
      if (kind === 'cuda') write(library('torch_cuda'), '');
    }`,
  'c++': `
    if (args[0] === '--version') console.log('c++ (Fake) 8.3.0');
    else if (process.env.FAKE_CXX === 'old') fail("error: unrecognized command line option '-std=c++20'");`,
  cmake: `
    const build = process.env.FAKE_BUILD ?? '';
    if (args[0] === '--version') console.log('cmake version ' + (process.env.FAKE_CMAKE ?? '3.25.1'));
    else if (args[0] === '-S') {
      if (process.env.FAKE_CMAKE_LOG) fs.writeFileSync(process.env.FAKE_CMAKE_LOG, args.join('\\n'));
      write(join(after('-B'), 'CMakeCache.txt'), '');
    }
    else if (build.startsWith('fail: ')) fail(build.slice(6));
    else {
      for (const name of ['patina.node', 'pixels.node']) {
        if (build === 'broken') write(join(args[1], name), 'no library');
        else fs.copyFileSync(process.env.FAKE_ADDON, join(args[1], name));
      }
    }`,
  npm: `
    if (process.env.FAKE_NPM) fail(process.env.FAKE_NPM);
    const { packages } = JSON.parse(fs.readFileSync('package-lock.json', 'utf8'));
    for (const [path, { optional }] of Object.entries(packages)) if (path === '' || optional) delete packages[path];
    for (const [path, content] of Object.entries(packages)) write(join(path, 'package.json'), JSON.stringify(content));
    write('node_modules/typescript/bin/tsc', \`
      const fs = require('node:fs');
      const source = fs.readFileSync('src/cli/main.ts', 'utf8');
      if (source.includes('wrong')) { console.log('src/cli/main.ts(1,1): error TS1005'); process.exit(2); }
      fs.cpSync('src', 'dist/src', { recursive: true });
      fs.renameSync('dist/src/cli/main.ts', 'dist/src/cli/main.js');
    \`);
    write('node_modules/.package-lock.json', JSON.stringify({ packages }));
    process.stderr.write(process.env.FAKE_NPM_WARNING ?? '');`,
  'nvidia-smi': '',
};
