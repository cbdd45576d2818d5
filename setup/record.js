/** The record of what the set-up did, `.patina/setup.json`; src/base/native-path.ts reads it. */
import { join } from 'node:path';

import { readIfThere, writeWhole } from './files.js';

/**
 * @typedef {object} SetupRecord
 * @property {1} version
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
      record?.version === 1 &&
      typeof record.libtorch?.folder === 'string' &&
      typeof record.addon?.hash === 'string';
    return whole ? record : undefined;
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
  const record = { version: 1, ...facts, node: process.version, at };
  writeWhole(recordPath(root), `${JSON.stringify(record, null, 2)}\n`);
}
