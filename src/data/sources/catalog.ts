/** All records of all sources under one number: files one after another, in the order of the recipe. */
import { DataError } from '../../base/errors.js';
import type { SourceRecipe } from '../../config/schema/recipe.js';
import { DataFile } from './data-file.js';
import { findFiles, type FindOptions } from './find-files.js';
import { indexJson } from './json-table.js';
import { indexParquet } from './parquet-table.js';
import type { NumberedFile, TableSpec } from './open-table.js';

export interface CatalogSource {
  readonly path: string;
  readonly weight: number;
  /** Number of its first record. */
  readonly first: number;
  /** Records in its files. */
  readonly count: number;
  /** Records that are used: the first ones, up to the source's `limit`. */
  readonly taken: number;
  readonly files: readonly NumberedFile[];
}

/**
 * Finds the records of sources.
 *
 * @param first number of the first record
 * @throws DataError E_DATA_EMPTY for a source without records; those of `findFiles`, `indexJson`, `indexParquet`
 */
export async function openCatalog(
  sources: readonly SourceRecipe[],
  { first = 0, ...options }: FindOptions & { first?: number } = {},
): Promise<CatalogSource[]> {
  const opened: CatalogSource[] = [];
  let next = first;
  for (const source of sources) {
    const { files: paths, images } = await findFiles(source, options);
    const files: NumberedFile[] = [];
    const start = next;
    for (const path of paths) {
      const table = await indexFile(path, options.signal);
      files.push({ first: next, table, images });
      next += table.count;
    }
    const count = next - start;
    if (count === 0) throw empty(`${source.path} holds no records.`);
    opened.push({
      path: source.path,
      weight: source.weight,
      first: start,
      count,
      taken: Math.min(count, source.limit ?? count),
      files,
    });
  }
  return opened;
}

export function empty(message: string): DataError {
  return new DataError(message, {
    code: 'E_DATA_EMPTY',
    hint: 'Check the path, the limits and the weights of the sources.',
  });
}

async function indexFile(path: string, signal?: AbortSignal): Promise<TableSpec> {
  const file = await DataFile.open(path);
  try {
    const isParquet =
      file.identity.size >= 4 && (await file.read(0, 4)).toString('latin1') === 'PAR1';
    return isParquet ? await indexParquet(file) : await indexJson(file, signal);
  } finally {
    await file.close();
  }
}
