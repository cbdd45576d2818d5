/**
 * Several ranks after an update that the memory of some of them did not suffice for: all go on, or all end, and none waits for ever.
 * With a limit on the CPU's tensors that is lowered while a run goes.
 */

import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { packageRoot } from '../../base/native-path.js';
import type { RecipeInput } from '../../config/index.js';
import { runRanks } from '../../parallel/testing.js';
import type { Fall, MemoryCase, MemoryCourse } from './testing-memory.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-memory-ranks-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

/** A large epsilon: Adam would turn the rounding of gradients that are nearly 0 into whole steps. */
const BASE: Partial<RecipeInput> = {
  batchSize: 4,
  accumulate: 1,
  optimizer: { learningRate: 3e-3, epsilon: 1e-2 },
};

type Given = Omit<MemoryCase, 'folder'>;

const pathOf = (name: string): string => join(folder, name);

/** A run of two ranks; what each of them says of it. */
async function train(name: string, given: Given): Promise<MemoryCourse[]> {
  const path = pathToFileURL(`${packageRoot()}/dist/src/train/loop/testing-memory.js`).href;
  mkdirSync(pathOf(name), { recursive: true });
  const all: MemoryCase = { folder: pathOf(name), ...given, recipe: { ...BASE, ...given.recipe } };
  const ends = await runRanks(
    2,
    `
    const { trainShort } = await import('${path}');
    torch.setThreads(1);
    const world = await join();
    await trainShort(world, ${JSON.stringify(all)}, say);
    `,
  );
  return ends.map(({ said, stderr }) => {
    if (said.length === 0) throw new Error(`a rank of ${name} has said nothing: ${stderr}`);
    return said[0] as MemoryCourse;
  });
}

const between = (a: number, b: number): number => Math.round((a + b) / 2);

/** All weights in the newest checkpoint of a run. */
function weightsOf(name: string): number[] {
  const newest = join(pathOf(name), readdirSync(pathOf(name)).sort().at(-1)!);
  const files = readdirSync(newest).filter((file) => file.endsWith('.safetensors'));
  expect(files.length).toBeGreaterThan(0);
  return files.sort().flatMap((file) => {
    const bytes = readFileSync(join(newest, file));
    const data = bytes.subarray(8 + Number(bytes.readBigUInt64LE(0)));
    return Array.from({ length: data.length / 4 }, (_, i) => data.readFloatLE(4 * i));
  });
}

function distance(p: readonly number[], q: readonly number[]): number {
  expect(p).toHaveLength(q.length);
  const norm = (list: readonly number[]): number => Math.sqrt(list.reduce((s, x) => s + x * x, 0));
  return norm(p.map((x, i) => x - q[i]!)) / norm(q);
}

/** Up to rounding the same numbers in each update, and the same weights at the end. */
function expectSame([name, courses]: Run, [whole, expected]: Run): void {
  const { updates: own } = expected[0]!;
  for (const { updates, error, live } of courses) {
    expect(error).toBeNull();
    expect(updates.map(({ update }) => update)).toEqual(own.map(({ update }) => update));
    updates.forEach(({ loss, gradientNorm, lossScale }, i) => {
      expect(Math.abs(loss! / own[i]!.loss! - 1)).toBeLessThan(1e-6);
      expect(Math.abs(gradientNorm / own[i]!.gradientNorm - 1)).toBeLessThan(1e-6);
      expect(lossScale).toBe(own[i]!.lossScale);
    });
    expect(live).toBe(0);
  }
  expect(distance(weightsOf(name), weightsOf(whole))).toBeLessThan(1e-6);
}

type Run = readonly [name: string, courses: readonly MemoryCourse[]];

const decoder = { lora: { rank: 2, alpha: 4, dropout: 0.2 } };

test.each<[string, Given]>([
  ['stage 0', { recipe: { parallel: { zero: 0 } } }],
  [
    'stage 1, LoRA with dropout',
    {
      recipe: {
        parallel: { zero: 1 },
        train: { vision: 'frozen', projector: 'full', decoder },
      },
    },
  ],
  [
    'stage 2, a loss that is scaled and numbers that come late',
    { recipe: { parallel: { zero: 2 } }, scaled: true, late: true },
  ],
  ['stage 3', { recipe: { parallel: { zero: 3 } } }],
  [
    'stage 3, all of it in host memory',
    { recipe: { parallel: { zero: 3, offload: 'parameters' } } },
  ],
])(
  'with %s the update runs again in halves on all ranks, and the run is the undisturbed one up to rounding',
  async (_, given) => {
    const { recipe } = given;
    const whole = await train('whole', given);
    const halves = await train('halves', {
      ...given,
      recipe: { ...recipe, batchSize: 2, accumulate: 2 },
    });
    const fall = (rank: number): Fall => [2, between(halves[rank]!.taken, whole[rank]!.taken)];
    for (const short of [[1], [0, 1]]) {
      const falls = Object.fromEntries(short.map((rank) => [rank, [fall(rank)]]));
      const courses = await train(`short ${short.join()}`, { ...given, falls });
      expectSame([`short ${short.join()}`, courses], ['whole', whole]);
      for (const { types, halved } of courses) {
        expect(types).toEqual([
          ...['update', 'update', 'recovery', 'update', 'update', 'update', 'update'],
          ...['checkpoint', 'end'],
        ]);
        expect(halved).toMatchObject([
          { update: 3, microBatch: { unit: 'records', before: 4, after: 2 }, ranks: short },
        ]);
        const who = short.length === 1 ? 'rank 1' : 'ranks 0, 1';
        expect(halved[0]!.message).toContain(`memory of ${who} did not suffice for 4 records`);
      }
    }
  },
  60_000,
);

test('a run that goes on keeps its micro-batches small on all ranks, and is the uninterrupted one to the bit', async () => {
  const recipe: Given['recipe'] = { parallel: { zero: 2 } };
  const whole = await train('whole', { recipe });
  const halves = await train('halves', { recipe: { ...recipe, batchSize: 2, accumulate: 2 } });
  const falls = { 1: [[1, between(halves[1]!.taken, whole[1]!.taken)] as const] };
  const once = await train('once', { recipe, falls });
  const first = await train('twice', { recipe, falls, maxUpdates: 3 });
  const second = await train('twice', { recipe, resumes: true });
  for (const [rank, { told, types, halved, updates }] of second.entries()) {
    expect(told).toEqual([expect.stringMatching(/^micro-batches stay cut to 2 records/)]);
    expect(types).toEqual(['update', 'update', 'update', 'checkpoint', 'end']);
    expect(halved).toEqual([]);
    expect([...first[rank]!.updates, ...updates]).toEqual(once[rank]!.updates);
  }
  expect(weightsOf('twice')).toEqual(weightsOf('once'));
}, 60_000);

test('where one record is too much for one rank, both end with the same error', async () => {
  const recipe: Given['recipe'] = {
    ...{ batchSize: 1, accumulate: 4, parallel: { zero: 3 } },
    memory: { policy: 'keep' },
  };
  const whole = await train('whole', { recipe });
  // It is the backward of attention, by far the largest piece, that finds no room then, not what ranks share.
  const falls = { 1: [[2, Math.round(0.82 * whole[1]!.taken)] as const] };
  const courses = await train('short', { recipe, falls });
  for (const { types, error, live } of courses) {
    expect(types).toEqual(['update', 'update']);
    expect(error).toMatchObject({ code: 'E_OUT_OF_MEMORY', exit: 5 });
    expect(error!.message).toMatch(
      /^Update 3 does not fit on rank 1 with one record in each micro-batch: .*tried to allocate \d+ bytes .* the limit is \d+/,
    );
    expect(live).toBe(0);
  }
}, 60_000);

test.each<[string, Given['recipe'], number]>([
  ['what ranks share has no memory either', { parallel: { zero: 2 } }, 1000],
  [
    'segments are updated one by one in the backward',
    {
      parallel: { zero: 2 },
      optimizer: { ...BASE.optimizer!, updateInBackward: true, clipNorm: null },
    },
    300_000,
  ],
])(
  'where %s, the rank ends and says so, and the other with it',
  async (_, recipe, bytes) => {
    const [first, second] = await train('short', { recipe, falls: { 1: [[2, bytes]] } });
    for (const { types, error } of [first!, second!]) {
      expect(types).toEqual(['update', 'update']);
      expect(error!.exit).toBe(5);
    }
    const what = /Memory of rank 1 did not suffice in update 3, .*: .*tried to allocate \d+ bytes/;
    expect(second!.error).toMatchObject({
      code: 'E_OUT_OF_MEMORY',
      message: expect.stringMatching(what) as string,
    });
    expect(first!.error).toMatchObject({
      code: 'E_RANK_FAILED',
      message: expect.stringMatching(what) as string,
    });
  },
  60_000,
);
