/** What the name of a model or dataset means: a path on this machine, or a repository on the hub. */
import { existsSync } from 'node:fs';
import { homedir } from 'node:os';
import { join, resolve } from 'node:path';

import { DataError, UsageError } from '../errors.js';

export type RepositoryKind = 'model' | 'dataset';

/** A repository at a revision: a branch, a tag, or a commit. */
export interface Repository {
  kind: RepositoryKind;
  /** `organisation/name`, or a bare `name` for the hub's oldest ones. */
  name: string;
  revision: string;
}

export type Source = { type: 'local'; path: string } | { type: 'hub'; repository: Repository };

export interface SourceOptions {
  /** @default 'model' */
  kind?: RepositoryKind | undefined;
  /** Branch, tag or commit; wins over the part after `@`. @default 'main' */
  revision?: string | undefined;
}

const DEFAULT_REVISION = 'main';
const NAME_PART = /^\w(?:[\w.-]{0,94}\w)?$/;
/** Names that are meant as files, though they are spelled like a repository. */
const FILE_NAME = /\.(jsonl?|parquet|safetensors|bin|pth|pt|gguf|ya?ml|ts|png|jpe?g)$/i;

/**
 * Reads `nameOrPath`: what exists on disk is local (as in Python, a folder wins over a repository of the same name);
 * what is spelled like a path must exist; the rest is `organisation/name` with an optional `@revision`.
 *
 * @throws DataError E_PATH_MISSING for a path that does not exist.
 * @throws UsageError E_HUB_NAME for what is neither path nor name, E_HUB_REVISION_NAME for an impossible revision.
 */
export function parseSource(
  nameOrPath: string,
  { kind = 'model', revision }: SourceOptions = {},
): Source {
  const path = resolve(nameOrPath.replace(/^~(?=\/|$)/, homedir()));
  if (nameOrPath !== '' && existsSync(path)) return { type: 'local', path };
  const [name, after] = split(nameOrPath);
  const parts = name.split('/');
  const pathLike = /^[./~]|\\|^[a-z]:/i.test(nameOrPath) || parts.length > 2;
  if (nameOrPath !== '' && (pathLike || FILE_NAME.test(nameOrPath))) {
    throw new DataError(`No such file or folder: ${nameOrPath}`, {
      code: 'E_PATH_MISSING',
      hint: `Check the path (looked for ${path}), or give a name on the hub such as organisation/name.`,
    });
  }
  const valid =
    parts.every((part) => NAME_PART.test(part)) && !/--|\.\./.test(name) && !name.endsWith('.git');
  if (!valid) {
    throw new UsageError(`"${nameOrPath}" is neither an existing path nor a name on the hub.`, {
      code: 'E_HUB_NAME',
      hint: `Give the folder of a ${kind}, or its name on the hub in the form organisation/name or organisation/name@revision.`,
    });
  }
  return {
    type: 'hub',
    repository: { kind, name, revision: checkedRevision(revision ?? after ?? DEFAULT_REVISION) },
  };
}

/** Whether a revision is a full commit, which never changes its meaning. */
export function isCommit(revision: string): boolean {
  return /^[0-9a-f]{40}$/.test(revision);
}

/** Whether a relative path stays below the folder that it is joined to; paths come from the hub. */
export function staysInside(path: string): boolean {
  return (
    path !== '' &&
    !/[\\\p{Cc}]|^\/|^[a-z]:/iu.test(path) &&
    path.split('/').every((part) => part !== '' && part !== '.' && part !== '..') &&
    join('/', path) === `/${path}`
  );
}

function split(nameOrPath: string): [string, string?] {
  const at = nameOrPath.indexOf('@');
  return at < 0 ? [nameOrPath] : [nameOrPath.slice(0, at), nameOrPath.slice(at + 1)];
}

function checkedRevision(revision: string): string {
  if (!staysInside(revision)) {
    throw new UsageError(`"${revision}" is no branch, tag or commit.`, {
      code: 'E_HUB_REVISION_NAME',
      hint: 'Give a branch, a tag, or the 40 hexadecimal digits of a commit.',
    });
  }
  return revision;
}
