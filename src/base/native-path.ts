/**
 * Where the native addons of this package lie: `npm run setup` builds them and records their folder in
 * `.patina/setup.json` beside the package's own `package.json`.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { EnvironmentError } from './errors.js';

/** `patina` is bound to libtorch; `pixels` needs nothing and may be loaded in any worker thread. */
export type NativeLibrary = 'patina' | 'pixels';

/**
 * Path of a native addon. The variable `PATINA_ADDON` names another folder, for work on the addon itself.
 *
 * @param from a folder within the package, by default this module's
 * @throws EnvironmentError `E_NOT_SET_UP` if setup has not been run, or what it recorded is unreadable or gone.
 */
export function nativeLibrary(name: NativeLibrary, from?: string): string {
  const override = process.env['PATINA_ADDON'];
  const folder =
    override !== undefined && override !== ''
      ? resolve(override)
      : recordedFolder(packageRoot(from));
  const path = join(folder, `${name}.node`);
  if (!existsSync(path)) throw notSetUp(`The native library ${path} does not exist.`);
  return path;
}

/** The folder of the package that this module belongs to, compiled or not. */
export function packageRoot(from = dirname(fileURLToPath(import.meta.url))): string {
  for (let folder = from; ; folder = dirname(folder)) {
    if (packageName(join(folder, 'package.json')) === 'patina') return folder;
    if (dirname(folder) === folder) {
      throw notSetUp(`No package.json of the package "patina" lies above ${from}.`);
    }
  }
}

function recordedFolder(root: string): string {
  const path = join(root, '.patina', 'setup.json');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw notSetUp(`The record of the setup, ${path}, cannot be read.`, cause);
  }
  const folder = recordedIn(parse(text));
  if (folder === undefined) throw notSetUp(`The record ${path} names no folder in addon.folder.`);
  return resolve(root, folder);
}

function recordedIn(record: unknown): string | undefined {
  if (typeof record !== 'object' || record === null || !('addon' in record)) return undefined;
  const { addon } = record;
  if (typeof addon !== 'object' || addon === null || !('folder' in addon)) return undefined;
  return typeof addon.folder === 'string' ? addon.folder : undefined;
}

function packageName(path: string): unknown {
  if (!existsSync(path)) return undefined;
  const content = parse(readFileSync(path, 'utf8'));
  return typeof content === 'object' && content !== null && 'name' in content
    ? content.name
    : undefined;
}

function parse(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

function notSetUp(message: string, cause?: unknown): EnvironmentError {
  return new EnvironmentError(message, {
    code: 'E_NOT_SET_UP',
    hint: 'Run `npm run setup`.',
    cause,
  });
}
