/** From a source of a recipe to the files that hold its records, and the folder that its images lie in. */
import { type Dirent, existsSync } from 'node:fs';
import { readdir, stat } from 'node:fs/promises';
import { dirname, join, relative, sep } from 'node:path';

import { DataError } from '../../base/errors.js';
import { matchFiles, sample } from '../../base/hub/pick.js';
import { resolveModel, type ResolveOptions } from '../../base/hub/resolve.js';
import type { SourceRecipe } from '../../config/schema/recipe.js';
import { naturalOrder } from '../../formats/natural-order.js';
import { readError } from './data-file.js';

export interface SourceFiles {
  readonly files: readonly string[];
  /** What relative image paths start from. */
  readonly images: string;
}

export type FindOptions = Pick<ResolveOptions, 'signal' | 'onDownload'>;

const DATA_FILE = /\.(parquet|jsonl?)$/i;
const PARQUET = /\.parquet$/i;
/** Descriptions that lie beside the data. */
const DESCRIPTION = /(^|\/)(dataset_infos?|state|config)\.json$/i;
const TRAIN_SPLIT = /(^|[/._-])train([/._-]|$)/i;

/**
 * Finds the files of a source: the file itself; in a folder or a dataset on the hub those that match `files`, else all
 * Parquet files, or else its one JSON file. Where some of them are named as a training split, the others are left out.
 *
 * @throws DataError E_PATH_MISSING, E_DATA_FILES where it is not clear which files are meant; errors of the hub
 */
export async function findFiles(
  { path, images, files: patterns }: SourceRecipe,
  options: FindOptions = {},
): Promise<SourceFiles> {
  const resolved = await resolveModel(path, { ...options, kind: 'dataset', files: patterns });
  if (images !== undefined && !existsSync(images)) {
    throw new DataError(`The image folder ${images} of ${path} does not exist.`, {
      code: 'E_PATH_MISSING',
      hint: "Set the source's `images` to the folder that its records' image paths start from.",
    });
  }
  const found = await look(resolved);
  if (found === 'file') return { files: [resolved], images: images ?? dirname(resolved) };
  const inside = found
    .filter((entry) => !entry.isDirectory())
    .map((entry) => relative(resolved, join(entry.parentPath, entry.name)).split(sep).join('/'))
    .sort(naturalOrder);
  const chosen = patterns ? matching(inside, patterns, path) : chooseFiles(inside, path);
  return { files: chosen.map((file) => join(resolved, file)), images: images ?? resolved };
}

/** The entries of a folder. @throws DataError E_DATA_READ for what is neither file nor folder, or may not be read */
async function look(path: string): Promise<'file' | Dirent[]> {
  try {
    const status = await stat(path);
    if (status.isFile()) return 'file';
    if (!status.isDirectory()) throw new Error('it is no regular file and no folder');
    return await readdir(path, { recursive: true, withFileTypes: true });
  } catch (cause) {
    throw readError(path, cause);
  }
}

function matching(inside: readonly string[], patterns: readonly string[], path: string): string[] {
  const unmatched = patterns.find((pattern) => matchFiles(inside, [pattern]).length === 0);
  const chosen = matchFiles(inside, patterns).filter((file) => DATA_FILE.test(file));
  if (unmatched === undefined && chosen.length > 0) return chosen;
  const pattern = unmatched ?? patterns.join(', ');
  throw filesError(`${path} has no data file ${pattern}; it holds ${sample(inside)}.`);
}

function chooseFiles(inside: readonly string[], path: string): string[] {
  const data = inside.filter((file) => DATA_FILE.test(file) && !DESCRIPTION.test(file));
  const parquet = data.filter((file) => PARQUET.test(file));
  const candidates = parquet.length > 0 ? parquet : data;
  const train = candidates.filter((file) => TRAIN_SPLIT.test(file));
  const chosen = train.length > 0 ? train : candidates;
  if (chosen.length === 0) {
    throw filesError(`${path} holds no Parquet, JSON or JSONL file, but ${sample(inside)}.`);
  }
  if (parquet.length === 0 && chosen.length > 1) {
    throw filesError(`${path} holds ${chosen.length} JSON files: ${sample(chosen)}.`);
  }
  return chosen;
}

function filesError(message: string): DataError {
  return new DataError(message, {
    code: 'E_DATA_FILES',
    hint: "Name one file by the source's `path`, or several by `files`, such as data/train-*.parquet.",
  });
}
