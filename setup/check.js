/** What a set-up would find, without changing anything; `patina doctor` asks for it with `setup.js --check`. */
import { fingerprint } from '../src/base/fingerprint.js';
import { requireCmake, requireCompiler } from './addon.js';
import { SetupError } from './errors.js';
import { findGpus, requireDriver } from './gpu.js';
import { stillChosen } from './libtorch.js';
import { isCurrent } from './main.js';
import { findPip } from './python.js';
import { readRecord } from './record.js';

/** @typedef {{ code: string, message: string, hint: string, command: string }} Fault */

/**
 * @typedef {object} Check
 * @property {import('./record.js').SetupRecord | null} record What the last set-up did.
 * @property {boolean} current Whether there is nothing to do for a set-up.
 * @property {'standing' | 'gone' | 'changed' | 'renamed' | null} libtorch The recorded one; `renamed`: PATINA_LIBTORCH names another.
 * @property {import('./gpu.js').Gpus | null} gpus What the system tells of them.
 * @property {Fault | null} driver Where it is too old for the recorded libtorch.
 * @property {Fault[]} tools What a set-up would miss.
 */

/**
 * @param {string} root
 * @param {NodeJS.ProcessEnv} env
 * @returns {Promise<Check>}
 */
export async function check(root, env) {
  const record = readRecord(root);
  const [gpus, ...tools] = await Promise.all([
    findGpus(env),
    faultOf(() => requireCompiler(env)),
    faultOf(() => requireCmake(env)),
    faultOf(() => findPip(env)),
  ]);
  const driver =
    record?.libtorch.cuda === true && gpus !== undefined
      ? await faultOf(() => requireDriver(gpus, record.libtorch.version))
      : undefined;
  return {
    record: record ?? null,
    current: isCurrent(root, env),
    libtorch: record === undefined ? null : stateOf(record.libtorch, env),
    gpus: gpus ?? null,
    driver: driver ?? null,
    tools: tools.filter((fault) => fault !== undefined),
  };
}

/**
 * @param {import('./libtorch.js').ChosenLibtorch} libtorch
 * @param {NodeJS.ProcessEnv} env
 */
function stateOf(libtorch, env) {
  if (stillChosen(libtorch, env) !== undefined) return 'standing';
  const print = fingerprint(libtorch.folder);
  if (print === undefined) return 'gone';
  return print === libtorch.fingerprint ? 'renamed' : 'changed';
}

/**
 * @param {() => unknown} work
 * @returns {Promise<Fault | undefined>}
 */
async function faultOf(work) {
  try {
    await work();
    return undefined;
  } catch (error) {
    if (!(error instanceof SetupError)) throw error;
    const { code, message, hint, command } = error;
    return { code, message, hint, command };
  }
}
