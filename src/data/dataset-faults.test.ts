/** What is wrong with data, and how a run says so. */
import { execFile } from 'node:child_process';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import type { InputFacts } from '../models/sample.js';
import { openDataset, type DataRecipe } from './dataset.js';
import type { UpdateData } from './loading/batches.js';
import { dataRecipe, INPUT, record, TestFolder, TOKENIZER, type RecipeOptions } from './testing.js';

let folder: TestFolder;
beforeAll(async () => {
  folder = await TestFolder.make();
  await folder.writeImage('a.png');
  await folder.write('text.png', '<!doctype html>');
  await folder.write('empty.json', '[]');
  await folder.write('cut.json', '[{"id": 1}, {"id"');
  await folder.writeLines('good.jsonl', [record('good', 2)]);
});
afterAll(() => folder.remove());

interface Fault {
  name: string;
  /** The second line of a file whose others are good; or the name of a file. */
  line?: unknown;
  file?: string;
  options?: RecipeOptions;
  weight?: number;
  input?: Partial<InputFacts>;
  tokenizer?: string;
  code: string;
  message: string | RegExp;
  exitCode?: number;
  /** Whether the fault shows when data are opened, before anything is loaded. */
  opening?: boolean;
}

const unanswered = { id: 1, messages: [{ role: 'user', content: 'Hello?' }] };
const image = (name: string): unknown => record('x', 2, name);
const LINE = 'data.jsonl:2';

const FAULTS: Fault[] = [
  // Opening
  { name: 'a missing file', file: 'none.jsonl', code: 'E_PATH_MISSING', message: 'No such file' },
  { name: 'no records', file: 'empty.json', code: 'E_DATA_EMPTY', message: 'holds no records' },
  {
    name: 'a file that is cut',
    file: 'cut.json',
    code: 'E_DATA_JSON',
    message: 'record 2: a part',
  },
  {
    name: 'a file of something else',
    file: 'a.png',
    code: 'E_DATA_FORMAT',
    message: 'neither JSON',
  },
  {
    name: 'nothing left to train on',
    file: 'good.jsonl',
    options: { validation: { fraction: 0.1 } },
    code: 'E_DATA_EMPTY',
    message: 'leave no record',
  },
  {
    name: 'a tiny weight',
    file: 'good.jsonl',
    weight: 0.1,
    code: 'E_DATA_EMPTY',
    message: 'weights',
  },
  {
    name: 'an unknown template',
    file: 'good.jsonl',
    options: { text: { template: 'llama9' } },
    code: 'E_TEMPLATE_UNKNOWN',
    message: 'llama9',
    exitCode: 2,
  },
  {
    name: 'no tokenizer',
    file: 'good.jsonl',
    tokenizer: '/nowhere',
    code: 'E_TOKENIZER_MISSING',
    message: '/nowhere',
  },
].map((fault) => ({ ...fault, opening: true }));

FAULTS.push(
  // Loading
  { name: 'no object', line: 7, code: 'E_RECORD_SHAPE', message: LINE },
  {
    name: 'an unknown role',
    line: { conversations: [{ from: 'x' }] },
    code: 'E_RECORD_ROLE',
    message: LINE,
  },
  {
    name: 'no answer',
    line: unanswered,
    code: 'E_RECORD_TURNS',
    message: `${LINE}, id 1: messages has`,
  },
  {
    name: 'no placeholder',
    line: { ...record('p'), image: 'a.png' },
    code: 'E_RECORD_IMAGES',
    message: `${LINE}, id "p": 0 placeholders (<image>) for 1 image.`,
  },
  {
    name: 'a missing image',
    line: image('b.png'),
    code: 'E_IMAGE_UNREADABLE',
    message: 'b.png: there is no such file.',
  },
  {
    name: 'a web page',
    line: image('text.png'),
    code: 'E_IMAGE_TYPE',
    message: 'text.png: the file is a web page',
  },
  {
    name: 'an image on the network',
    line: image('http://a.org/a.png'),
    code: 'E_IMAGE_UNREADABLE',
    message: 'not fetched from the network',
  },
  {
    name: 'an image for a model without eyes',
    line: image('a.png'),
    input: { image: null },
    code: 'E_IMAGE_UNWANTED',
    message: LINE,
  },
  {
    name: 'nothing supervised once it is cut',
    line: record('long question '.repeat(40)),
    options: { text: { maxLength: 60 } },
    code: 'E_ANSWER_CUT',
    message:
      /data\.jsonl:2, id ".*": no token of the record is learned once it is cut at 60 tokens\.$/,
  },
  {
    name: 'an image beyond the limit',
    line: image('a.png'),
    input: { image: { ...INPUT.image!, tokens: 100 } },
    options: { text: { maxLength: 60 } },
    code: 'E_IMAGE_CUT',
    message: LINE,
  },
  {
    name: 'a record over the limit',
    line: record('long', 200),
    options: { text: { maxLength: 60, overlong: 'stop' }, data: { badRecords: 'skip' } },
    code: 'E_OVERLONG',
    message: /data\.jsonl:2: Record "long" has \d+ tokens, more than the limit of 60/,
  },
  {
    name: 'what nobody expects',
    line: image('a.png'),
    input: { image: { ...INPUT.image!, tokens: 2 ** 33 } },
    options: { text: { maxLength: 2 ** 40 }, data: { badRecords: 'skip' } },
    code: 'E_RECORD_FAILED',
    message: /data\.jsonl:2: loading failed: RangeError/,
    exitCode: 1,
  },
  {
    name: "another model's tokenizer",
    line: record('x'),
    input: { vocabSize: 300 },
    options: { data: { badRecords: 'skip' } },
    code: 'E_VOCABULARY',
    message: /is outside of the model's vocabulary of 300/,
  },
);

async function recipeOf({ file, line, options, weight = 1 }: Fault): Promise<DataRecipe> {
  const path = file
    ? folder.at(file)
    : await folder.writeLines('data.jsonl', [record('one', 1), line, record('three', 1)]);
  const data = { shuffle: false, ...options?.data };
  return dataRecipe([{ path, weight }], { ...options, data });
}

const expected = ({ code, message, exitCode = 4 }: Fault): object => ({
  code,
  exitCode,
  message: (typeof message === 'string'
    ? expect.stringContaining(message)
    : expect.stringMatching(message)) as string,
  hint: expect.stringMatching(/^[A-Z].*\.$/) as string,
});

describe('data that cannot be used', () => {
  it.each(FAULTS)('$name: $code', async (fault) => {
    const recipe = await recipeOf(fault);
    const input = { ...INPUT, ...fault.input };
    const opened = openDataset(recipe, { tokenizer: fault.tokenizer ?? TOKENIZER, input });
    if (fault.opening) {
      await expect(opened).rejects.toMatchObject(expected(fault));
      return;
    }
    const dataset = await opened;
    const load = async (): Promise<void> => {
      const updates = dataset.updates({ batchSize: 1, count: 3 });
      while (!(await updates.next()).done);
    };
    await expect(load()).rejects.toMatchObject(expected(fault));
    await dataset.close();
  });

  it('are the same errors from a worker', async () => {
    const faults = FAULTS.filter(({ name }) => /missing image|record over/.test(name));
    expect(faults).toHaveLength(2);
    for (const fault of faults) {
      const recipe = await recipeOf(fault);
      const data = { ...recipe.data, workers: 1 };
      const dataset = await openDataset(
        { ...recipe, data },
        { tokenizer: TOKENIZER, input: INPUT },
      );
      const updates = dataset.updates({ batchSize: 3 });
      await expect(updates.next()).rejects.toMatchObject({ name: 'DataError', ...expected(fault) });
      await dataset.close();
    }
  });

  it('can be left out: bad and overlong records, each by its own choice', async () => {
    const long = record('long', 200);
    const path = await folder.writeLines('skip.jsonl', [record('one', 1), long, { id: 2 }]);
    const recipe = dataRecipe([path], {
      data: { shuffle: false, badRecords: 'skip' },
      text: { maxLength: 60, overlong: 'skip' },
    });
    const dataset = await openDataset(recipe, { tokenizer: TOKENIZER, input: INPUT });
    const { value } = await dataset.updates({ batchSize: 3 }).next();
    expect((value as UpdateData).rejected.map(({ code, kind }) => [code, kind])).toEqual([
      ['E_OVERLONG', 'overlong'],
      ['E_RECORD_SHAPE', 'bad'],
    ]);
    await dataset.close();
  });

  it('do not matter where an overlong record is cut, which is counted', async () => {
    const path = await folder.writeLines('long.jsonl', [record('long', 200), record('short', 1)]);
    const recipe = dataRecipe([path], { text: { maxLength: 60 } });
    const dataset = await openDataset(recipe, { tokenizer: TOKENIZER, input: INPUT });
    const { value } = await dataset.updates({ batchSize: 2 }).next();
    const { counts, microBatches } = value as UpdateData;
    expect(counts.truncated).toBe(1);
    expect(Math.max(...microBatches[0]!.samples.map(({ inputIds }) => inputIds.length))).toBe(60);
    await dataset.close();
  });

  it('are found when a file changes under a run', async () => {
    const path = await folder.writeLines('changing.jsonl', [record('one', 1)]);
    const recipe = dataRecipe([path]);
    const dataset = await openDataset(recipe, { tokenizer: TOKENIZER, input: INPUT });
    await folder.writeLines('changing.jsonl', [record('other', 5)]);
    await expect(dataset.updates({ batchSize: 1 }).next()).rejects.toMatchObject({
      code: 'E_DATA_CHANGED',
    });
    await dataset.close();
  });
});

describe('a process with workers', () => {
  const run = promisify(execFile);
  const module = pathToFileURL(join(packageRoot(), 'dist', 'src', 'data', 'index.js')).href;

  it.each([
    ['closes them', 'await dataset.close();'],
    ['forgets them', ''],
    [
      'closes them with work under way',
      'const next = updates.next().catch(() => 0); await dataset.close(); await next;',
    ],
  ])('ends by itself when it %s', async (_, ending) => {
    const recipe = dataRecipe([folder.at('good.jsonl')], { data: { workers: 2 } });
    const script = `
      import { openDataset } from ${JSON.stringify(module)};
      const options = ${JSON.stringify({ tokenizer: TOKENIZER, input: INPUT })};
      const dataset = await openDataset(${JSON.stringify(recipe)}, options);
      const updates = dataset.updates({ batchSize: 1 });
      await updates.next();
      ${ending}
      console.log('done');`;
    const { stdout } = await run(process.execPath, ['--input-type=module', '-e', script], {
      timeout: 20_000,
    });
    expect(stdout).toBe('done\n');
  });
});
