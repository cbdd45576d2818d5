/**
 * From the name of a model or dataset to a folder on this machine: a local path as it is, a name on the hub through
 * the cache that Python shares.
 *
 * `@huggingface/hub` answers what a repository holds. Choosing files, resuming, checking and locking are done here,
 * since its own downloads do none of them and print to the console.
 */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import { requireFree } from '../disk-space.js';
import { DataError, EnvironmentError, PatinaError } from '../errors.js';
import { writeError } from '../system-error.js';
import { RepositoryCache, sizeOf } from './cache.js';
import { HubClient, type HubFile } from './client.js';
import { downloadBlob } from './download.js';
import { isWeights, matchFiles, pickFiles } from './pick.js';
import { hubSettings, type Environment } from './settings.js';
import { isCommit, parseSource, type Repository, type RepositoryKind } from './source.js';

/** How far a download is; sent when a file begins or ends and about ten times a second in between. */
export interface HubProgress {
  type: 'progress';
  repository: string;
  /** The file that moved last. */
  file: string;
  /** Bytes here and bytes in all, of the files that had to be fetched. */
  bytes: number;
  totalBytes: number;
  files: number;
  totalFiles: number;
}

/** Something that a person may want to know: a retry, a resumed file, a cached copy used in place of a dead hub. */
export interface HubNotice {
  type: 'notice';
  message: string;
}

export type HubEvent = HubProgress | HubNotice;

export interface ResolveOptions {
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
  /** Files fetched at the same time. @default 4 */
  concurrency?: number;
  /** Seconds before the first retry. @default 1 */
  retryDelay?: number;
  signal?: AbortSignal | undefined;
  onProgress?: ((event: HubEvent) => void) | undefined;
  /** @default process.env */
  env?: Environment;
}

const PROGRESS_INTERVAL = 100;

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
    const cached = await complete(cache, source.repository, options);
    if (cached.folder !== undefined) return cached.folder;
    throw notCached(source.repository, cached.missing);
  }
  const stop = new AbortController();
  const client = new HubClient(
    source.repository,
    { ...settings, token: tokenOf(options.token, settings.token) },
    {
      signal: AbortSignal.any(signal === undefined ? [stop.signal] : [stop.signal, signal]),
      onNotice: (message) => options.onProgress?.({ type: 'notice', message }),
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
  return cache.snapshot(listing.commit);
}

interface Listing {
  commit: string;
  files: HubFile[];
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
    await cache.setCommit(revision, commit).catch(() => undefined);
    return { commit, files: choose(tree, repository, options) };
  } catch (error) {
    const absent = error instanceof PatinaError && ABSENT.has(error.code);
    if (!(error instanceof PatinaError) || absent) throw error;
    const { folder } = await complete(cache, repository, options);
    if (folder === undefined) throw error;
    const message = `${error.message} The copy in the cache serves in its place: ${folder}`;
    options.onProgress?.({ type: 'notice', message });
    return { folder };
  }
}

/** Refusals that a cached copy must not hide. */
const ABSENT = new Set(['E_HUB_REVISION', 'E_HUB_FILE']);

function choose(
  tree: readonly HubFile[],
  { kind, name }: Repository,
  { files }: ResolveOptions,
): HubFile[] {
  const paths = tree.map(({ path }) => path);
  const unmatched = files?.find((pattern) => matchFiles(paths, [pattern]).length === 0);
  const chosen = new Set(files === undefined ? pickFiles(paths, kind) : matchFiles(paths, files));
  if (unmatched !== undefined || chosen.size === 0) {
    const what = unmatched === undefined ? 'no file that Patina can use' : `no file ${unmatched}`;
    throw new DataError(`The ${kind} ${name} has ${what}; it holds ${sample(paths)}.`, {
      code: 'E_HUB_FILE',
      hint: 'Check the name, the revision and the file patterns.',
    });
  }
  return tree.filter(({ path }) => chosen.has(path));
}

/**
 * The cached snapshot of a repository, if it is there and lacks nothing that matters: files that were asked for by
 * pattern, and all weights. Small files may be missing where Python fetched a part; whoever needs one says so.
 */
async function complete(
  cache: RepositoryCache,
  repository: Repository,
  options: ResolveOptions,
): Promise<{ folder?: string; missing: string[] }> {
  const commit = await cache.commit(repository.revision);
  if (commit === undefined) return { missing: [] };
  const folder = cache.snapshot(commit);
  const present = await readdir(folder, { recursive: true }).catch(() => []);
  if (present.length === 0) return { missing: [] };
  const tree = await cache.tree(commit);
  const missing: string[] = [];
  if (tree === undefined) {
    missing.push(...(await missingShards(folder, present)));
  } else {
    for (const file of choose(tree, repository, options)) {
      const needed = options.files !== undefined || isWeights(file.path);
      if (needed && !(await cache.has(commit, file))) missing.push(file.path);
    }
  }
  return missing.length > 0 ? { missing } : { folder, missing };
}

/** Without a listing, the index of sharded weights tells what must be there. */
async function missingShards(folder: string, present: readonly string[]): Promise<string[]> {
  const missing: string[] = [];
  for (const index of present.filter((path) => path.endsWith('.safetensors.index.json'))) {
    try {
      const text = await readFile(join(folder, index), 'utf8');
      const { weight_map: shards } = JSON.parse(text) as { weight_map: Record<string, string> };
      const beside = index.slice(0, index.lastIndexOf('/') + 1);
      const names = new Set(Object.values(shards).map((shard) => `${beside}${shard}`));
      missing.push(...[...names].filter((name) => !present.includes(name)));
    } catch {
      missing.push(index);
    }
  }
  return missing;
}

async function fetchAll(
  client: HubClient,
  cache: RepositoryCache,
  { commit, files }: Listing,
  stop: AbortController,
  options: ResolveOptions,
): Promise<void> {
  const wanted = new Map<string, HubFile[]>();
  for (const file of files) {
    if (await cache.has(commit, file)) continue;
    const blob = cache.blob(file);
    wanted.set(blob, [...(wanted.get(blob) ?? []), file]);
  }
  if (wanted.size === 0) return;
  const blobs = [...wanted.values()];
  let missing = 0;
  for (const [file] of blobs) missing += file!.size - ((await sizeOf(cache.partial(file!))) ?? 0);
  await requireFree(cache.folder, missing, client.context.repository.name);
  const report = progressReporter(client.context.repository.name, blobs, options);
  await inParallel(blobs, stop, options.concurrency, async (twins) => {
    const file = twins[0]!;
    await downloadBlob(client, cache, commit, file, {
      onBytes: (bytes) => report(file, bytes, false),
      onNotice: (message) => options.onProgress?.({ type: 'notice', message }),
    });
    for (const twin of twins) await cache.link(commit, twin);
    report(file, file.size, true);
  });
}

function progressReporter(
  repository: string,
  blobs: readonly (readonly HubFile[])[],
  { onProgress }: ResolveOptions,
): (file: HubFile, bytes: number, done: boolean) => void {
  const here = new Map<HubFile, number>();
  const totalBytes = blobs.reduce((sum, [file]) => sum + file!.size, 0);
  let bytes = 0;
  let files = 0;
  let last = 0;
  return (file, bytesOfFile, done) => {
    const begins = !here.has(file);
    bytes += bytesOfFile - (here.get(file) ?? 0);
    here.set(file, bytesOfFile);
    if (done) files++;
    if (!begins && !done && Date.now() - last < PROGRESS_INTERVAL) return;
    last = Date.now();
    const totalFiles = blobs.length;
    onProgress?.({
      type: 'progress',
      repository,
      file: file.path,
      bytes,
      totalBytes,
      files,
      totalFiles,
    });
  };
}

/** Works on `items`, a few at a time; the first failure stops the others and is thrown once they have ended. */
async function inParallel<T>(
  items: readonly T[],
  stop: AbortController,
  concurrency = 4,
  work: (item: T) => Promise<void>,
): Promise<void> {
  const queue = items.values();
  const worker = async (): Promise<void> => {
    for (const item of queue) {
      if (stop.signal.aborted) return;
      await work(item);
    }
  };
  let failure: { error: unknown } | undefined;
  const workers = Array.from({ length: Math.max(1, concurrency) }, () =>
    worker().catch((error: unknown) => {
      failure ??= { error };
      stop.abort();
    }),
  );
  await Promise.all(workers);
  if (failure !== undefined) throw failure.error;
}

function tokenOf(
  option: string | false | undefined,
  found: ReturnType<typeof hubSettings>['token'],
): ReturnType<typeof hubSettings>['token'] {
  if (option === undefined) return found;
  return option === false || option === '' ? undefined : { value: option, source: 'options' };
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

function sample(paths: readonly string[]): string {
  const more = paths.length > 5 ? ` and ${paths.length - 5} more` : '';
  return (paths.slice(0, 5).join(', ') || 'nothing') + more;
}
