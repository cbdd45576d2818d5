/**
 * From the name of a model or dataset to a folder on this machine: a local path as it is, a name on the hub through
 * the cache that Python shares.
 *
 * `@huggingface/hub` answers what a repository holds. Choosing files, resuming, checking, locking, progress and stopping are done
 * here, since its `snapshotDownload` does none of them and prints to the console.
 */
import { EnvironmentError, PatinaError } from '../errors.js';
import { writeError } from '../system-error.js';
import { RepositoryCache } from './cache.js';
import { cachedSnapshot } from './cached-snapshot.js';
import { HubClient } from './client.js';
import { fetchAll, type FetchOptions, type Listing } from './fetch-all.js';
import { chooseFiles, sample } from './pick.js';
import { hubSettings, type Environment, type HubToken } from './settings.js';
import { isCommit, parseSource, type Repository, type RepositoryKind } from './source.js';

export type { HubEvent, HubNotice, HubProgress } from './fetch-all.js';

export interface ResolveOptions extends FetchOptions {
  /** @default 'model' */
  kind?: RepositoryKind | undefined;
  /** Branch, tag or commit; also as `name@revision`. @default 'main' */
  revision?: string | undefined;
  /** Patterns of the files to fetch (`*` within a folder, `**` across), in place of Patina's choice. */
  files?: readonly string[] | undefined;
  /** A token, or false for none. @default the environment's */
  token?: string | false | undefined;
  /** Use the cache alone. @default `HF_HUB_OFFLINE` */
  offline?: boolean | undefined;
  /** @default the environment's, see `describeHub` */
  cacheFolder?: string | undefined;
  /** Seconds before the first retry. @default 1 */
  retryDelay?: number;
  signal?: AbortSignal | undefined;
  /** @default process.env */
  env?: Environment;
}

/**
 * The local folder (or file) of `nameOrPath`, downloaded first if it is a name on the hub and not yet cached.
 *
 * What exists on disk is returned as an absolute path. A name is `organisation/name` with an optional `@revision`.
 * When the hub cannot be reached, a complete cached copy serves and a notice says so.
 *
 * @throws UsageError E_HUB_NAME, E_HUB_REVISION_NAME, E_HUB_ENDPOINT
 * @throws DataError E_PATH_MISSING, E_HUB_NOT_FOUND, E_HUB_REVISION, E_HUB_FILE, E_HUB_CHECKSUM, E_HUB_RESPONSE
 * @throws EnvironmentError E_HUB_OFFLINE, E_HUB_UNREACHABLE, E_HUB_GATED, E_HUB_TOKEN, E_HUB_FORBIDDEN, E_DISK_FULL,
 *   E_UNWRITABLE
 */
export async function resolveModel(
  nameOrPath: string,
  options: ResolveOptions = {},
): Promise<string> {
  const source = parseSource(nameOrPath, options);
  if (source.type === 'local') return source.path;
  const { env = process.env, signal } = options;
  const settings = hubSettings(env);
  const offline = options.offline ?? settings.offline;
  const cache = new RepositoryCache(
    options.cacheFolder ?? settings.cacheFolder,
    source.repository,
    settings,
  );
  signal?.throwIfAborted();
  if (offline) {
    const cached = await cachedSnapshot(cache, source.repository, options.files);
    if (cached.folder !== undefined) return cached.folder;
    throw notCached(source.repository, cached.missing);
  }
  const stop = new AbortController();
  const client = new HubClient(
    source.repository,
    { ...settings, token: tokenOf(options.token, settings.token) },
    {
      signal: AbortSignal.any(signal === undefined ? [stop.signal] : [stop.signal, signal]),
      onNotice: (message) => options.onDownload?.({ type: 'notice', message }),
      ...(options.retryDelay !== undefined && { retryDelay: options.retryDelay }),
    },
  );
  const listing = await lookUp(client, cache, source.repository, options);
  if ('folder' in listing) return listing.folder;
  try {
    await fetchAll(client, cache, listing, stop, options);
  } catch (error) {
    throw writeError(error, cache.folder, `store ${source.repository.name}`);
  }
  // Only now, so that an older whole copy serves offline while a newer one is half here.
  await cache.setCommit(source.repository.revision, listing.commit).catch(() => undefined);
  return cache.snapshot(listing.commit);
}

/** What is to be fetched; or, when the hub does not answer, the folder of a complete cached copy. */
async function lookUp(
  client: HubClient,
  cache: RepositoryCache,
  repository: Repository,
  options: ResolveOptions,
): Promise<Listing | { folder: string }> {
  const { revision } = repository;
  try {
    const commit = isCommit(revision) ? revision : await client.commit();
    let tree = await cache.tree(commit);
    if (tree === undefined) {
      tree = await client.list(commit);
      // A cache that is read-only still serves what it holds.
      await cache.setTree(commit, tree).catch(() => undefined);
    }
    return { commit, files: chooseFiles(tree, repository, options.files) };
  } catch (error) {
    const absent = error instanceof PatinaError && ABSENT.has(error.code);
    if (!(error instanceof PatinaError) || absent) throw error;
    const { folder } = await cachedSnapshot(cache, repository, options.files);
    if (folder === undefined) throw error;
    const message = `${error.message} The copy in the cache serves in its place: ${folder}`;
    options.onDownload?.({ type: 'notice', message });
    return { folder };
  }
}

/** Refusals that a cached copy must not hide. */
const ABSENT = new Set(['E_HUB_REVISION', 'E_HUB_FILE']);

function tokenOf(
  option: string | false | undefined,
  found: HubToken | undefined,
): HubToken | undefined {
  const token =
    option === undefined ? found : option ? { value: option, source: 'options' } : undefined;
  if (token === undefined || /^[!-~]+$/.test(token.value)) return token;
  throw new EnvironmentError(`The token from ${token.source} holds characters that no token has.`, {
    code: 'E_HUB_TOKEN',
    hint: 'Copy the token again, without spaces, quotes or dots in its middle.',
  });
}

function notCached({ kind, name, revision }: Repository, missing: string[]): EnvironmentError {
  const where = `${name} (${revision})`;
  const lack =
    missing.length === 0 ? 'is not in the cache' : `lacks ${sample(missing)} in the cache`;
  return new EnvironmentError(`The ${kind} ${where} ${lack}, and the network is switched off.`, {
    code: 'E_HUB_OFFLINE',
    hint: 'Unset HF_HUB_OFFLINE, or download it on a connected machine and copy the cache folder here.',
  });
}
