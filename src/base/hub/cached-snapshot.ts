/** What the cache holds of a repository, judged without the hub. */
import { readdir, readFile } from 'node:fs/promises';
import { join } from 'node:path';

import type { RepositoryCache } from './cache.js';
import { chooseFiles, isWeights } from './pick.js';
import type { Repository } from './source.js';

/**
 * The cached snapshot of a repository, if it is there and lacks nothing that matters: files that were asked for by
 * pattern, and all weights. Small files may be missing where Python fetched a part; whoever needs one says so.
 */
export async function cachedSnapshot(
  cache: RepositoryCache,
  repository: Repository,
  patterns: readonly string[] | undefined,
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
    for (const file of chooseFiles(tree, repository, patterns)) {
      const needed = patterns !== undefined || isWeights(file.path);
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
