import { execFileSync } from 'node:child_process';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { TestFolder } from '../testing.js';
import { findFiles } from './find-files.js';

let folder: TestFolder;
beforeAll(async () => {
  folder = await TestFolder.make();
  const files = [
    ...['one/data.jsonl', 'one/images/a.png', 'one/dataset_info.json'],
    ...['split/data/train-10.parquet', 'split/data/train-9.parquet', 'split/data/test-1.parquet'],
    ...['split/extra.json', 'all/b.parquet', 'all/a.parquet'],
    ...['many/a.json', 'many/b.jsonl', 'named/train.jsonl', 'named/test.jsonl', 'none/a.csv'],
  ];
  for (const file of files) await folder.write(file, '');
});
afterAll(() => folder.remove());

const find = async (path: string, files?: string[], images?: string): Promise<string[]> => {
  const source = { path: folder.at(path), weight: 1, files };
  const found = await findFiles(images === undefined ? source : { ...source, images });
  return [...found.files, found.images].map((name) => name.slice(folder.path.length + 1));
};

describe('the files of a source', () => {
  it.each([
    ['one/data.jsonl', ['one/data.jsonl', 'one']],
    ['one', ['one/data.jsonl', 'one']],
    ['split', ['split/data/train-9.parquet', 'split/data/train-10.parquet', 'split']],
    ['all', ['all/a.parquet', 'all/b.parquet', 'all']],
    ['named', ['named/train.jsonl', 'named']],
  ])('are found in %s', async (path, files) => {
    expect(await find(path)).toEqual(files);
  });

  it('are those that match, if patterns are given', async () => {
    expect(await find('split', ['**/test-*'])).toEqual(['split/data/test-1.parquet', 'split']);
    expect(await find('many', ['*.json', '*.jsonl'])).toEqual([
      'many/a.json',
      'many/b.jsonl',
      'many',
    ]);
  });

  it('have their images in a folder of their own, if it is named', async () => {
    expect(await find('all/a.parquet', undefined, folder.at('one/images'))).toEqual([
      'all/a.parquet',
      'one/images',
    ]);
  });

  it.each([
    ['many', undefined, 'E_DATA_FILES', 'holds 2 JSON files: a.json, b.jsonl'],
    ['none', undefined, 'E_DATA_FILES', 'holds no Parquet, JSON or JSONL file, but a.csv'],
    ['none', ['*.csv'], 'E_DATA_FILES', 'has no data file *.csv'],
    ['split', ['nothing-*'], 'E_DATA_FILES', 'has no data file nothing-*'],
    ['gone.jsonl', undefined, 'E_PATH_MISSING', 'No such file or folder'],
  ])('are missing or unclear in %s (%j)', async (path, files, code, message) => {
    await expect(find(path, files)).rejects.toMatchObject({
      code,
      message: expect.stringContaining(message) as string,
    });
  });

  it('are neither pipes nor devices, which would be waited for', async () => {
    const pipe = folder.at('pipe.jsonl');
    execFileSync('mkfifo', [pipe]);
    for (const path of [pipe, '/dev/zero']) {
      await expect(findFiles({ path, weight: 1 })).rejects.toMatchObject({ code: 'E_DATA_READ' });
    }
  });

  it('need their folder of images', async () => {
    await expect(find('all', undefined, folder.at('gone'))).rejects.toMatchObject({
      code: 'E_PATH_MISSING',
      message: expect.stringContaining('gone') as string,
    });
  });
});
