/** The npm packages, exactly as package-lock.json names them. */
import { readFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';

import { SetupError } from './errors.js';
import { exists, readIfThere } from './files.js';
import { find, run, tail } from './tools.js';

/** @typedef {Record<string, { version?: string, integrity?: string, optional?: boolean }>} Packages */

/** @param {string} root */
const installedPath = (root) => join(root, 'node_modules', '.package-lock.json');

/**
 * Whether node_modules holds what package-lock.json names: npm writes what it installed, as its last act, into
 * node_modules/.package-lock.json.
 *
 * @param {string} root
 */
export function packagesAreCurrent(root) {
  const installed = readPackages(installedPath(root));
  const wanted = readPackages(join(root, 'package-lock.json'));
  delete wanted['']; // The project itself.
  const same = Object.entries(wanted).every(([path, { version, integrity, optional }]) => {
    const found = installed[path];
    // Optional packages are those of other platforms.
    if (found === undefined) return optional === true;
    return found.version === version && found.integrity === integrity;
  });
  const nothingElse = Object.keys(installed).every((path) => path in wanted);
  return same && nothingElse && Object.keys(installed).every((path) => exists(join(root, path)));
}

/**
 * @param {string} path
 * @returns {Packages}
 */
function readPackages(path) {
  try {
    return JSON.parse(readIfThere(path) ?? '{}').packages ?? {};
  } catch (error) {
    if (error instanceof SyntaxError) return {};
    throw error;
  }
}

/**
 * `npm ci`. No package needs its install script.
 *
 * @param {string} root
 * @param {NodeJS.ProcessEnv} env
 */
export async function installPackages(root, env) {
  const [command, ...first] = npmCommand(env);
  if (command === undefined) {
    throw new SetupError('There is no npm on the PATH.', {
      code: 'E_NO_NPM',
      hint: 'Install Node with its npm (https://nodejs.org), then run "npm run setup".',
    });
  }
  const args = ['ci', '--include=dev', '--ignore-scripts', '--no-audit', '--no-fund'];
  const { status, stderr } = await run(command, [...first, ...args], { cwd: root, env });
  // npm reports a file that it could not unpack, for example on a full disk, as a warning and ends well.
  if (status === 0 && !stderr.includes('TAR_ENTRY_ERROR')) return;
  rmSync(installedPath(root), { force: true });
  throw npmError(stderr);
}

/**
 * The npm that runs us, else the one on the PATH.
 *
 * @param {NodeJS.ProcessEnv} env
 */
function npmCommand(env) {
  const running = env['npm_execpath'];
  if (running?.endsWith('npm-cli.js') && exists(running)) return [process.execPath, running];
  const npm = find('npm', env);
  return npm === undefined ? [] : [npm];
}

/** @param {string} stderr */
function npmError(stderr) {
  const output = tail(stderr, 8);
  if (/ENOSPC|EDQUOT/.test(stderr)) {
    return new SetupError(`The disk is full: npm could not install the packages.\n${output}`, {
      code: 'E_DISK_FULL',
      hint: 'Free some space, then run "npm run setup" again.',
    });
  }
  if (/ENOTFOUND|EAI_AGAIN|ECONNREFUSED|ECONNRESET|ETIMEDOUT|ENETUNREACH/.test(stderr)) {
    return new SetupError(`npm could not download the packages: no connection.\n${output}`, {
      code: 'E_NETWORK',
      hint: 'Check the network and the proxy settings of npm, then run "npm run setup" again.',
    });
  }
  return new SetupError(`npm could not install the packages:\n${output}`, {
    code: 'E_NPM',
    hint: 'Run "npm ci" to see all of its output; when it passes, run "npm run setup" again.',
  });
}

/**
 * Version of an installed package.
 *
 * @param {string} root
 * @param {string} name
 * @returns {string}
 */
export function packageVersion(root, name) {
  return JSON.parse(readFileSync(join(root, 'node_modules', name, 'package.json'), 'utf8')).version;
}
