/** What goes wrong in and before `patina train --nproc`: the code, one clear error, nothing lost, no process left behind. */
import { existsSync, rmSync } from 'node:fs';
import { createServer, type AddressInfo } from 'node:net';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

import type { RecipeInput } from '../config/index.js';
import { listRuns } from '../train/index.js';
import { colourRecord, ColourFolder } from '../train/testing-files.js';
import {
  checkpointsUnder,
  isAlive,
  run,
  Running,
  savedUnder,
  rankRecipe,
  trainArgs,
} from './testing-ranks.js';

let folder: ColourFolder;
beforeAll(async () => {
  folder = await ColourFolder.make();
});
afterAll(() => folder.remove());
afterEach(() => rmSync(folder.runs, { recursive: true, force: true }));

const recipe = (more?: Partial<RecipeInput>): string => rankRecipe(folder, more);
const train = trainArgs;
describe('a record that cannot be used', () => {
  test('stops at a bad record of any rank, after a checkpoint, and says which', async () => {
    const records = Array.from({ length: 12 }, (_, i) => colourRecord(i));
    // The shortest by far: the second rank gets it.
    records[9] = { id: 'bad', conversations: [] };
    const sources = [folder.writeRecords('bad.jsonl', records)];
    const data = { sources, shuffle: false, workers: 0 };
    const stopped = await run(train(recipe({ data }), '--nproc', '2'));
    expect(stopped.code).toBe(4);
    expect(stopped.err).toMatch(
      /^error: rank 1: \S*bad\.jsonl:10, id "bad": .*\ncode: E_\w+\nhint: .*\n$/,
    );
    expect(await checkpointsUnder(folder.runs)).toEqual([2]);
    const [failed] = await listRuns(folder.runs);
    expect(failed).toMatchObject({ state: 'failed' });
    rmSync(folder.runs, { recursive: true });
    const skipping = recipe({ data: { ...data, badRecords: 'skip' } });
    const { code, events } = await run(train(skipping, '--nproc', '2'));
    expect(code).toBe(0);
    const told = events.filter(({ type }) => type === 'bad-record');
    expect(told).toHaveLength(2); // once an epoch
    expect(events.at(-1)).toMatchObject({ badRecords: 2 });
  });
});

describe('what ends a rank', () => {
  const endless = (): string[] => {
    const path = recipe({ schedule: { updates: 100_000 }, checkpoints: { everyUpdates: 10 } });
    return train(path, '--nproc', '2', '--set', 'parallel.zero=2');
  };

  test.each(['SIGKILL', 'SIGSTOP'] as const)('%s ends all, and nothing is lost', async (signal) => {
    const running = new Running(endless());
    await savedUnder(folder.runs);
    const { ranks } = running;
    expect(ranks).toHaveLength(2);
    process.kill(ranks[1]!, signal);
    const { code, err } = await running.ended;
    expect(code).toBe(3);
    expect(err).toMatch(/^error: rank 1 has not been heard of for \d\.\d s\ncode: E_RANK_LOST\n/m);
    expect(ranks.filter(isAlive)).toEqual([]);
    const done = (await checkpointsUnder(folder.runs)).at(-1)!;
    const more = ['--set', `schedule.updates=${done + 2}`, '--nproc', '2'];
    const rest = await run([
      'train',
      '--resume',
      (await listRuns(folder.runs))[0]!.path,
      '--json',
      ...more,
    ]);
    expect(rest.events.at(-1), rest.err).toMatchObject({ reason: 'finished', update: done + 2 });
  });
});

test('a first rank that is killed is told of by its launcher, once', async () => {
  const path = recipe({ schedule: { updates: 100_000 }, checkpoints: { everyUpdates: 10 } });
  const running = new Running(train(path, '--nproc', '2', '--set', 'parallel.zero=3'));
  await savedUnder(folder.runs);
  const { ranks } = running;
  process.kill(ranks[0]!, 'SIGKILL');
  const { code, err } = await running.ended;
  expect(code).toBe(3);
  expect(err).toMatch(/^error: rank 0 was killed by SIGKILL\ncode: E_RANK_LOST\nhint: .*--resume/m);
  expect(err.match(/^code: .*$/gm)).toHaveLength(1);
  expect(ranks.filter(isAlive)).toEqual([]);
});

describe('what is wrong before', () => {
  test.each<[string, string[], Record<string, string>, string, number, RegExp]>([
    ['a number that is none', ['--nproc', '0'], {}, 'E_USAGE', 2, /whole number from 1/],
    ['no GPU', ['--nproc', 'gpus'], { CUDA_VISIBLE_DEVICES: '' }, 'E_NO_GPU', 3, /there is no GPU/],
    ['half an environment', [], { WORLD_SIZE: '2' }, 'E_RANKS', 3, /RANK .* is not set/],
    [
      'ranks within a rank',
      ['--nproc', '2'],
      { RANK: '0', WORLD_SIZE: '2', LOCAL_RANK: '0', MASTER_ADDR: 'localhost' },
      'E_RANKS',
      3,
      /this process is a rank itself/,
    ],
    ['a recipe', ['--nproc', '2', '--set', 'batchSize=0'], {}, 'E_RECIPE', 2, /batchSize/],
    [
      'a share that does not divide',
      ['--nproc', '2', '--set', 'parallel={"zero":1,"shardOver":3}'],
      {},
      'E_SHARD_OVER',
      2,
      /shardOver is 3, which does not divide 2 ranks/,
    ],
    [
      'a GPU by its number',
      ['--nproc', '2', '--set', 'device=cuda:1'],
      {},
      'E_DEVICE',
      2,
      /cuda:1/,
    ],
  ])('%s is said once', async (_name, args, env, code, exit, message) => {
    const ended = await run(train(recipe(), ...args), env);
    expect(ended.code, ended.err).toBe(exit);
    expect(ended.err).toMatch(message);
    expect(ended.err.match(/^(\[rank \d\] )?code: .*$/gm)).toEqual([`code: ${code}`]);
    expect(existsSync(folder.runs)).toBe(false);
  });

  test('a port in use is named by the first rank', async () => {
    const server = createServer();
    await new Promise<void>((resolve) => server.listen(0, resolve));
    const { port } = server.address() as AddressInfo;
    const { code, err } = await run(train(recipe()), {
      ...{ RANK: '0', WORLD_SIZE: '2', LOCAL_RANK: '0' },
      ...{ MASTER_ADDR: '127.0.0.1', MASTER_PORT: `${port}` },
    });
    server.close();
    expect([code, err]).toEqual([3, expect.stringContaining('code: E_PORT_IN_USE')]);
  });

  test('a run that others work in is left to them', async () => {
    const first = new Running(
      train(recipe({ schedule: { updates: 100_000 }, checkpoints: { everyUpdates: 10 } })),
    );
    await savedUnder(folder.runs);
    const { path } = (await listRuns(folder.runs))[0]!;
    const { code, err } = await run(['train', '--resume', path, '--json', '--nproc', '2']);
    first.signal('SIGINT');
    await first.ended;
    expect(code).toBe(3);
    expect(err.match(/^code: .*$/gm)).toEqual(['code: E_RUN_IN_USE']);
  });
});
