import fc from 'fast-check';
import { mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, expect, test } from 'vitest';
import { writing } from '../../base/system-error.js';
import { cases } from '../../base/testing.js';
import { writeShards } from '../../formats/safetensors/shards.js';
import { openWeights } from '../../formats/weights.js';
import { tensorSource } from '../../models/index.js';
import { ALONE, together, wholeParts, type Peers, type TensorPart } from '../../parallel/index.js';
import { peersInMemory } from '../../parallel/testing.js';
import { empty, scope, type DType, type Tensor } from '../../torch/index.js';
import { listCheckpoints, newestWhole, pruneCheckpoints, writeCheckpoint } from './checkpoints.js';
import { restoreTensors } from './restore-tensors.js';
import { writeParts, type PartFiles } from './write-parts.js';

let folder: string;
beforeEach(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-parts-'));
});
afterEach(() => rmSync(folder, { recursive: true }));

let count = 0;
function freshFolder(): string {
  const path = join(folder, `${count++}`);
  mkdirSync(path);
  return path;
}

const contents = (path: string): Record<string, string> =>
  Object.fromEntries(readdirSync(path).map((f) => [f, readFileSync(join(path, f), 'base64')]));

/** How one tensor is shared out: where it is cut, and who has each piece. */
interface Cut {
  readonly at: readonly number[];
  readonly owners: readonly number[];
}
interface Shared {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly cut: Cut;
  readonly other: Cut;
}

const cuts = fc.record({
  at: fc.array(fc.nat(200), { maxLength: 5 }),
  owners: fc.array(fc.nat(3), { minLength: 6, maxLength: 6 }),
});
const shared = fc.uniqueArray(
  fc.record({
    name: fc.constantFrom(...'abcdefghij'.split('').map((each) => `layers.${each}.weight`)),
    dtype: fc.constantFrom<DType>('float32', 'bfloat16', 'float64', 'int64', 'uint8'),
    shape: fc.array(fc.integer({ min: 1, max: 6 }), { maxLength: 3 }),
    ...{ cut: cuts, other: cuts },
  }),
  { selector: ({ name }) => name, minLength: 1, maxLength: 6 },
);

/** The parts of each rank, over the given tensors. */
function partsOf(
  tensors: ReadonlyMap<string, Tensor>,
  list: readonly Shared[],
  ranks: number,
  which: 'cut' | 'other',
): TensorPart[][] {
  const parts: TensorPart[][] = Array.from({ length: ranks }, () => []);
  for (const { name, shape, [which]: cut } of list) {
    const tensor = tensors.get(name)!;
    const inside = cut.at.filter((at) => at > 0 && at < tensor.numel);
    const bounds = [...new Set([0, ...inside, tensor.numel])].sort((a, b) => a - b);
    for (const [i, from] of bounds.slice(0, -1).entries()) {
      const piece = tensor.view([-1]).narrow(0, from, bounds[i + 1]! - from);
      // What another rank writes may be here too.
      for (let rank = 0; rank < ranks; rank++) {
        const writes = cut.owners[i]! % ranks === rank;
        if (writes || cut.owners[5] === rank) {
          parts[rank]!.push({ name, shape, from, tensor: piece, writes });
        }
      }
    }
  }
  return parts;
}

function tensorsOf(list: readonly Shared[], fill: (tensor: Tensor) => Tensor) {
  return new Map(
    list.map(({ name, dtype, shape }) => [name, fill(empty(shape, { dtype }))] as const),
  );
}

const seeds = (tensor: Tensor): Tensor =>
  scope(() => tensor.copy_(empty(tensor.shape).normal_(0, 50)));

const onAll = (peers: readonly Peers[], write: (each: Peers) => Promise<unknown>) =>
  Promise.all(peers.map(write));

test('ranks write the very files that one process writes, and read them with other parts', async () => {
  await fc.assert(
    fc.asyncProperty(
      shared,
      fc.integer({ min: 1, max: 4 }),
      fc.constantFrom(100, 400, undefined),
      async (list, ranks, shardBytes) => {
        const tensors = tensorsOf(list, seeds);
        const [one, many] = [freshFolder(), freshFolder()];
        const sources = [...tensors].map(([name, tensor]) => tensorSource(name, tensor));
        await writeShards(one, sources, { stem: 'x', shardBytes });
        const parts = partsOf(tensors, list, ranks, 'cut');
        await onAll(peersInMemory(ranks), (peers) =>
          writeParts(many, { stem: 'x', parts: parts[peers.rank]!, shardBytes }, peers),
        );
        expect(contents(many)).toEqual(contents(one));

        const index = readdirSync(many).find((file) => file.endsWith('.json'));
        const stored = (await openWeights(join(many, index ?? 'x.safetensors'))).tensors;
        const byName = new Map(stored.map((tensor) => [tensor.name, tensor]));
        const read = tensorsOf(list, (tensor) => tensor.zero_());
        for (const each of partsOf(read, list, 3, 'other')) {
          await restoreTensors(many, byName, { names: tensors.keys(), parts: each });
        }
        for (const [name, tensor] of tensors) {
          expect(read.get(name)!.toBytes()).toEqual(tensor.toBytes());
        }
      },
    ),
    { numRuns: cases(40) },
  );
});

test('rows that are added do not depend on who writes', async () => {
  const cut = { at: [3, 10], owners: [2, 0, 1, 0, 0, 5] };
  const list: Shared[] = ['float32', 'bfloat16'].map((dtype) => ({
    ...{ name: dtype, dtype: dtype as DType, shape: [5, 4], cut, other: cut },
  }));
  const tensors = tensorsOf(list, (tensor) => tensor.normal_(0, 1));
  const newRows = (name: string): number => (name === 'float32' ? 2 : 1);
  const files = (parts: readonly TensorPart[]): PartFiles => ({ stem: 'x', parts, newRows });
  const [one, many] = [freshFolder(), freshFolder()];
  await writeParts(one, files(wholeParts(tensors, ALONE)), ALONE);
  const parts = partsOf(tensors, list, 3, 'cut');
  await onAll(peersInMemory(3), (peers) => writeParts(many, files(parts[peers.rank]!), peers));
  expect(contents(many)).toEqual(contents(one));
  const { tensors: stored } = await openWeights(join(many, 'x.safetensors'));
  expect(stored.map(({ shape }) => shape)).toEqual([[7, 4], [6, 4]]); // prettier-ignore
});

test('parts that leave something out, or give it twice, are refused on all ranks', async () => {
  const tensor = empty([6]).zero_();
  const part = (from: number, to: number): TensorPart => {
    return { name: 'w', shape: [6], from, tensor: tensor.narrow(0, from, to - from), writes: true };
  };
  for (const [first, second] of [
    [part(0, 3), part(4, 6)],
    [part(0, 4), part(3, 6)],
  ] as const) {
    const path = freshFolder();
    const ended = await Promise.allSettled(
      peersInMemory(2).map((peers) => {
        return writeParts(path, { stem: 'x', parts: [[first, second][peers.rank]!] }, peers);
      }),
    );
    expect(ended).toMatchObject(Array(2).fill({ reason: { code: 'E_TENSOR_BYTES' } }));
  }
});

/** A checkpoint of two ranks, each with half of a tensor. */
function save(
  update: number,
  peers: readonly Peers[],
  broken?: (each: Peers) => Promise<void>,
): Promise<PromiseSettledResult<unknown>[]> {
  const halves = empty([8]).fill_(update).view([2, 4]);
  return Promise.allSettled(
    peers.map((each) => {
      const tensor = halves.select(0, each.rank);
      const from = 4 * each.rank;
      const parts = [{ name: 'w', shape: [8], from, tensor, writes: true }];
      return writeCheckpoint(folder, {
        update,
        peers: each,
        write: async (temporary) => {
          await writeParts(temporary, { stem: 'model', parts }, each);
          await broken?.(each);
        },
      });
    }),
  );
}

const updates = async (): Promise<number[]> =>
  (await listCheckpoints(folder)).map(({ update }) => update);

test('a rank that fails fails the checkpoint on all, which leaves nothing behind', async () => {
  await save(1, peersInMemory(2));
  const full = Object.assign(new Error('no space'), { code: 'ENOSPC' });
  const ended = await save(2, peersInMemory(2), async (each) => {
    await together(each, 'more files', () =>
      writing(folder, 'write the checkpoint', () =>
        each.rank === 1 ? Promise.reject(full) : Promise.resolve(),
      ),
    );
  });
  const message = expect.stringMatching(/^rank 1: The disk is full/) as string;
  expect(ended).toMatchObject([
    { reason: { code: 'E_DISK_FULL', exitCode: 3, message } },
    { reason: { code: 'E_DISK_FULL', exitCode: 3, cause: full } },
  ]);
  expect(readdirSync(folder)).toEqual(['update-00000001']);
});

test('ranks that end at any step of a checkpoint leave those before it whole', async () => {
  await save(1, peersInMemory(2));
  let calls = 0;
  const counting = peersInMemory(2).map((each) => ({
    ...each,
    gather: <T>(label: string, value: T) => (calls++, each.gather(label, value)),
  }));
  await save(2, counting);
  rmSync(join(folder, 'update-00000002'), { recursive: true });
  const steps = calls / 2;
  expect(steps).toBeGreaterThan(5);
  for (let last = 0; last < steps; last++) {
    for (const dying of [0, 1]) {
      const ends: Promise<void>[] = [];
      const ranks = peersInMemory(2).map((each) => {
        const { peers, end } = upTo(each, last, each.rank === dying);
        ends.push(end);
        return peers;
      });
      void save(2, ranks);
      await Promise.all(ends);
      expect([[1], [1, 2]]).toContainEqual(await updates());
      expect((await newestWhole(folder)).damaged).toEqual([]);
      const newest = (await updates()).at(-1)!;
      await pruneCheckpoints(folder, { keep: 1, keepBest: false, update: newest });
      expect(readdirSync(folder)).toEqual([`update-0000000${newest}`]);
      if (newest === 2) await save(1, peersInMemory(2));
      rmSync(join(folder, 'update-00000002'), { recursive: true, force: true });
    }
  }
});

/** A rank that comes to a step and no further: it is no more, or waits for one that is no more. */
function upTo(peers: Peers, step: number, dies: boolean): { peers: Peers; end: Promise<void> } {
  let left = step;
  let ended: () => void;
  const end = new Promise<void>((resolve) => (ended = resolve));
  const gather = <T>(label: string, value: T): Promise<T[]> => {
    if (left-- === 0) ended();
    return left < 0 && dies ? new Promise(() => undefined) : peers.gather(label, value);
  };
  return { peers: { ...peers, gather }, end };
}
