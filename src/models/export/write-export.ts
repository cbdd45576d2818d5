/** The folder that an export makes: small files and weights, whole or absent. */
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';

import { requireFree } from '../../base/disk-space.js';
import { writeWholeFolder } from '../../base/whole-folder.js';
import type { WeightSource } from '../../formats/layouts/inspect.js';
import { writeShards } from '../../formats/safetensors/shards.js';
import { tensorBytes } from '../../formats/safetensors/layout.js';
import type { TensorSource } from '../../formats/safetensors/write.js';
import { checkSources } from './check-target.js';
import type { ExportOptions } from './export-options.js';
import type { Companion } from './small-files.js';

/** Weights of one folder. */
export interface Content {
  /** Relative to the folder that is written. */
  readonly inside: string;
  /** First part of the files' names. @default 'model' */
  readonly stem?: string;
  readonly tensors: readonly TensorSource[];
}

export interface ExportContents {
  readonly files: readonly Companion[];
  readonly contents: readonly Content[];
  /** Where it all comes from. */
  readonly sources: readonly Pick<WeightSource, 'files'>[];
}

/** Writes everything and returns the names of the files, relative to the folder. */
export async function writeExport(
  folder: string,
  what: string,
  { files, contents, sources }: ExportContents,
  { signal, shardBytes, replace = false, onProgress }: ExportOptions,
): Promise<string[]> {
  await checkSources(
    folder,
    sources.flatMap((source) => source.files),
  );
  const total = totalBytes(contents);
  let done = 0;
  const count = (bytes: number): void => onProgress?.((done += bytes), total);
  await requireFree(folder, total, `the ${what}`);
  const written = await writeWholeFolder(
    folder,
    async (temporary) => {
      const names = await writeCompanions(temporary, files);
      for (const { inside, stem, tensors } of contents) {
        const shards = await writeShards(
          join(temporary, inside),
          tensors.map((each) => counted(each, count)),
          {
            ...(stem === undefined ? {} : { stem }),
            ...(shardBytes === undefined ? {} : { shardBytes }),
            signal,
          },
        );
        names.push(...shards.map((name) => join(inside, name)));
      }
      return names;
    },
    { what, replace, signal },
  );
  return written.sort();
}

/** The tensor, whose bytes are counted when they are written. */
function counted(tensor: TensorSource, count: (bytes: number) => void): TensorSource {
  return {
    ...tensor,
    async *bytes() {
      const content = await tensor.bytes();
      for await (const piece of content instanceof Uint8Array ? [content] : content) {
        yield piece;
        count(piece.length);
      }
    },
  };
}

/** Bytes of all tensors. */
export function totalBytes(contents: readonly Content[]): number {
  return contents
    .flatMap(({ tensors }) => tensors)
    .reduce((sum, tensor) => sum + tensorBytes(tensor), 0);
}

/** Writes small files, and returns their names. */
export async function writeCompanions(
  folder: string,
  files: readonly Companion[],
): Promise<string[]> {
  for (const { name, content } of files) {
    const path = join(folder, name);
    await mkdir(dirname(path), { recursive: true });
    // Not a copy of the file, which would have its rights too.
    const bytes = typeof content === 'string' ? content : await readFile(content.path);
    await writeFile(path, bytes, { flag: 'wx' });
  }
  return files.map(({ name }) => name);
}
