/** Reading parts of a file: the only door through which the readers of checkpoint formats touch the disk. */
import { open, stat } from 'node:fs/promises';

import { DataError, EnvironmentError, OutOfMemoryError } from '../base/errors.js';
import { errorCode } from '../base/system-error.js';

/** Something with bytes at known places. */
export interface ByteSource {
  /** What messages call it: the file's path. */
  readonly path: string;
  readonly size: number;
  /** Fills `into`, or new memory, with `length` bytes from `offset`; refuses a range that leaves the file. */
  read(offset: number, length: number, into?: Uint8Array): Promise<Uint8Array>;
  close(): Promise<void>;
}

/** Opens a file for reading. Refuses whatever is no plain file: reading from a pipe could wait for ever. */
export async function openSource(path: string): Promise<ByteSource> {
  try {
    const status = await stat(path);
    if (!status.isFile()) {
      throw new DataError(`${path} is not a file.`, {
        code: 'E_NOT_A_FILE',
        hint: 'Name the file itself.',
      });
    }
    const file = await open(path, 'r');
    const { size } = await file.stat();
    return {
      path,
      size,
      async read(offset, length, into) {
        checkRange(path, size, offset, length);
        const bytes = into?.subarray(0, length) ?? allocate(path, length);
        for (let done = 0; done < length;) {
          // One call of the system reads less than 2 GiB.
          const piece = Math.min(length - done, 2 ** 30);
          const { bytesRead } = await file.read(bytes, done, piece, offset + done);
          if (bytesRead === 0) throw truncated(path, offset + length, offset + done);
          done += bytesRead;
        }
        return bytes;
      },
      close: () => file.close(),
    };
  } catch (error) {
    throw readError(error, path);
  }
}

/** Bytes in memory as a source. */
export function memorySource(path: string, bytes: Uint8Array): ByteSource {
  return {
    path,
    size: bytes.length,
    // A refused range becomes a rejection, as it does for files.
    read: (offset, length) =>
      Promise.resolve().then(() => {
        checkRange(path, bytes.length, offset, length);
        // A copy, which `slice` of a Buffer would not be.
        return new Uint8Array(bytes.subarray(offset, offset + length));
      }),
    close: () => Promise.resolve(),
  };
}

function allocate(path: string, length: number): Uint8Array {
  try {
    return new Uint8Array(length);
  } catch (error) {
    throw new OutOfMemoryError(`No memory to hold ${length} bytes of ${path} at once.`, {
      code: 'E_HOST_MEMORY',
      hint: 'Free some memory of this machine, or save the weights as safetensors, which are read in pieces.',
      cause: error,
    });
  }
}

function checkRange(path: string, size: number, offset: number, length: number): void {
  const whole = Number.isSafeInteger(offset) && Number.isSafeInteger(length);
  if (!whole || offset < 0 || length < 0 || offset + length > size) {
    throw truncated(path, offset + length, size);
  }
}

function truncated(path: string, end: number, size: number): DataError {
  return new DataError(`${path} is cut short: ${end} bytes are needed, ${size} are there.`, {
    code: 'E_TRUNCATED',
    hint: 'Download or copy the file again.',
  });
}

/** The typed error for a file or folder that cannot be read, or `error` itself when it is neither absent nor forbidden. */
export function readError(error: unknown, path: string): unknown {
  const code = errorCode(error);
  if (code === 'ENOENT' || code === 'ENOTDIR') {
    return new DataError(`${path} does not exist.`, {
      code: 'E_FILE_MISSING',
      hint: 'Check the path.',
      cause: error,
    });
  }
  if (code === 'EACCES' || code === 'EPERM') {
    return new EnvironmentError(`No right to read ${path} (${code}).`, {
      code: 'E_UNREADABLE',
      hint: 'Change its rights, or copy it to where you may read.',
      cause: error,
    });
  }
  return error;
}
