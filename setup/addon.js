/** The native addon: compiled with CMake, kept by a hash of its sources, the compiler and libtorch. */
import { readdirSync, realpathSync, renameSync, rmSync, statSync } from 'node:fs';
import { availableParallelism, freemem } from 'node:os';
import { join, relative } from 'node:path';

import { SetupError } from './errors.js';
import { exists, hashFiles, list, makeWhole, projectPath, writeWhole } from './files.js';
import { packageVersion } from './packages.js';
import { find, installCommand, isAtLeast, run, tail } from './tools.js';

/** @import { ChosenLibtorch } from './libtorch.js' */
/** @import { Report } from './report.js' */

/**
 * @typedef {object} Addon
 * @property {string} folder Contains patina.node and pixels.node.
 * @property {string} hash
 * @property {string} compiler Path, size and time of the compiler.
 */

/** Rises when the way of building below changes, so that everybody builds anew. */
const RECIPE = 2;
const OLDEST_CMAKE = '3.18';
/** What one compiler process takes at most with libtorch's headers. */
const COMPILER_BYTES = 1.5e9;
/** Builds of other sources, compilers and libtorches that stay for a way back. */
const KEPT = 4;

/**
 * Where the addon for these sources, this compiler and this libtorch belongs. Where the compiler is gone, the one that
 * built the recorded addon counts.
 *
 * @param {string} root
 * @param {ChosenLibtorch} libtorch
 * @param {Addon | undefined} recorded
 * @param {NodeJS.ProcessEnv} env
 * @returns {Addon}
 */
export function wantedAddon(root, libtorch, recorded, env) {
  const path = findCompiler(env);
  const compiler = path === undefined ? (recorded?.compiler ?? '') : identity(path);
  const { folder, version, fingerprint } = libtorch;
  const headers = packageVersion(root, 'node-api-headers');
  const torch = projectPath(root, folder);
  const words = [`${RECIPE}`, compiler, torch, version, fingerprint, headers];
  const hash = hashFiles(join(root, 'native'), list(join(root, 'native')), words);
  return { folder: join(root, '.patina', 'addon', hash), hash, compiler };
}

/** @param {Addon} addon */
export function addonIsThere(addon) {
  return exists(join(addon.folder, 'patina.node')) && exists(join(addon.folder, 'pixels.node'));
}

/** @param {NodeJS.ProcessEnv} env */
export function findCompiler(env) {
  const named = env['CXX']?.trim().split(/\s+/)[0];
  if (named) return find(named, env);
  return find('c++', env) ?? find('g++', env) ?? find('clang++', env);
}

/** @param {string} compiler */
function identity(compiler) {
  const path = realpathSync(compiler);
  const { size, mtimeMs } = statSync(path);
  return `${path} ${size} ${Math.floor(mtimeMs)}`;
}

/**
 * Builds the addon and checks that it loads.
 *
 * @param {object} options
 * @param {string} options.root
 * @param {ChosenLibtorch} options.libtorch
 * @param {Addon} options.addon
 * @param {NodeJS.ProcessEnv} options.env
 * @param {Report} options.report
 */
export async function buildAddon({ root, libtorch, addon, env, report }) {
  const compiler = await requireCompiler(env);
  const cmake = await requireCmake(env);
  const log = join(root, '.patina', 'addon-build.log');
  await report.step('building the native addon (about a minute)', () =>
    makeWhole(addon.folder, async (folder) => {
      const build = join(folder, 'build');
      const configure = ['-S', join(root, 'native'), '-B', build, '-DCMAKE_BUILD_TYPE=Release'];
      configure.push(`-DCMAKE_CXX_COMPILER=${compiler}`, `-DPATINA_LIBTORCH=${libtorch.folder}`);
      configure.push(`-DPATINA_RPATH=${rpath(root, libtorch, addon)}`);
      configure.push(`-DNODE_API_HEADERS=${join(root, 'node_modules/node-api-headers/include')}`);
      if (!env['CMAKE_GENERATOR'] && find('ninja', env)) configure.push('-G', 'Ninja');
      const jobs = Math.min(availableParallelism(), Math.floor(freemem() / COMPILER_BYTES));
      for (const args of [configure, ['--build', build, '--parallel', `${Math.max(1, jobs)}`]]) {
        const { status, stdout, stderr } = await run(cmake, args, { env });
        if (status === 0) continue;
        writeWhole(log, stdout + stderr);
        throw buildError(stdout + stderr, log);
      }
      for (const name of list(build, (path) => /^[^/]+\.(node|so|dylib)$/.test(path))) {
        renameSync(join(build, name), join(folder, name));
      }
      rmSync(build, { recursive: true });
      await requireLoadable(join(folder, 'patina.node'), env);
    }),
  );
  rmSync(log, { force: true });
  removeOldBuilds(join(root, '.patina', 'addon'), addon.hash);
}

/**
 * Where the addon looks for libtorch: from its own folder to one within the project, so that they are moved and copied together.
 *
 * @param {string} root
 * @param {ChosenLibtorch} libtorch
 * @param {Addon} addon
 */
function rpath(root, libtorch, addon) {
  const lib = join(libtorch.folder, 'lib');
  if (projectPath(root, lib) === lib) return lib;
  const here = process.platform === 'darwin' ? '@loader_path' : '$ORIGIN';
  return `${here}/${relative(addon.folder, lib)}`;
}

const CXX20 = `
#include <concepts>
#include <span>
template <std::integral T> struct Extent { T bytes; };
int main() { return Extent<int>{.bytes = std::span<int>{}.size() == 0 ? 0 : 1}.bytes; }
`;

/** @param {NodeJS.ProcessEnv} env */
export async function requireCompiler(env) {
  const compiler = findCompiler(env);
  const command = installCommand({
    debian: 'sudo apt-get install g++',
    macos: 'xcode-select --install',
  });
  const install = `Install one (${command}) or name one in CXX, then run "npm run setup".`;
  if (compiler === undefined) {
    const named = env['CXX'];
    throw new SetupError(
      named ? `The compiler that CXX names, ${named}, is not there.` : 'There is no C++ compiler.',
      { code: 'E_NO_COMPILER', hint: install, command },
    );
  }
  const args = ['-std=c++20', '-fsyntax-only', '-x', 'c++', '-'];
  const { status, stderr } = await run(compiler, args, { env, input: CXX20 });
  if (status === 0) return compiler;
  const { stdout: version } = await run(compiler, ['--version'], { env });
  throw new SetupError(
    `The compiler ${compiler} (${version.split('\n')[0]}) cannot compile C++20:\n${tail(stderr, 5)}`,
    {
      code: 'E_COMPILER_OLD',
      hint: `Patina needs g++ 11, clang 14 or newer. ${install}`,
      command,
    },
  );
}

/** @param {NodeJS.ProcessEnv} env */
export async function requireCmake(env) {
  const command = installCommand({
    debian: 'sudo apt-get install cmake',
    macos: 'brew install cmake',
  });
  const hint = `Install CMake ${OLDEST_CMAKE} or newer (${command}; anywhere: python3 -m pip install cmake), then run "npm run setup".`;
  const cmake = find('cmake', env);
  if (cmake === undefined) {
    throw new SetupError('There is no CMake on the PATH.', {
      code: 'E_NO_CMAKE',
      hint,
      command,
    });
  }
  const { stdout } = await run(cmake, ['--version'], { env });
  if (isAtLeast(stdout, OLDEST_CMAKE)) return cmake;
  throw new SetupError(
    `CMake at ${cmake} is too old (${stdout.split('\n')[0]}); ${OLDEST_CMAKE} or newer is needed.`,
    { code: 'E_CMAKE_OLD', hint, command: 'python3 -m pip install cmake' },
  );
}

/**
 * @param {string} output
 * @param {string} log
 */
function buildError(output, log) {
  if (/No space left on device|Disk quota exceeded/i.test(output)) {
    return new SetupError('The disk is full: the addon could not be built.', {
      code: 'E_DISK_FULL',
      hint: 'Free some space, then run "npm run setup" again.',
    });
  }
  if (/Killed signal|fatal error: Killed/.test(output)) {
    return new SetupError('The compiler was ended for want of memory.', {
      code: 'E_ADDON_BUILD',
      hint: 'Free about 2 GB of memory, then run "npm run setup" again.',
    });
  }
  const errors = output.split('\n').filter((line) => /error|undefined reference/i.test(line));
  const told = errors.length > 0 ? errors.slice(0, 10).join('\n') : tail(output, 15);
  return new SetupError(`The native addon does not compile:\n${told}`, {
    code: 'E_ADDON_BUILD',
    hint: `Read ${log} for all of the compiler's output; then run "npm run setup" again.`,
  });
}

/**
 * Loads the addon in a process of its own, as the process may die of it.
 *
 * @param {string} path
 * @param {NodeJS.ProcessEnv} env
 */
async function requireLoadable(path, env) {
  const script = 'process.dlopen({ exports: {} }, process.argv[1])';
  const { status, stderr } = await run(process.execPath, ['-e', script, path], { env });
  if (status === 0) return;
  const reason = stderr.split('\n').find((line) => line.startsWith('Error: ')) ?? tail(stderr, 3);
  throw new SetupError(`The native addon was built but does not load: ${reason}`, {
    code: 'E_ADDON_LOAD',
    hint: 'Run "npm run setup -- --again"; if it fails again, remove .patina/libtorch first or set PATINA_LIBTORCH to another torch.',
  });
}

/**
 * @param {string} parent
 * @param {string} current
 */
function removeOldBuilds(parent, current) {
  const others = readdirSync(parent)
    .filter((name) => name !== current)
    .map((name) => ({ path: join(parent, name), time: statSync(join(parent, name)).mtimeMs }))
    .sort((a, b) => b.time - a.time);
  for (const { path } of others.slice(KEPT)) rmSync(path, { recursive: true, force: true });
}
