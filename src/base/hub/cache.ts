/**
 * The cache that Python's `huggingface_hub` shares, one folder per repository. (@huggingface/hub can scan and fill it, but moves a
 * branch before its files are there, and fetches every file of a repository.)
 *
 *     models--org--name/refs/main              the commit that a branch stood for when last asked
 *     models--org--name/blobs/<hash>           contents, named by SHA-256 (large files) or git hash
 *     models--org--name/snapshots/<commit>/    the repository's tree, links into blobs/
 *     models--org--name/trees/<commit>.json    the listing of that commit, all files
 */
import { randomBytes } from 'node:crypto';
import { copyFile, mkdir, readFile, readlink, rename, rm, stat, symlink } from 'node:fs/promises';
import { dirname, join, relative } from 'node:path';

import { jsonText } from '../json-text.js';
import { errorCode } from '../system-error.js';
import { writeWholeFile } from '../whole-file.js';
import type { HubFile } from './client.js';
import { isCommit, staysInside, type Repository } from './source.js';

const TREE_FORMAT = 1;

export class RepositoryCache {
  readonly folder: string;
  /** Where locks of this repository's blobs lie. */
  readonly locks: string;
  readonly #copies: boolean;

  constructor(cacheFolder: string, { kind, name }: Repository, { copies = false } = {}) {
    const repository = `${kind}s--${name.replaceAll('/', '--')}`;
    this.folder = join(cacheFolder, repository);
    this.locks = join(cacheFolder, '.locks', repository);
    this.#copies = copies;
  }

  snapshot(commit: string): string {
    return join(this.folder, 'snapshots', commit);
  }

  blob(file: HubFile): string {
    return join(this.folder, 'blobs', file.sha256 ?? file.gitHash);
  }

  /** Where the blob of `file` grows; Python uses other names, so neither disturbs the other. */
  partial(file: HubFile): string {
    return `${this.blob(file)}.patina.incomplete`;
  }

  /** The commit that `revision` stood for when last asked, or undefined. */
  async commit(revision: string): Promise<string | undefined> {
    if (isCommit(revision)) return revision;
    const commit = (await read(join(this.folder, 'refs', revision)))?.trim();
    return commit !== undefined && isCommit(commit) ? commit : undefined;
  }

  async setCommit(revision: string, commit: string): Promise<void> {
    if (revision === commit || (await this.commit(revision)) === commit) return;
    await writeWholeFile(join(this.folder, 'refs', revision), commit);
  }

  /** The listing of `commit`, or undefined if it is not known here. */
  async tree(commit: string): Promise<HubFile[] | undefined> {
    const text = await read(join(this.folder, 'trees', `${commit}.json`));
    if (text === undefined) return undefined;
    try {
      return readTree(JSON.parse(text));
    } catch {
      return undefined; // Another format or a torn file: the hub is asked again.
    }
  }

  async setTree(commit: string, files: readonly HubFile[]): Promise<void> {
    const sorted = [...files].sort((a, b) => (a.path < b.path ? -1 : 1));
    const entries = sorted.map(({ path, size, gitHash, sha256, xetHash }) => [
      path,
      {
        size,
        blob_id: gitHash,
        ...(sha256 && { lfs_sha256: sha256, lfs_size: size }),
        ...(xetHash && { xet_hash: xetHash }),
      },
    ]);
    const tree = { format_version: TREE_FORMAT, files: Object.fromEntries(entries) as unknown };
    await writeWholeFile(join(this.folder, 'trees', `${commit}.json`), jsonText(tree));
  }

  /** Whether the snapshot of `commit` holds `file` with the size that the hub tells. */
  async has(commit: string, file: HubFile): Promise<boolean> {
    return (await sizeOf(join(this.snapshot(commit), file.path))) === file.size;
  }

  /** Lets the snapshot of `commit` show `file`, whose blob is there. */
  async link(commit: string, file: HubFile): Promise<void> {
    const blob = this.blob(file);
    const path = join(this.snapshot(commit), file.path);
    await mkdir(dirname(path), { recursive: true });
    const target = relative(dirname(path), blob);
    if ((await readlink(path).catch(() => '')) === target) return;
    // Made aside and renamed, so that no reader ever finds the name missing or half copied.
    const aside = `${path}.${randomBytes(4).toString('hex')}.tmp`;
    try {
      if (this.#copies || !(await linked(target, aside))) await copyFile(blob, aside);
      await rename(aside, path);
    } finally {
      await rm(aside, { force: true });
    }
  }
}

/** The size of what `path` leads to, or undefined where there is nothing. */
export async function sizeOf(path: string): Promise<number | undefined> {
  try {
    const facts = await stat(path);
    return facts.isFile() ? facts.size : undefined;
  } catch {
    return undefined;
  }
}

function readTree(tree: unknown): HubFile[] {
  const { format_version: format, files } = tree as { format_version: number; files: object };
  if (format !== TREE_FORMAT) throw new Error(`format ${format}`);
  return Object.entries(files).map(([path, entry]: [string, Record<string, unknown>]) => {
    const { size, blob_id: gitHash, lfs_sha256: sha256, xet_hash: xetHash } = entry;
    const valid =
      staysInside(path) &&
      Number.isSafeInteger(size) &&
      [gitHash, sha256 ?? gitHash].every((hash) => /^[0-9a-f]{40,64}$/.test(String(hash)));
    if (!valid) throw new Error(`bad entry ${path}`);
    return {
      path,
      size: size as number,
      gitHash: gitHash as string,
      ...(typeof sha256 === 'string' && { sha256 }),
      ...(typeof xetHash === 'string' && { xetHash }),
    };
  });
}

async function linked(target: string, path: string): Promise<boolean> {
  try {
    await symlink(target, path);
    return true;
  } catch (error) {
    // Some file systems and some Windows accounts have no symbolic links.
    if (['EPERM', 'ENOSYS', 'ENOTSUP', 'EOPNOTSUPP'].includes(errorCode(error) ?? '')) return false;
    throw error;
  }
}

async function read(path: string): Promise<string | undefined> {
  try {
    return await readFile(path, 'utf8');
  } catch {
    return undefined;
  }
}
