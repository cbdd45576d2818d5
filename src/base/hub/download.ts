/**
 * One blob from the hub to the cache: resumed where it broke off, checked against the hub's hash, whole or absent; none of which
 * `downloadFileToCacheDir` of @huggingface/hub does (it begins anew, checks nothing, lets two processes write one file).
 */
import { createHash, type Hash } from 'node:crypto';
import { mkdir, open, rename, rm, type FileHandle } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';

import { DataError } from '../errors.js';
import { waitForLock } from '../lock-file.js';
import { malformed, PassingFailure } from './answer.js';
import { sizeOf, type RepositoryCache } from './cache.js';
import type { HubClient, HubFile } from './client.js';

export interface DownloadOptions {
  /** Told how many bytes of the file are here: what an earlier try left counts, a broken rest is taken off again. */
  onBytes?: (bytes: number) => void;
  onNotice?: (message: string) => void;
}

/**
 * Makes sure that the blob of `file` is in the cache.
 *
 * The partial file is Patina's own (Python writes to others), guarded by a lock: a second process waits and then finds
 * the blob. It is renamed to its final name only when size and hash are right.
 *
 * @throws DataError E_HUB_CHECKSUM if the content is not what the hub says it is.
 */
export async function downloadBlob(
  client: HubClient,
  cache: RepositoryCache,
  commit: string,
  file: HubFile,
  { onBytes = () => undefined, onNotice = () => undefined }: DownloadOptions = {},
): Promise<void> {
  const blob = cache.blob(file);
  await mkdir(dirname(blob), { recursive: true });
  await mkdir(cache.locks, { recursive: true });
  const lock = await waitForLock(join(cache.locks, `${basename(blob)}.patina.lock`), {
    signal: client.signal,
    onWait: ({ host, pid }) =>
      onNotice(`${file.path}: process ${pid} on ${host} is downloading it; waiting`),
  });
  try {
    if ((await sizeOf(blob)) === file.size) {
      onBytes(file.size);
      return;
    }
    const partial = await Partial.open(cache.partial(file), file, onBytes);
    try {
      if (partial.size > 0) onNotice(`${file.path}: going on after ${partial.size} bytes`);
      await fill(partial, client, commit, file);
      await partial.sync();
    } finally {
      await partial.close();
    }
    await rename(partial.path, blob);
  } finally {
    lock.release();
  }
}

async function fill(
  partial: Partial,
  client: HubClient,
  commit: string,
  file: HubFile,
): Promise<void> {
  const resumed = partial.size > 0;
  await client.persist(`Downloading ${file.path}`, () => receive(partial, client, commit, file), {
    position: () => partial.size,
  });
  const found = partial.hash();
  const promised = file.sha256 ?? file.gitHash;
  if (found === promised) return;
  await partial.restart();
  // What an earlier try left may be the broken part; a file that came in one piece is simply wrong.
  if (resumed) return fill(partial, client, commit, file);
  await rm(partial.path, { force: true });
  throw new DataError(
    `${file.path} of ${client.context.repository.name} arrived broken: its hash is ${found}, the hub promised ${promised}.`,
    {
      code: 'E_HUB_CHECKSUM',
      hint: 'Run the same command again; if it repeats, a proxy or mirror between here and the hub changes files.',
    },
  );
}

/** One request for what is still missing. */
async function receive(
  partial: Partial,
  client: HubClient,
  commit: string,
  file: HubFile,
): Promise<void> {
  if (partial.size === file.size) return;
  const headers: Record<string, string> = { 'accept-encoding': 'identity' };
  if (partial.size > 0) headers['range'] = `bytes=${partial.size}-`;
  await client.once(
    client.address(file.path, commit),
    { headers },
    async (response, alive) => {
      if (!continues(response, partial.size)) {
        // The hub sends the whole file, or another piece than asked for.
        const whole = response.status === 200;
        await partial.restart();
        if (!whole) {
          await response.body?.cancel();
          throw new PassingFailure(`the hub answered ${response.status} to a range`, {});
        }
      }
      const body = (response.body ?? []) as AsyncIterable<Uint8Array> | Uint8Array[];
      for await (const piece of body) {
        alive();
        if (partial.size + piece.length > file.size) {
          await partial.restart();
          throw malformed(client.context, `${file.path} is longer than ${file.size} bytes`);
        }
        await partial.append(piece);
      }
      if (partial.size < file.size) throw new PassingFailure('the connection ended early', {});
    },
    (status) => status === 200 || status === 206 || status === 416,
  );
}

function continues(response: Response, size: number): boolean {
  if (response.status !== 206) return response.status === 200 && size === 0;
  const start = /^bytes (\d+)-/.exec(response.headers.get('content-range') ?? '')?.[1];
  return Number(start) === size && !response.headers.has('content-encoding');
}

/** The file that grows, and the hash of what it holds. */
class Partial {
  readonly path: string;
  size = 0;
  readonly #handle: FileHandle;
  readonly #file: HubFile;
  readonly #onBytes: (bytes: number) => void;
  #hash: Hash;

  private constructor(
    path: string,
    handle: FileHandle,
    file: HubFile,
    onBytes: (bytes: number) => void,
  ) {
    this.path = path;
    this.#handle = handle;
    this.#file = file;
    this.#onBytes = onBytes;
    this.#hash = startHash(file);
  }

  static async open(
    path: string,
    file: HubFile,
    onBytes: (bytes: number) => void,
  ): Promise<Partial> {
    const handle = await open(path, 'a+');
    const partial = new Partial(path, handle, file, onBytes);
    try {
      await partial.#readWhatIsThere();
    } catch (error) {
      await handle.close();
      throw error;
    }
    return partial;
  }

  async append(piece: Uint8Array): Promise<void> {
    await this.#handle.appendFile(piece);
    this.#take(piece);
  }

  /** Forgets everything got so far. */
  async restart(): Promise<void> {
    await this.#handle.truncate(0);
    this.size = 0;
    this.#hash = startHash(this.#file);
    this.#onBytes(0);
  }

  hash(): string {
    return this.#hash.copy().digest('hex');
  }

  async sync(): Promise<void> {
    await this.#handle.sync();
  }

  async close(): Promise<void> {
    await this.#handle.close();
  }

  async #readWhatIsThere(): Promise<void> {
    if ((await this.#handle.stat()).size > this.#file.size) return this.restart();
    const buffer = Buffer.alloc(1 << 20);
    for (;;) {
      const { bytesRead } = await this.#handle.read(buffer, 0, buffer.length, this.size);
      if (bytesRead === 0) return;
      this.#take(buffer.subarray(0, bytesRead));
    }
  }

  #take(piece: Uint8Array): void {
    this.#hash.update(piece);
    this.size += piece.length;
    this.#onBytes(this.size);
  }
}

/** SHA-256 of large files; for others the hash of git's object `blob <size>\0<content>`. */
function startHash({ sha256, gitHash, size }: HubFile): Hash {
  if (sha256 !== undefined) return createHash('sha256');
  return createHash(gitHash.length === 64 ? 'sha256' : 'sha1').update(`blob ${size}\0`);
}
