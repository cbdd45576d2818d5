/** Which libtorch: looking at one, and walking the order PATINA_LIBTORCH, the active Python's torch, a private copy. */
import { readFileSync } from 'node:fs';
import { join, resolve } from 'node:path';

import { fingerprint, libraryFile } from '../src/base/fingerprint.js';
import { SetupError } from './errors.js';
import { exists, readIfThere } from './files.js';
import { findGpus, requireDriver } from './gpu.js';
import { fetchLibtorch, privateFolder } from './fetch.js';
import { torchOfActivePython } from './python.js';

/**
 * @typedef {object} Libtorch
 * @property {string} folder Has include/ and lib/.
 * @property {string} version For example `2.11.0+cu130`.
 * @property {boolean} cuda Whether the CUDA libraries are there.
 * @property {string} fingerprint Changes when the library is replaced.
 */

/** @typedef {Libtorch & { from: 'PATINA_LIBTORCH' | 'python' | 'private' }} ChosenLibtorch */

const OLDEST = 9;
const NEWEST = 15;
const RANGE = `2.${OLDEST} to 2.${NEWEST}`;

/**
 * What libtorch a folder holds. Throws E_LIBTORCH_MISSING, E_LIBTORCH_UNSUITABLE, E_LIBTORCH_OLD or E_LIBTORCH_NEW.
 *
 * @param {string} folder
 * @returns {Libtorch}
 */
export function inspect(folder) {
  const hint = `Set PATINA_LIBTORCH to the folder of a torch ${RANGE} (it holds include and lib) or unset it, then run "npm run setup".`;
  if (!exists(folder)) {
    throw new SetupError(`There is no folder ${folder}.`, { code: 'E_LIBTORCH_MISSING', hint });
  }
  const needed = ['include/ATen', `lib/${libraryFile('torch_cpu')}`, `lib/${libraryFile('c10')}`];
  const missing = needed.find((part) => !exists(join(folder, part)));
  if (missing !== undefined) {
    throw new SetupError(`${folder} is no libtorch: it has no ${missing}.`, {
      code: 'E_LIBTORCH_UNSUITABLE',
      hint,
    });
  }
  const version = versionOf(folder);
  const [, major, minor] = /^(\d+)\.(\d+)\./.exec(version) ?? [];
  const number = (Number(major) - 2) * 1000 + Number(minor);
  if (!(number >= OLDEST && number <= NEWEST)) {
    const known = version !== '';
    throw new SetupError(
      `The libtorch in ${folder} has ${known ? `version ${version}` : 'no known version'}; Patina needs ${RANGE}.`,
      { code: !known || number < OLDEST ? 'E_LIBTORCH_OLD' : 'E_LIBTORCH_NEW', hint },
    );
  }
  if (process.platform === 'linux' && !hasNewStringAbi(folder)) {
    throw new SetupError(
      `The libtorch in ${folder} was built with the old C++ ABI (_GLIBCXX_USE_CXX11_ABI=0).`,
      {
        code: 'E_LIBTORCH_UNSUITABLE',
        hint: `Use the standard build, which has the new ABI. ${hint}`,
      },
    );
  }
  return {
    folder,
    version,
    cuda: exists(join(folder, 'lib', libraryFile('torch_cuda'))),
    fingerprint: fingerprint(folder) ?? '',
  };
}

/** @param {string} folder */
function versionOf(folder) {
  const python = readIfThere(join(folder, 'version.py'));
  const found = /^__version__ = ['"](.+)['"]/m.exec(python ?? '')?.[1];
  if (found !== undefined) return found;
  const build = readIfThere(join(folder, 'build-version'));
  if (build !== undefined) return build.trim();
  const header = join(folder, 'include', 'torch', 'csrc', 'api', 'include', 'torch', 'version.h');
  return /^#define TORCH_VERSION "(.+)"/m.exec(readIfThere(header) ?? '')?.[1] ?? '';
}

/**
 * Names of functions that take a std::string carry `__cxx11` in the new ABI only; the small core library has many.
 *
 * @param {string} folder
 */
function hasNewStringAbi(folder) {
  return readFileSync(join(folder, 'lib', libraryFile('c10'))).includes('NSt7__cxx11');
}

/**
 * The recorded choice, if it still stands: the library is as it was, and PATINA_LIBTORCH names no other.
 *
 * @param {ChosenLibtorch | undefined} recorded
 * @param {NodeJS.ProcessEnv} env
 * @returns {ChosenLibtorch | undefined}
 */
export function stillChosen(recorded, env) {
  if (recorded === undefined || fingerprint(recorded.folder) !== recorded.fingerprint) {
    return undefined;
  }
  const named = env['PATINA_LIBTORCH'] || undefined;
  return named === undefined || resolve(named) === recorded.folder ? recorded : undefined;
}

/**
 * Walks the order and downloads a private copy if nothing else is there.
 *
 * @param {object} options
 * @param {string} options.root The project's folder.
 * @param {NodeJS.ProcessEnv} options.env
 * @param {boolean} options.cpu Declines the CUDA set.
 * @param {import('./report.js').Report} options.report
 * @param {typeof import('./downloads.js').DOWNLOADS} options.downloads
 * @returns {Promise<ChosenLibtorch>}
 */
export async function choose({ root, env, cpu, report, downloads }) {
  const named = env['PATINA_LIBTORCH'] || undefined;
  const gpus = cpu ? undefined : await findGpus(env);
  if (named !== undefined) {
    const libtorch = inspect(resolve(named));
    if (gpus !== undefined && !libtorch.cuda) {
      report.warn('There is a GPU, but the libtorch that PATINA_LIBTORCH names has no CUDA.');
    }
    return { ...libtorch, from: 'PATINA_LIBTORCH' };
  }

  const ofPython = await torchOfActivePython(env);
  if (ofPython !== undefined) {
    try {
      const libtorch = inspect(ofPython);
      if (libtorch.cuda || gpus === undefined) return { ...libtorch, from: 'python' };
      report.note(
        `passing over the active Python's torch ${libtorch.version}: it cannot use the GPU.`,
      );
    } catch (error) {
      if (!(error instanceof SetupError)) throw error;
      report.note(`passing over the active Python's torch: ${error.message}`);
    }
  }

  if (gpus !== undefined) requireDriver(gpus);
  const kind = gpus === undefined ? 'lean' : 'cuda';
  const folder = privateFolder(root, kind);
  const torch = join(folder, 'torch');
  if (!isUsable(torch)) await fetchLibtorch({ root, kind, env, report, downloads });
  return { ...inspect(torch), from: 'private' };
}

/** @param {string} folder */
function isUsable(folder) {
  try {
    inspect(folder);
    return true;
  } catch (error) {
    if (error instanceof SetupError) return false;
    throw error;
  }
}
