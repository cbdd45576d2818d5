/** For this room's tests: folders with records and pictures, and recipes over them. */
import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import sharp from 'sharp';

import { packageRoot } from '../base/native-path.js';
import type { InputFacts } from '../models/sample.js';
import type { DataRecipe } from './dataset.js';
import type { LoaderSpec } from './loading/record-loader.js';

/** A model with pictures of 8 x 8 pixels that become 4 tokens. */
export const INPUT: InputFacts = {
  vocabSize: 1600,
  image: { tokenId: 1600, tokens: 4, size: 8 },
};

export const TOKENIZER = join(packageRoot(), 'test', 'fixtures', 'encode', 'tokenizer');

export class TestFolder {
  private constructor(readonly path: string) {}

  static async make(): Promise<TestFolder> {
    return new TestFolder(await mkdtemp(join(tmpdir(), 'patina-data-')));
  }

  at(name: string): string {
    return join(this.path, name);
  }

  async write(name: string, content: string | Uint8Array): Promise<string> {
    const path = this.at(name);
    await mkdir(dirname(path), { recursive: true });
    await writeFile(path, content);
    return path;
  }

  writeLines(name: string, records: readonly unknown[]): Promise<string> {
    return this.write(name, records.map((record) => `${JSON.stringify(record)}\n`).join(''));
  }

  /** A PNG of one colour. */
  async writeImage(name: string, red = 0): Promise<string> {
    return this.write(name, await pngBytes(red));
  }

  remove(): Promise<void> {
    return rm(this.path, { recursive: true, force: true });
  }
}

export function pngBytes(red: number): Promise<Buffer> {
  const background = { r: red, g: 10, b: 20 };
  return sharp({ create: { width: 12, height: 10, channels: 3, background } })
    .png()
    .toBuffer();
}

/** A LLaVA record with an answer of some length, and an image if one is named. */
export function record(id: string | number, words = 3, image?: string): Record<string, unknown> {
  const question = `${image === undefined ? '' : '<image>\n'}What about ${id}?`;
  return {
    id,
    ...(image === undefined ? {} : { image }),
    conversations: [
      { from: 'human', value: question },
      { from: 'gpt', value: Array.from({ length: words }, () => 'yes').join(' ') },
    ],
  };
}

const TEXT: DataRecipe['text'] = {
  template: 'llama3_chat',
  maxLength: 512,
  overlong: 'truncate',
  specialTokens: 'text',
};
const IMAGE = { mode: 'pad', reading: 'turned' } as const;

export interface RecipeOptions {
  data?: Partial<DataRecipe['data']>;
  text?: Partial<DataRecipe['text']>;
  validation?: Partial<NonNullable<DataRecipe['validation']>>;
  seed?: number;
}

/** A recipe over files, each a path or a source. */
export function dataRecipe(
  sources: readonly (string | Partial<DataRecipe['data']['sources'][number]>)[],
  { data, text, validation, seed = 7 }: RecipeOptions = {},
): DataRecipe {
  return {
    data: {
      sources: sources.map((source) => ({
        path: '',
        weight: 1,
        ...(typeof source === 'string' ? { path: source } : source),
      })),
      shuffle: true,
      grouping: 'none',
      workers: 0,
      badRecords: 'stop',
      ...data,
    },
    text: { ...TEXT, ...text },
    image: IMAGE,
    validation: validation && { everyUpdates: 1, minimumImprovement: 0, tasks: [], ...validation },
    seed,
  };
}

/** What a loader of some files needs. */
export function loaderSpec(files: LoaderSpec['files']): LoaderSpec {
  return { files, tokenizer: TOKENIZER, text: TEXT, image: IMAGE, input: INPUT };
}
