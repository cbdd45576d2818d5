/**
 * The set-up, step by step: npm packages, libtorch, the native addon, the compiled TypeScript, and the record of it all.
 * Each step looks first whether there is anything to do, so that a second set-up takes a fraction of a second.
 */
import { mkdirSync } from 'node:fs';
import { hostname } from 'node:os';
import { join } from 'node:path';

import { waitForLock } from '../src/base/lock-file.js';
import { addonIsThere, buildAddon, wantedAddon } from './addon.js';
import { DOWNLOADS } from './downloads.js';
import { SetupError } from './errors.js';
import { compileJavascript, javascriptHash, javascriptIsThere } from './javascript.js';
import { choose, stillChosen } from './libtorch.js';
import { installPackages, packagesAreCurrent } from './packages.js';
import { readRecord, writeRecord } from './record.js';

/**
 * @typedef {object} Options
 * @property {string} root The project's folder.
 * @property {import('./report.js').Report} report
 * @property {boolean} [again] Choose libtorch again and build everything anew.
 * @property {boolean} [cpu] Decline the CUDA libraries.
 * @property {NodeJS.ProcessEnv} [env]
 * @property {typeof DOWNLOADS} [downloads]
 */

/**
 * Sets the project up.
 *
 * @param {Options} options
 */
export async function setUp({
  root,
  report,
  again = false,
  cpu = false,
  env = process.env,
  downloads = DOWNLOADS,
}) {
  if (process.platform === 'win32') {
    throw new SetupError('Patina does not run on Windows itself.', {
      code: 'E_PLATFORM',
      hint: 'Use the Windows Subsystem for Linux (wsl --install).',
    });
  }
  if (!again && isCurrent(root, env)) {
    report.note('nothing to do');
    return;
  }
  const folder = join(root, '.patina');
  mkdirSync(folder, { recursive: true });
  // One at a time, which saves double work; that nothing is half used rests on renaming (see files.js).
  const lock = await waitForLock(join(folder, 'setup.lock'), {
    onWait: (holder) => report.note(`waiting for another set-up (${describe(holder)})`),
  });
  try {
    await steps({ root, report, again, cpu, env, downloads });
  } finally {
    lock.release();
  }
}

/** @param {import('../src/base/lock-file.js').LockHolder} holder */
function describe({ host, pid }) {
  return host === hostname() ? `process ${pid}` : `process ${pid} on ${host}`;
}

/**
 * Whether everything stands as recorded. Reads only.
 *
 * @param {string} root
 * @param {NodeJS.ProcessEnv} env
 */
export function isCurrent(root, env) {
  const record = readRecord(root);
  const libtorch = stillChosen(record?.libtorch, env);
  if (record === undefined || libtorch === undefined || !packagesAreCurrent(root)) return false;
  const addon = wantedAddon(root, libtorch, record.addon, env);
  return (
    addon.hash === record.addon.hash &&
    addonIsThere(addon) &&
    record.javascript === javascriptHash(root) &&
    javascriptIsThere(root)
  );
}

/** @param {Required<Options>} options */
async function steps({ root, report, again, cpu, env, downloads }) {
  const record = readRecord(root);

  if (again || !packagesAreCurrent(root)) {
    await report.step('installing the npm packages', () => installPackages(root, env));
  }

  let libtorch = again ? undefined : stillChosen(record?.libtorch, env);
  if (libtorch === undefined) {
    libtorch = await choose({ root, env, cpu, report, downloads });
    report.note(`libtorch ${libtorch.version} from ${libtorch.folder} (${ORIGIN[libtorch.from]})`);
  }

  const addon = wantedAddon(root, libtorch, record?.addon, env);
  if (again || !addonIsThere(addon)) await buildAddon({ root, libtorch, addon, env, report });

  // The addon may be used from here on, even if the sources do not compile.
  const compiled = record?.javascript ?? '';
  writeRecord(root, { libtorch, addon, javascript: compiled });

  const javascript = javascriptHash(root);
  const complete = javascriptIsThere(root);
  if (again || !complete || compiled !== javascript) {
    await report.step('compiling TypeScript', () =>
      compileJavascript(root, { force: again || !complete }),
    );
    writeRecord(root, { libtorch, addon, javascript });
  }
  report.note('ready');
}

const ORIGIN = {
  PATINA_LIBTORCH: 'PATINA_LIBTORCH',
  python: 'the active Python',
  private: "the project's own copy",
};
