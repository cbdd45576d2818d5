/**
 * The record of what the set-up did, `.patina/setup.json`; src/base/native-path.ts reads it. In the file, folders within the
 * project are relative to it, so that a project that was moved or copied is set up; here they are absolute.
 */
import { join, resolve } from 'node:path';

import { projectPath, readIfThere, writeWhole } from './files.js';

/**
 * @typedef {object} SetupRecord
 * @property {2} version
 * @property {import('./libtorch.js').ChosenLibtorch} libtorch
 * @property {import('./addon.js').Addon} addon
 * @property {string} javascript Hash of the sources that were compiled.
 * @property {string} node Version of Node that ran the set-up.
 * @property {string} at ISO 8601.
 */

/** @param {string} root */
const recordPath = (root) => join(root, '.patina', 'setup.json');

/**
 * @param {string} root
 * @returns {SetupRecord | undefined} Undefined if there is none that this version can use.
 */
export function readRecord(root) {
  try {
    const record = JSON.parse(readIfThere(recordPath(root)) ?? 'null');
    const whole =
      record?.version === 2 &&
      typeof record.libtorch?.folder === 'string' &&
      typeof record.addon?.folder === 'string' &&
      typeof record.addon?.hash === 'string';
    return whole ? withFolders(record, (folder) => resolve(root, folder)) : undefined;
  } catch (error) {
    // A record that was broken by hand is made again.
    if (error instanceof SyntaxError) return undefined;
    throw error;
  }
}

/**
 * @param {string} root
 * @param {Omit<SetupRecord, 'version' | 'node' | 'at'>} facts
 */
export function writeRecord(root, facts) {
  const at = new Date().toISOString();
  /** @type {SetupRecord} */
  const record = { version: 2, ...facts, node: process.version, at };
  const portable = withFolders(record, (folder) => projectPath(root, folder));
  writeWhole(recordPath(root), `${JSON.stringify(portable, null, 2)}\n`);
}

/**
 * @param {SetupRecord} record
 * @param {(folder: string) => string} change
 * @returns {SetupRecord}
 */
function withFolders(record, change) {
  const { libtorch, addon } = record;
  return {
    ...record,
    libtorch: { ...libtorch, folder: change(libtorch.folder) },
    addon: { ...addon, folder: change(addon.folder) },
  };
}
