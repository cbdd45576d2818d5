/** All files of a snapshot: fetched side by side, with one account of how far they are. */
import { requireFree } from '../disk-space.js';
import { sizeOf, type RepositoryCache } from './cache.js';
import type { HubClient, HubFile } from './client.js';
import { downloadBlob } from './download.js';

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

/** Files of a repository at a commit. */
export interface Listing {
  commit: string;
  files: HubFile[];
}

export interface FetchOptions {
  /** Files fetched at the same time. @default 4 */
  concurrency?: number;
  onDownload?: ((event: HubEvent) => void) | undefined;
}

const PROGRESS_INTERVAL = 100;

/** Brings all `files` of a commit into the cache, a few at a time, and links them into its snapshot. */
export async function fetchAll(
  client: HubClient,
  cache: RepositoryCache,
  { commit, files }: Listing,
  stop: AbortController,
  options: FetchOptions,
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
      onNotice: (message) => options.onDownload?.({ type: 'notice', message }),
    });
    for (const twin of twins) await cache.link(commit, twin);
    report(file, file.size, true);
  });
}

function progressReporter(
  repository: string,
  blobs: readonly (readonly HubFile[])[],
  { onDownload }: FetchOptions,
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
    onDownload?.({
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
