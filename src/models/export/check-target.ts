/** The place of an export, looked at before minutes go by: what is there may not be lost by mistake. */
import { lstat, readdir, realpath } from 'node:fs/promises';
import { isAbsolute, relative, resolve } from 'node:path';

import { EnvironmentError, UsageError } from '../../base/errors.js';
import { requireWritable } from '../../base/writable.js';

/** What every folder that may be replaced has one of. */
const MARKS = ['config.json', 'adapter_config.json', 'Modelfile'];

/**
 * @throws EnvironmentError `E_EXISTS`, `E_UNWRITABLE`, `E_DISK_FULL`; UsageError `E_REPLACE` where something else than a model or an empty folder would be
 *   replaced
 */
export async function checkTarget(folder: string, replace: boolean): Promise<void> {
  const path = resolve(folder);
  const status = await lstat(path).catch(() => undefined);
  if (status === undefined) {
    await requireWritable(path, 'write the exported model', 'folder');
    return;
  }
  const names = status.isDirectory() ? await readdir(path) : undefined;
  const mayGo = names?.length === 0 || names?.some((name) => MARKS.includes(name)) === true;
  if (!replace) {
    throw new EnvironmentError(`${path} exists already.`, {
      code: 'E_EXISTS',
      hint: `Choose another name${mayGo ? ', or put the new folder in its place (--replace)' : ''}.`,
    });
  }
  if (mayGo) {
    await requireWritable(path, 'replace the folder', 'folder');
    return;
  }
  throw new UsageError(`${path} is not replaced: it is no folder of a model or an adapter.`, {
    code: 'E_REPLACE',
    hint: 'Choose another name, or remove what is there yourself.',
  });
}

/** @param files that the export reads @throws UsageError `E_REPLACE` where one of them lies in the folder */
export async function checkSources(folder: string, files: readonly string[]): Promise<void> {
  const target = await realpath(folder).catch(() => undefined);
  if (target === undefined) return;
  for (const file of files) {
    const inside = relative(target, await realpath(file));
    if (inside.startsWith('..') || isAbsolute(inside)) continue;
    throw new UsageError(`${target} is not replaced: ${file} in it is being read.`, {
      code: 'E_REPLACE',
      hint: 'Choose another name.',
    });
  }
}
