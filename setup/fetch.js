/** The private copy of libtorch: pinned wheels, downloaded by pip, checked, and unpacked as far as needed. */
import { mkdirSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

import { CUDA_BUILD, TORCH } from './downloads.js';
import { SetupError } from './errors.js';
import { exists, freeBytes, hashFile, inTemporary, list, makeWhole, size } from './files.js';
import { findPip } from './python.js';
import { isAtLeast, run, tail } from './tools.js';

/** @import { Download, Kind, Wheel } from './downloads.js' */
/** @import { Report } from './report.js' */

const UNPACK = fileURLToPath(new URL('unpack.py', import.meta.url));

/**
 * The folder of a private copy, in the shape of site-packages.
 *
 * @param {string} root
 * @param {Kind} kind
 */
export function privateFolder(root, kind) {
  return join(root, '.patina', 'libtorch', `${TORCH}-${kind}`);
}

/**
 * Downloads and unpacks a private copy. Wheels that an earlier try completed are not downloaded again.
 *
 * @param {object} options
 * @param {string} options.root
 * @param {Kind} options.kind
 * @param {NodeJS.ProcessEnv} options.env
 * @param {Report} options.report
 * @param {Record<string, Partial<Record<Kind, Download>>>} options.downloads
 */
export async function fetchLibtorch({ root, kind, env, report, downloads }) {
  const platform = `${process.platform}-${process.arch}`;
  const download = downloads[platform]?.[kind];
  if (download === undefined) {
    throw new SetupError(`There is no libtorch to download for ${platform} (${kind}).`, {
      code: 'E_PLATFORM',
      hint: `Install torch ${TORCH} in the active Python or set PATINA_LIBTORCH, then run "npm run setup".`,
    });
  }
  requireGlibc();
  if (!download.tested) report.warn(`Patina on ${platform} is untested so far.`);
  const python = await findPip(env);

  const cache = join(root, '.patina', 'downloads');
  mkdirSync(cache, { recursive: true });
  /** @type {{ wheel: Wheel, path: string, there: boolean }[]} */
  const wheels = [];
  for (const wheel of download.wheels) {
    const path = join(cache, `${wheel.sha256}.whl`);
    wheels.push({ wheel, path, there: await isIntact(path, wheel) });
  }
  const missing = wheels.filter(({ there }) => !there);
  const bytes = missing.reduce((sum, { wheel }) => sum + wheel.bytes, 0);
  requireSpace(freeBytes(cache), bytes + download.unpacked, cache);
  report.note(
    `libtorch ${TORCH}, ${kind === 'cuda' ? `complete (${CUDA_BUILD}; decline it with --cpu)` : 'without CUDA'}: ` +
      `${size(bytes)} to download, ${size(download.unpacked)} on disk`,
  );

  for (const [index, { wheel, path }] of missing.entries()) {
    const which = missing.length > 1 ? ` (${index + 1} of ${missing.length})` : '';
    await report.step(
      `downloading ${wheel.name} ${wheel.version}, ${size(wheel.bytes)}${which}`,
      () => downloadWheel({ python, wheel, path, tags: download.tags, env, report }),
    );
  }
  await report.step('unpacking libtorch', () =>
    makeWhole(privateFolder(root, kind), async (folder) => {
      const paths = wheels.map(({ path }) => path);
      const { status, stderr } = await run(python, [UNPACK, kind, folder, ...paths], { env });
      if (status !== 0) throw unpackError(stderr);
    }),
  );
  rmSync(cache, { recursive: true });
}

const OLDEST_GLIBC = '2.28';

/**
 * The wheels for Linux are built for glibc: elsewhere they would be downloaded in vain.
 *
 * @param {string} version Of the glibc that Node runs on; empty where it runs on another C library.
 */
export function requireGlibc(version = glibcVersion()) {
  if (process.platform !== 'linux' || isAtLeast(version, OLDEST_GLIBC)) return;
  throw new SetupError(
    `libtorch for Linux needs glibc ${OLDEST_GLIBC} or newer; this system has ${version || 'another C library'}.`,
    {
      code: 'E_PLATFORM',
      hint: 'Use a distribution with a newer glibc (Debian 10, Ubuntu 20.04, RHEL 8 or newer), or set PATINA_LIBTORCH to a libtorch that was built for this one.',
    },
  );
}

function glibcVersion() {
  // Without it the report looks up the names of all connections.
  Object.assign(process.report, { excludeNetwork: true });
  /** @type {{ header?: { glibcVersionRuntime?: string } }} */
  const report = process.report.getReport();
  return report.header?.glibcVersionRuntime ?? '';
}

/**
 * @param {number} free
 * @param {number} needed
 * @param {string} folder
 */
function requireSpace(free, needed, folder) {
  if (free >= needed) return;
  throw new SetupError(
    `Too little disk space at ${folder}: libtorch needs ${size(needed)}, ${size(free)} are free.`,
    {
      code: 'E_DISK_FULL',
      hint: `Free at least ${size(needed - free)}, then run "npm run setup" again.`,
    },
  );
}

/**
 * @param {object} options
 * @param {string} options.python
 * @param {Wheel} options.wheel
 * @param {string} options.path
 * @param {string[]} options.tags
 * @param {NodeJS.ProcessEnv} options.env
 * @param {Report} options.report
 */
async function downloadWheel({ python, wheel, path, tags, env, report }) {
  await inTemporary(dirname(path), async (folder) => {
    const requirements = join(folder, 'requirements.txt');
    writeFileSync(requirements, `${wheel.name}==${wheel.version} --hash=sha256:${wheel.sha256}\n`);
    const args = ['-m', 'pip', 'download', '--require-hashes', '--requirement', requirements];
    args.push('--no-deps', '--only-binary=:all:', '--no-cache-dir', '--dest', folder);
    args.push('--python-version', '3.12', '--implementation', 'cp', '--abi', 'cp312');
    args.push(...tags.flatMap((tag) => ['--platform', tag]));
    args.push('--disable-pip-version-check', '--no-input', ...(report.watched ? [] : ['--quiet']));
    const { status, stderr } = await run(python, args, {
      // A pip that is told to work in virtual environments only would refuse even to download.
      env: { ...env, PIP_REQUIRE_VIRTUALENV: '0' },
      show: report.watched,
    });
    if (status !== 0) throw pipError(wheel, stderr);
    const [file] = list(folder, (name) => name.endsWith('.whl'));
    if (file === undefined) throw pipError(wheel, 'pip left no file.');
    if (!(await isIntact(join(folder, file), wheel))) throw hashError(wheel);
    renameSync(join(folder, file), path);
  });
}

/**
 * @param {string} path
 * @param {Wheel} wheel
 */
async function isIntact(path, wheel) {
  return exists(path) && (await hashFile(path)) === wheel.sha256;
}

const OFFLINE =
  /NewConnectionError|NameResolutionError|name resolution|Name or service not known|Network is unreachable|ConnectTimeout|ReadTimeout|timed out|Connection (refused|reset|aborted|broken)|ProxyError|SSLError|RemoteDisconnected|IncompleteRead/i;

/**
 * @param {Wheel} wheel
 * @param {string} stderr
 */
function pipError(wheel, stderr) {
  const what = `${wheel.name} ${wheel.version}`;
  if (/DO NOT MATCH THE HASHES/i.test(stderr)) return hashError(wheel);
  if (/No space left on device|Disk quota exceeded/i.test(stderr)) return fullError(stderr);
  if (OFFLINE.test(stderr)) {
    return new SetupError(`pip could not download ${what}: no connection.\n${tail(stderr, 3)}`, {
      code: 'E_NETWORK',
      hint: 'Check the network and the proxy settings of pip, then run "npm run setup" again; what is downloaded is kept.',
    });
  }
  return new SetupError(`pip could not download ${what}:\n${tail(stderr, 5)}`, {
    code: 'E_PIP',
    hint: `Update pip and check its index settings ("pip config list"), or install torch ${TORCH} in the active Python, then run "npm run setup" again.`,
  });
}

/** @param {Wheel} wheel */
function hashError(wheel) {
  return new SetupError(
    `${wheel.name} ${wheel.version} as downloaded has not the SHA-256 that is expected, ${wheel.sha256}.`,
    {
      code: 'E_HASH',
      hint: 'Run "npm run setup" again; if it fails again, check what the package index of pip ("pip config list") serves.',
    },
  );
}

/** @param {string} stderr */
function unpackError(stderr) {
  if (/No space left on device|Disk quota exceeded/i.test(stderr)) return fullError(stderr);
  return new SetupError(`Unpacking libtorch failed: ${tail(stderr, 3)}`, {
    code: 'E_UNPACK',
    hint: 'Run "npm run setup" again; it begins anew.',
  });
}

/** @param {string} stderr */
function fullError(stderr) {
  return new SetupError(`The disk is full: ${tail(stderr, 1)}`, {
    code: 'E_DISK_FULL',
    hint: 'Free some space, then run "npm run setup" again.',
  });
}
