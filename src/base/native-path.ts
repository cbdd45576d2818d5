/**
 * Where the native addons of this package lie: `npm run setup` builds them and records their folder in
 * `.patina/setup.json` beside the package's own `package.json`.
 */
import { existsSync, readFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

import { EnvironmentError } from './errors.js';
import { fingerprint } from './fingerprint.js';

/** `patina` is bound to libtorch; `pixels` needs nothing and may be loaded in any worker thread. */
export type NativeLibrary = 'patina' | 'pixels';

/**
 * Path of a native addon. The variable `PATINA_ADDON` names another folder, for work on the addon itself.
 *
 * @param from a folder within the package, by default this module's
 * @throws EnvironmentError `E_NOT_SET_UP` if setup has not been run, or what it recorded is unreadable or gone;
 *   `E_LIBTORCH_GONE` or `E_LIBTORCH_CHANGED` if libtorch is not the one that `patina` was built for.
 */
export function nativeLibrary(name: NativeLibrary, from?: string): string {
  const override = process.env['PATINA_ADDON'];
  if (override !== undefined && override !== '') return existing(resolve(override), name);
  const root = packageRoot(from);
  const { addon, libtorch } = readRecord(root);
  if (name === 'patina' && libtorch !== undefined) {
    requireUnchanged(resolve(root, libtorch.folder), libtorch.fingerprint);
  }
  return existing(resolve(root, addon.folder), name);
}

function existing(folder: string, name: NativeLibrary): string {
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

/** The version of the package. */
export function packageVersion(): string {
  const text = readFileSync(join(packageRoot(), 'package.json'), 'utf8');
  return (JSON.parse(text) as { version: string }).version;
}

/** What is used here of the record that setup/record.js writes; folders may be relative to the package. */
interface SetupRecord {
  addon: { folder: string };
  libtorch: { folder: string; fingerprint: string } | undefined;
}

function readRecord(root: string): SetupRecord {
  const path = join(root, '.patina', 'setup.json');
  let text: string;
  try {
    text = readFileSync(path, 'utf8');
  } catch (cause) {
    throw notSetUp(`The record of the setup, ${path}, cannot be read.`, cause);
  }
  const record = parse(text);
  const addon = texts(field(record, 'addon'), ['folder']);
  if (addon === undefined) throw notSetUp(`The record ${path} names no folder in addon.folder.`);
  return { addon, libtorch: texts(field(record, 'libtorch'), ['folder', 'fingerprint']) };
}

/** The addon's calls fit one libtorch only. */
function requireUnchanged(folder: string, recorded: string): void {
  const found = fingerprint(folder);
  if (found === recorded) return;
  throw new EnvironmentError(
    `The libtorch in ${folder} is ${found === undefined ? 'gone' : 'not the one that the addon was built for'}.`,
    {
      code: found === undefined ? 'E_LIBTORCH_GONE' : 'E_LIBTORCH_CHANGED',
      hint: 'Run `npm run setup`, which chooses libtorch again and builds the addon for it.',
    },
  );
}

function field(value: unknown, name: string): unknown {
  return typeof value === 'object' && value !== null ? Reflect.get(value, name) : undefined;
}

/** The fields of `value` if all of them are strings. */
function texts<Name extends string>(
  value: unknown,
  names: readonly Name[],
): Record<Name, string> | undefined {
  const entries = names.map((name) => [name, field(value, name)] as const);
  return entries.every(([, text]) => typeof text === 'string')
    ? (Object.fromEntries(entries) as Record<Name, string>)
    : undefined;
}

function packageName(path: string): unknown {
  return existsSync(path) ? field(parse(readFileSync(path, 'utf8')), 'name') : undefined;
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
