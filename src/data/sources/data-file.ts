/** A file of records: opened once, read at any place, and known again by its size and time. */
import { constants } from 'node:fs';
import { open, type FileHandle } from 'node:fs/promises';

import { DataError } from '../../base/errors.js';
import { shortText } from '../../base/short-text.js';

export interface FileIdentity {
  readonly path: string;
  readonly size: number;
  /** Time of the last change in milliseconds. */
  readonly modified: number;
}

export class DataFile {
  readonly #handle: FileHandle;

  private constructor(
    handle: FileHandle,
    readonly identity: FileIdentity,
  ) {
    this.#handle = handle;
  }

  /**
   * @throws DataError E_DATA_READ for what is no readable regular file
   */
  static async open(path: string): Promise<DataFile> {
    let handle: FileHandle | undefined;
    try {
      // Not waiting for a writer, opening a pipe by mistake cannot hang.
      handle = await open(path, constants.O_RDONLY | constants.O_NONBLOCK);
      const stat = await handle.stat();
      if (!stat.isFile()) throw new Error('it is no regular file');
      return new DataFile(handle, { path, size: stat.size, modified: stat.mtimeMs });
    } catch (cause) {
      await handle?.close();
      throw readError(path, cause);
    }
  }

  /**
   * Opens a file that has been read before.
   *
   * @throws DataError E_DATA_READ, and E_DATA_CHANGED if it is not as it was
   */
  static async reopen({ path, size, modified }: FileIdentity): Promise<DataFile> {
    const file = await DataFile.open(path);
    if (file.identity.size === size && file.identity.modified === modified) return file;
    await file.close();
    throw changed(path);
  }

  /** @throws DataError E_DATA_READ, E_DATA_CHANGED where the file ends before `start + length` */
  async read(start: number, length: number): Promise<Buffer> {
    const buffer = Buffer.from(new ArrayBuffer(length));
    for (let filled = 0; filled < length;) {
      const { bytesRead } = await this.#handle
        .read(buffer, filled, length - filled, start + filled)
        .catch((cause: unknown) => {
          throw readError(this.identity.path, cause);
        });
      if (bytesRead === 0) throw changed(this.identity.path);
      filled += bytesRead;
    }
    return buffer;
  }

  close(): Promise<void> {
    return this.#handle.close();
  }
}

/** The error of a file or folder that cannot be read. */
export function readError(path: string, cause: unknown): DataError {
  // The system's own message repeats the path.
  const reason = (cause instanceof Error ? cause.message : String(cause)).replace(
    /, \w+ '.*$/s,
    '',
  );
  return new DataError(`${shortText(path)} cannot be read: ${reason}.`, {
    code: 'E_DATA_READ',
    hint: 'Check the path, the permissions and the disk.',
    cause,
  });
}

function changed(path: string): DataError {
  return new DataError(`${shortText(path)} has changed while it is in use.`, {
    code: 'E_DATA_CHANGED',
    hint: 'Leave data files as they are until the run has ended, then start again.',
  });
}
