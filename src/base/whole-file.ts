/** Small files that are whole or absent: written aside, synced, renamed, so that no reader finds half of one. */
import { randomBytes } from 'node:crypto';
import { constants } from 'node:fs';
import { access, mkdir, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';

/** Fails now as `writeWholeFile` would after hours of work: where its folder takes no file, or a folder stands in its place. */
export async function expectWritable(path: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  await access(dirname(path), constants.W_OK);
  const found = await stat(path).catch(() => undefined);
  if (found?.isDirectory() === true) {
    throw Object.assign(new Error(`${path} is a folder`), { code: 'EISDIR' });
  }
}

/** Replaces the file at `path`; its folder is made if need be. Errors of the file system are passed on. */
export async function writeWholeFile(path: string, content: string | Uint8Array): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const aside = `${path}.${randomBytes(4).toString('hex')}.tmp`;
  try {
    const file = await open(aside, 'wx');
    try {
      await file.writeFile(content);
      await file.sync();
    } finally {
      await file.close();
    }
    await rename(aside, path);
  } finally {
    await rm(aside, { force: true });
  }
}
