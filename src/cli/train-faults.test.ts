/** What goes wrong before and within `patina train`: what it says, how it ends, and that nothing half-written is left. */
import { spawnSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { stringify } from 'yaml';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import type { RecipeInput } from '../config/index.js';
import { listCheckpoints, listRuns, RunFolder } from '../train/index.js';
import { colourRecord, ColourFolder, TINY_CONFIG } from '../train/testing-files.js';
import { patina, type Ended } from './testing.js';

let folder: ColourFolder;
beforeAll(async () => {
  folder = await ColourFolder.make();
  const png = readFileSync(at('0.png'));
  writeFileSync(at('cut.png'), png.subarray(0, png.length - 20));
  writeFileSync(at('page.png'), '<!doctype html><title>Not found</title>');
});
afterAll(() => folder.remove());
afterEach(() => rmSync(folder.runs, { recursive: true, force: true }));

const at = (...path: string[]): string => folder.at(...path);
const records = (name: string, list: readonly unknown[]): string => folder.writeRecords(name, list);

/** A file in the folder; its path. */
function file(name: string, text: string): string {
  writeFileSync(at(name), text);
  return at(name);
}
const yaml = (more: object): string => file('bad.yaml', stringify({ ...folder.recipe(), ...more }));
const script = (more: object): string =>
  file('bad.ts', `export default ${JSON.stringify({ ...folder.recipe(), ...more }, null, 2)};\n`);
/** The line of `bad.yaml` that begins with this key. */
const lineOf = (key: string): number =>
  readFileSync(at('bad.yaml'), 'utf8')
    .split('\n')
    .findIndex((line) => line.trim().startsWith(key)) + 1;
const recipe = (more: Partial<RecipeInput> = {}): string =>
  file('recipe.json', JSON.stringify(folder.recipe(more)));
/** A recipe that trains on these records alone, in order. */
const trainingOn = (list: readonly unknown[], more: Partial<RecipeInput> = {}): string =>
  recipe({
    data: { sources: [records('records.jsonl', list)], shuffle: false, workers: 0 },
    ...more,
  });

interface Fault {
  name: string;
  /** Arguments after `train`. */
  args: () => string[];
  code: string;
  exit: number;
  /** What the message names: file, line, field, value. */
  says: readonly (string | RegExp | (() => string))[];
  hint: RegExp;
  /** The run that is left says that it failed. Without it no run is left. */
  failed?: boolean;
}

const good = (i: number): object => colourRecord(i);

const FAULTS: Fault[] = [
  // --- The recipe
  {
    name: 'an unknown key in YAML',
    args: () => [yaml({ optimiser: { learningRate: 1 } })],
    code: 'E_RECIPE',
    exit: 2,
    says: [
      () => `bad.yaml:${lineOf('optimiser')}:1: optimiser: unknown key. Did you mean "optimizer"?`,
    ],
    hint: /recipe\.schema\.json/,
  },
  {
    name: 'an unknown key in TypeScript',
    args: () => [script({ memory: { polcy: 'keep' } })],
    code: 'E_RECIPE',
    exit: 2,
    says: [/bad\.ts:\d+: memory\.polcy: unknown key\. Did you mean "policy"\?/],
    hint: /recipe\.schema\.json/,
  },
  {
    name: 'a wrong type in YAML',
    args: () => [yaml({ batchSize: 'two' })],
    code: 'E_RECIPE',
    exit: 2,
    says: [
      () => `bad.yaml:${lineOf('batchSize')}:`,
      'batchSize: expected a whole number of at least 1, got "two"',
    ],
    hint: /Mend the recipe/,
  },
  {
    name: 'a wrong type in TypeScript',
    args: () => [script({ data: { sources: 'one.jsonl' } })],
    code: 'E_RECIPE',
    exit: 2,
    says: [/bad\.ts:\d+: data\.sources: expected a list that is not empty, got "one\.jsonl"/],
    hint: /Mend the recipe/,
  },
  {
    name: 'bad values, all of them at once',
    args: () => [yaml({ optimizer: { learningRate: -1 }, device: 'gpu' })],
    code: 'E_RECIPE',
    exit: 2,
    says: [
      /bad\.yaml:\d+:\d+: optimizer\.learningRate: expected a number above 0, got -1/,
      /bad\.yaml:\d+:\d+: device: expected "auto", "cpu", "cuda" or "cuda:<index>"/,
    ],
    hint: /Mend the recipe/,
  },
  {
    name: 'an unknown name of a value',
    args: () => [script({ schedule: { decay: 'cosin' } })],
    code: 'E_RECIPE',
    exit: 2,
    says: [
      /bad\.ts:\d+: schedule\.decay: expected "cosine", "linear" or "constant", got "cosin"/,
      'Did you mean "cosine"?',
    ],
    hint: /Mend the recipe/,
  },
  {
    name: 'a contradiction',
    args: () => [yaml({ train: { projector: 'frozen', decoder: 'frozen' } })],
    code: 'E_RECIPE',
    exit: 2,
    says: [/bad\.yaml:\d+:\d+: train: nothing would learn/],
    hint: /Mend the recipe/,
  },
  {
    name: 'YAML that is none',
    args: () => [file('bad.yaml', 'name: x\n  data: [')],
    code: 'E_RECIPE',
    exit: 2,
    says: [/bad\.yaml:2/],
    hint: /Mend/,
  },
  {
    name: 'TypeScript that does not run',
    args: () => [file('bad.ts', 'export default {')],
    code: 'E_RECIPE_LOAD',
    exit: 2,
    says: ['bad.ts:1 does not run'],
    hint: /Mend the file/,
  },
  {
    name: 'a file without a recipe',
    args: () => [file('bad.ts', 'export const recipe = {};')],
    code: 'E_RECIPE_EXPORT',
    exit: 2,
    says: ['bad.ts exports no recipe'],
    hint: /export default defineRecipe/,
  },
  {
    name: 'another kind of file',
    args: () => [file('./notes.toml', '')],
    code: 'E_RECIPE_KIND',
    exit: 2,
    says: ['notes.toml'],
    hint: /\.yaml/,
  },
  {
    name: 'an unknown recipe',
    args: () => ['llava-llama-3-8b-pretrian'],
    code: 'E_RECIPE_UNKNOWN',
    exit: 2,
    says: ['llava-llama-3-8b-pretrian'],
    hint: /Did you mean llava-llama-3-8b-pretrain\?/,
  },
  {
    name: 'a missing recipe',
    args: () => [at('none.yaml')],
    code: 'E_RECIPE_MISSING',
    exit: 2,
    says: ['none.yaml does not exist'],
    hint: /patina recipes list/,
  },
  {
    name: '--set of an unknown field',
    args: () => [recipe(), '--set', 'optimizer.learningrate=1'],
    code: 'E_RECIPE',
    exit: 2,
    says: [
      '--set optimizer.learningrate=1: optimizer.learningrate: unknown key. Did you mean "learningRate"?',
    ],
    hint: /Mend/,
  },
  {
    name: '--set without a value',
    args: () => [recipe(), '--set', 'batchSize'],
    code: 'E_RECIPE',
    exit: 2,
    says: ['--set batchSize: expected FIELD=VALUE'],
    hint: /Mend/,
  },
  {
    name: '--set of a wrong value',
    args: () => [recipe(), '--set', 'batchSize=0'],
    code: 'E_RECIPE',
    exit: 2,
    says: ['--set batchSize=0: batchSize: expected a whole number of at least 1, got 0'],
    hint: /Mend/,
  },
  {
    name: 'a target that matches nothing',
    args: () => [recipe({ train: { decoder: { lora: { targets: ['*.nothing'] } } } })],
    code: 'E_TRAIN_PATTERN',
    exit: 2,
    says: ['*.nothing'],
    hint: /\.$/,
  },
  {
    name: 'update-in-backward with accumulation',
    args: () => [
      recipe({
        optimizer: { learningRate: 1, updateInBackward: true, clipNorm: null },
        effectiveBatch: 4,
      }),
    ],
    code: 'E_UPDATE_IN_BACKWARD',
    exit: 2,
    says: ['accumulates 2 micro-batches'],
    hint: /Set `accumulate` to 1/,
  },

  // --- What the recipe names
  {
    name: 'missing files, all of them at once, before anything is loaded',
    args: () => [
      recipe({
        model: { llm: './no-llm', vision: './no-vision', projector: './projector' },
        data: { sources: [{ path: './none.jsonl', origin: 'the moon' }] },
        probes: { questions: [{ text: 'What?', images: ['./none.png'] }] },
      }),
    ],
    code: 'E_PATH_MISSING',
    exit: 4,
    says: [
      /^error: model\.llm: No such file or folder: .*no-llm$/m,
      /^model\.vision: .*no-vision$/m,
      /^model\.projector: .*projector$/m,
      /^data\.sources\.0\.path: .*none\.jsonl\n {2}to be had: the moon$/m,
      /^probes\.questions\.0\.images: .*none\.png$/m,
    ],
    hint: /\.$/,
  },
  {
    name: 'a built-in second stage without its first',
    args: () => ['llava-llama-3-8b-lora', '--data', at('one.jsonl')],
    code: 'E_PATH_MISSING',
    exit: 4,
    says: [/model\.projector: No such file or folder: .*\/projector/],
    hint: /Train the first stage.*--set model\.projector=runs\/NAME/,
  },
  {
    name: 'a built-in recipe without its data',
    args: () => ['llava-llama-3-8b-pretrain'],
    code: 'E_PATH_MISSING',
    exit: 4,
    says: [
      /data\.sources\.0\.path: No such file or folder: .*blip_laion_cc_sbu_558k\.json/,
      'to be had: https://huggingface.co/datasets/liuhaotian/LLaVA-Pretrain',
      /data\.sources\.0\.images: No such file/,
    ],
    hint: /--data FILE/,
  },
  {
    name: 'missing data by --data',
    args: () => [recipe(), '--data', at('none.json')],
    code: 'E_PATH_MISSING',
    exit: 4,
    says: ['data.sources.0.path: No such file or folder:', 'none.json'],
    hint: /--data FILE/,
  },
  {
    name: 'what is neither a path nor a name',
    args: () => [recipe(), '--set', 'model={ from: "not a model!" }'],
    code: 'E_HUB_NAME',
    exit: 2,
    says: ['model.from: "not a model!" is neither'],
    hint: /organisation\/name/,
  },
  {
    name: 'a tokenizer that is none',
    args: () => [recipe({ model: { config: TINY_CONFIG, tokenizer: folder.path } })],
    code: 'E_TOKENIZER_MISSING',
    exit: 4,
    says: ['tokenizer.json'],
    hint: /tokenizer\.json/,
  },
  {
    name: 'a configuration that is none',
    args: () => [
      recipe({
        model: {
          config: { ...TINY_CONFIG, text_config: { hidden_size: 'x' } },
          tokenizer: at('tokenizer'),
        },
      }),
    ],
    code: 'E_CONFIG',
    exit: 4,
    says: ['model.config', 'text_config'],
    hint: /\.$/,
  },
  {
    name: 'a GPU that is not there',
    args: () => [recipe(), '--set', 'device=cuda:7'],
    code: 'E_NO_',
    exit: 3,
    says: ['cuda:7'],
    hint: /device|GPU/,
  },

  // --- The data
  {
    name: 'an empty data set',
    args: () => [trainingOn([])],
    code: 'E_DATA_EMPTY',
    exit: 4,
    says: ['records.jsonl'],
    hint: /\.$/,
  },
  {
    name: 'a data file that is cut',
    args: () => [recipe(), '--data', file('cut.json', '[{"id": 1}, {"id"')],
    code: 'E_DATA_JSON',
    exit: 4,
    says: ['cut.json'],
    hint: /\.$/,
  },
  ...(
    [
      ['missing', 'gone.png', 'E_IMAGE_UNREADABLE', 'there is no such file'],
      ['cut', 'cut.png', 'E_IMAGE_', ''],
      ['a web page', 'page.png', 'E_IMAGE_TYPE', 'web page'],
    ] as const
  ).map(([what, image, code, says]) => ({
    name: `a picture that is ${what}`,
    args: () => [trainingOn([good(0), colourRecord(1, image)])],
    code,
    exit: 4,
    says: ['records.jsonl:2', image, says],
    hint: /\.$/,
    failed: true,
  })),
  {
    name: 'a record without turns',
    args: () => [trainingOn([good(0), { id: 'empty', conversations: [] }])],
    code: 'E_RECORD_TURNS',
    exit: 4,
    says: ['records.jsonl:2', '"empty"'],
    hint: /\.$/,
    failed: true,
  },
  {
    name: 'a record whose answer is cut off',
    args: () => [trainingOn([colourRecord(1, null)], { text: { maxLength: 12 } })],
    code: 'E_ANSWER_CUT',
    exit: 4,
    says: ['records.jsonl:1'],
    hint: /\.$/,
    failed: true,
  },
  {
    name: 'a record longer than the limit',
    args: () => [trainingOn([good(1)], { text: { maxLength: 12, overlong: 'stop' } })],
    code: 'E_OVERLONG',
    exit: 4,
    says: ['records.jsonl:1', '12'],
    hint: /\.$/,
    failed: true,
  },
  {
    name: 'nothing but bad records',
    args: () => [trainingOn([{ id: 1 }, { id: 2 }], {}), '--set', 'data.badRecords=skip'],
    code: 'E_DATA_',
    exit: 4,
    says: [/record/],
    hint: /\.$/,
    failed: true,
  },

  // --- The run's folder
  {
    name: 'a folder of runs that is a file',
    args: () => [recipe({ run: { root: at('one.jsonl') } })],
    code: 'E_UNWRITABLE',
    exit: 3,
    says: ['one.jsonl', 'is a file, not a folder'],
    hint: /what is in the way/,
  },
];

function expectEnd({ code, out, err }: Ended, fault: Omit<Fault, 'args' | 'name'>): void {
  expect({ code, out }, err).toEqual({ code: fault.exit, out: '' });
  for (const part of fault.says) {
    const wanted = typeof part === 'function' ? part() : part;
    if (typeof wanted === 'string') expect(err).toContain(wanted);
    else expect(err).toMatch(wanted);
  }
  expect(err).toMatch(new RegExp(`^code: ${fault.code}`, 'm'));
  expect(/^hint: (.+)$/m.exec(err)?.[1]).toMatch(fault.hint);
}

/** Every run is whole: it has its files and no lock, and no checkpoint is half written. */
async function expectWhole(states: readonly string[]): Promise<void> {
  const runs = await listRuns(folder.runs);
  expect(runs.map(({ state }) => state)).toEqual(states);
  const names = existsSync(folder.runs) ? readdirSync(folder.runs) : [];
  expect(names).toHaveLength(runs.length);
  for (const { path } of runs) {
    expect(readdirSync(path)).not.toContain('run.lock');
    const inside = readdirSync(join(path, 'checkpoints'));
    expect(inside).toHaveLength((await listCheckpoints(join(path, 'checkpoints'))).length);
  }
}

describe('patina train', () => {
  test.each(FAULTS)('$name: $code, exit $exit', async (fault) => {
    const ended = await patina('train', ...fault.args());
    expectEnd(ended, fault);
    await expectWhole(fault.failed === true ? ['failed'] : []);
  });
});

describe('patina train --resume', () => {
  const UPDATES = 4;
  let path: string;
  async function begin(): Promise<void> {
    const made = recipe({
      run: { root: folder.runs, name: 'mine' },
      checkpoints: { everyUpdates: 2 },
    });
    expect(await patina('train', made, '--max-updates', String(UPDATES))).toMatchObject({
      code: 0,
    });
    path = join(folder.runs, 'mine');
  }
  const damage = (...parts: string[]): void => appendFileSync(join(path, ...parts), 'x');
  const damageAll = (): void => {
    for (const name of readdirSync(join(path, 'checkpoints'))) {
      damage('checkpoints', name, 'model.safetensors');
    }
  };

  const cases: (Omit<Fault, 'args'> & {
    spoil?: () => unknown;
    args: () => string[];
    state?: string;
  })[] = [
    {
      name: 'a run that does not exist',
      args: () => [join(folder.runs, 'mines')],
      code: 'E_NO_RUN',
      exit: 2,
      says: ['mines'],
      hint: /patina runs|Did you mean/,
    },
    {
      name: 'a run without its state',
      spoil: () => rmSync(join(path, 'state.json')),
      args: () => [path],
      code: 'E_NO_RUN',
      exit: 2,
      says: ['mine'],
      hint: /patina runs/,
      state: '',
    },
    {
      name: 'a run whose recipe is damaged',
      spoil: () => writeFileSync(join(path, 'recipe.json'), '{'),
      args: () => [path],
      code: 'E_RUN_BROKEN',
      exit: 4,
      says: ['recipe.json'],
      hint: /Begin a new run/,
    },
    {
      name: 'a run whose checkpoints are all damaged',
      spoil: damageAll,
      args: () => [path],
      code: 'E_CHECKPOINT_BROKEN',
      exit: 4,
      says: [/update-0000000\d is damaged: model\.safetensors has \d+ bytes, not \d+/],
      hint: /earlier checkpoint/,
    },
    {
      name: 'a run of other weights',
      args: () => [path, '--set', 'train.decoder={ lora: { rank: 2 } }'],
      code: 'E_CHECKPOINT_TENSORS',
      exit: 4,
      says: ['lora_'],
      hint: /\.$/,
    },
    {
      name: 'a run on other data',
      args: () => [path, '--data', at('one.jsonl')],
      code: 'E_CURSOR',
      exit: 4,
      says: [/data/],
      hint: /\.$/,
    },
    {
      name: 'a wrong field over its recipe',
      args: () => [path, '--set', 'schedule.epoch=2'],
      code: 'E_RECIPE',
      exit: 2,
      says: ['--set schedule.epoch=2: schedule.epoch: unknown key. Did you mean "epochs"?'],
      hint: /Mend/,
    },
    {
      name: 'a run whose data is gone',
      args: () => [path, '--set', `data.sources=[${JSON.stringify('./gone.jsonl')}]`],
      code: 'E_PATH_MISSING',
      exit: 4,
      says: ['data.sources.0.path'],
      hint: /--data FILE/,
    },
  ];

  test.each(cases)(
    '$name: $code, exit $exit',
    async ({ spoil, state = 'interrupted', ...fault }) => {
      await begin();
      spoil?.();
      const before =
        existsSync(join(path, 'state.json')) && readFileSync(join(path, 'state.json'), 'utf8');
      expectEnd(await patina('train', '--resume', ...fault.args()), fault);
      if (state === '') return;
      // The run is as it was, and can be gone on with once the fault is mended.
      await expectWhole([state]);
      expect(readFileSync(join(path, 'state.json'), 'utf8')).toBe(before);
    },
  );

  test('a run that is in use: E_RUN_IN_USE, exit 3', async () => {
    await begin();
    const held = await RunFolder.open(path);
    try {
      expectEnd(await patina('train', '--resume', path), {
        code: 'E_RUN_IN_USE',
        exit: 3,
        says: [`process ${process.pid}`],
        hint: /Wait for it, stop it/,
      });
    } finally {
      held.close();
    }
    await expectWhole(['interrupted']);
  });

  test('a run of a name that is taken: E_RUN_EXISTS, exit 2', async () => {
    await begin();
    expectEnd(await patina('train', at('recipe.json')), {
      code: 'E_RUN_EXISTS',
      exit: 2,
      says: ['mine exists already'],
      hint: /--resume/,
    });
    await expectWhole(['interrupted']);
  });

  test('the newest checkpoint damaged: goes on from the one before, and says so', async () => {
    await begin();
    damage('checkpoints', 'update-00000004', 'optimizer.safetensors');
    const { code, err } = await patina('train', '--resume', path, '--max-updates', '5');
    expect(code, err).toBe(0);
    expect(err).toMatch(/warning: .*update-00000004 is damaged.*\[E_CHECKPOINT_BROKEN\]/);
    expect(err).toContain('goes on after update 2');
  });

  test('a log that the disk does not take: E_DISK_FULL, exit 3', async () => {
    await begin();
    rmSync(join(path, 'events.jsonl'));
    symlinkSync('/dev/full', join(path, 'events.jsonl'));
    expectEnd(await patina('train', '--resume', path), {
      code: 'E_DISK_FULL',
      exit: 3,
      says: ['events.jsonl'],
      hint: /Free some space/,
    });
    await expectWhole(['failed']);
  });
});

test('a folder of runs without the right to write: E_UNWRITABLE, exit 3', async () => {
  const made = recipe();
  mkdirSync(folder.runs);
  chmodSync(folder.runs, 0o555);
  chmodSync(folder.path, 0o755);
  // Root may write everywhere, so it becomes nobody for a moment.
  const isRoot = process.geteuid!() === 0;
  if (isRoot) process.seteuid!(65534);
  try {
    expectEnd(await patina('train', made), {
      code: 'E_UNWRITABLE',
      exit: 3,
      says: [folder.runs, 'EACCES'],
      hint: /folder that you may write to/,
    });
  } finally {
    if (isRoot) process.seteuid!(0);
    chmodSync(folder.runs, 0o755);
  }
  await expectWhole([]);
});

/** A disk of its own, in memory, for one process; needs the right to make name spaces. */
const ownDisk = (size: string): string[] => [
  '-rm',
  'sh',
  '-c',
  `mount -t tmpfs -o size=${size} none "$1" && shift && exec "$@"`,
  'sh',
];
const canMount = (): boolean =>
  spawnSync('unshare', [...ownDisk('1m'), tmpdir(), 'true']).status === 0;

describe.skipIf(!canMount())('a disk that is full', () => {
  const module = pathToFileURL(join(packageRoot(), 'dist', 'src', 'index.js')).href;
  const onDisk = (size: string, script: string): string => {
    mkdirSync(folder.runs);
    const program = `
      import { readdirSync, rmSync, statfsSync, writeFileSync } from 'node:fs';
      import { join } from 'node:path';
      import { resumeRun, train } from ${JSON.stringify(module)};
      const root = ${JSON.stringify(folder.runs)};
      const recipe = ${JSON.stringify(folder.recipe({ checkpoints: { everyUpdates: 2 } }))};
      ${script}`;
    const args = [
      ...ownDisk(size),
      folder.runs,
      process.execPath,
      '--input-type=module',
      '-e',
      program,
    ];
    const { stdout, stderr, status } = spawnSync('unshare', args, { encoding: 'utf8' });
    expect(status, stderr).toBe(0);
    return stdout;
  };

  test('before the run begins makes no run', () => {
    const script = `
      try { for await (const _ of train(recipe)); } catch ({ code, exitCode, message, hint }) {
        console.log(JSON.stringify({ code, exitCode, message, hint, left: readdirSync(root) }));
      }`;
    expect(JSON.parse(onDisk('512k', script))).toEqual({
      code: 'E_DISK_FULL',
      exitCode: 3,
      message: expect.stringMatching(/Too little disk space.*the checkpoints of the run/) as string,
      hint: expect.stringMatching(
        /^Free at least .* KiB, or choose a folder on another disk\.$/,
      ) as string,
      left: [],
    });
  });

  test('at a save leaves the checkpoints before it whole; the run goes on once there is room', () => {
    const script = `
      const filler = join(root, 'filler');
      const free = () => { const { bavail, bsize } = statfsSync(root); return bavail * bsize; };
      let run, failure;
      try {
        for await (const event of train(recipe)) {
          if (event.type === 'start') run = event.run;
          // Room for the logs, none for a checkpoint.
          if (event.type === 'checkpoint') writeFileSync(filler, Buffer.alloc(free() - 65536));
        }
      } catch ({ code, exitCode, message }) { failure = { code, exitCode, message }; }
      const left = readdirSync(join(run, 'checkpoints'));
      rmSync(filler);
      let end, resumedFrom;
      for await (const event of resumeRun(run)) {
        if (event.type === 'start') resumedFrom = event.resumedFrom;
        end = event;
      }
      console.log(JSON.stringify({ failure, left, resumedFrom, reason: end.reason, update: end.update }));`;
    expect(JSON.parse(onDisk('4m', script))).toEqual({
      failure: {
        code: 'E_DISK_FULL',
        exitCode: 3,
        message: expect.stringMatching(
          /could not write the checkpoint at .*update-00000004/,
        ) as string,
      },
      left: ['update-00000002'],
      resumedFrom: 2,
      reason: 'finished',
      update: 10,
    });
  });
});
