/** The pictures that a run has told of: only these are shown. */
import { isAbsolute, join } from 'node:path';

import type { RunLog } from './run-log.js';
import { startedIn } from './run-control.js';

/** Files by the paths under which events name them. */
export async function readablePictures(log: RunLog): Promise<ReadonlyMap<string, string>> {
  const named = new Set<string>();
  for (const event of log.ofType('probes')) {
    for (const { images } of (event['answers'] ?? []) as { images?: unknown }[]) take(images);
  }
  for (const event of log.ofType('diagnosis')) {
    for (const record of (event['records'] ?? []) as { images?: unknown }[]) take(record.images);
  }
  const folder = await startedIn(log.folder);
  return new Map([...named].map((path) => [path, isAbsolute(path) ? path : join(folder, path)]));

  function take(images: unknown): void {
    if (!Array.isArray(images)) return;
    for (const image of images) if (typeof image === 'string') named.add(image);
  }
}
