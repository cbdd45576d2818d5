import { expect, it } from 'vitest';

import { empty, scopeAsync } from '../torch/index.js';
import { ProcessGroup } from './process-group.js';
import { runRanks } from './testing.js';

it('moves tensors between ranks, whatever their dtype and however late they come', async () => {
  const ends = await runRanks(
    4,
    `
    const world = await join();
    const { group, size } = world;
    const results = {};
    for (const dtype of ['float32', 'bfloat16', 'int64']) {
      const make = (values) => tensor(values).to({ dtype });
      const read = (value) => value.to({ dtype: 'float32' }).toArray();
      // A different rank comes late each time.
      if (rank === { float32: 0, bfloat16: 2, int64: 3 }[dtype]) await sleep(200);
      const sum = make([rank, 1, -2]);
      const max = make([rank, -rank]);
      const whole = make(Array.from({ length: 8 }, (_, i) => i * (rank + 1)));
      const shard = make([0, 0]);
      const gathered = make([0, 0, 0, 0, 0, 0, 0, 0]);
      const own = make([rank, 10 * rank]);
      const sent = make([[rank], [rank]]);
      const works = [
        group.allReduce(sum, { label: 'sum' }),
        group.allReduce(max, { label: 'max', reduction: 'max' }),
        group.reduceScatter(shard, whole, { label: 'gradients' }),
        group.allGather(gathered, own, { label: 'weights' }),
        group.broadcast(sent, { label: 'state', root: 2 }),
      ];
      await Promise.all(works.map((work) => work.wait()));
      results[dtype] = { sum, max, shard, gathered, sent, whole };
      for (const name in results[dtype]) results[dtype][name] = read(results[dtype][name]);
    }
    await group.barrier({ label: 'end' }).waitOnStream();
    say({ results, ledger: group.ledger.list() });
    await world.close();
    `,
  );
  expect(ends.map(({ code, stderr }) => [code, stderr])).toEqual(ends.map(() => [0, '']));
  for (const [rank, { said }] of ends.entries()) {
    const result = {
      sum: [6, 4, -8],
      max: [3, 0],
      shard: [20 * rank, 20 * rank + 10],
      gathered: [0, 0, 1, 10, 2, 20, 3, 30],
      sent: [[2], [2]],
      whole: Array.from({ length: 8 }, (_, index) => index * (rank + 1)),
    };
    const dtypes = ['float32', 'bfloat16', 'int64'];
    const sizes = { 'all-reduce': 5, 'reduce-scatter': 8, 'all-gather': 8, broadcast: 2 };
    expect(said).toEqual([
      {
        results: Object.fromEntries(dtypes.map((dtype) => [dtype, normal(result)])),
        ledger: [
          ...dtypes.flatMap((dtype) =>
            Object.entries(sizes).map(([kind, elements]) => {
              return { kind, dtype, calls: kind === 'all-reduce' ? 2 : 1, elements };
            }),
          ),
          { kind: 'barrier', dtype: null, calls: 1, elements: 0 },
        ],
      },
    ]);
  }
});

it('moves floating point of 8 bits, of which Gloo knows nothing', async () => {
  const ends = await runRanks(
    2,
    `
    const world = await join();
    const { group } = world;
    const codes = (values) => tensor(values).to({ dtype: 'float8_e4m3fn' });
    const whole = codes([0, 0, 0, 0]);
    await group.allGather(whole, codes([rank + 1, -0.5]), { label: 'weights' }).wait();
    const sent = codes([448 * rank]);
    await group.broadcast(sent, { label: 'scale', root: 1 }).wait();
    const read = (value) => value.to({ dtype: 'float32' }).toArray();
    say({ whole: read(whole), sent: read(sent), dtype: whole.dtype });
    await world.close();
    `,
  );
  expect(ends.map(({ code, stderr }) => [code, stderr])).toEqual(ends.map(() => [0, '']));
  const moved = { whole: [1, -0.5, 2, -0.5], sent: [448], dtype: 'float8_e4m3fn' };
  for (const { said } of ends) expect(said).toEqual([moved]);
});

/** As JSON has it: there is no -0. */
const normal = (value: object): unknown => JSON.parse(JSON.stringify(value)) as unknown;

it('has groups of some ranks, which do not see each other', async () => {
  const ends = await runRanks(
    4,
    `
    const world = await join();
    const row = rank < 2 ? [0, 1] : [2, 3];
    const column = rank % 2 === 0 ? [2, 0] : [1, 3];
    const inRow = await world.newGroup('row', row);
    const inColumn = await world.newGroup('column', column);
    const again = await world.newGroup('row', row);
    const sum = async (group) => {
      const value = tensor([10 ** rank]);
      await group.allReduce(value, { label: 'sum' }).wait();
      return value.toArray()[0];
    };
    say([await sum(inRow), await sum(inColumn), await sum(again), inColumn.rank, inColumn.size]);
    const wrong = await world.newGroup('none', [0, 1, 2, 3].filter((each) => each !== rank)).catch((error) => error);
    say([wrong.code, wrong.message]);
    await world.close();
    `,
  );
  expect(ends.map(({ code, said }) => [code, said[0]])).toEqual([
    [0, [11, 101, 11, 1, 2]],
    [0, [11, 1010, 11, 0, 2]],
    [0, [1100, 101, 1100, 0, 2]],
    [0, [1100, 1010, 1100, 1, 2]],
  ]);
  expect(ends[3]!.said[1]).toEqual([
    'E_ARGUMENT',
    "rank 3 of 4 cannot open the group 'none' of the ranks 0, 1, 2",
  ]);
});

it('keeps the memory of a call whose tensors are disposed', async () => {
  const ends = await runRanks(
    2,
    `
    const world = await join();
    let work;
    torch.scope(() => { work = world.group.allReduce(torch.ones([100_000]), { label: 'gone' }); });
    await work.wait();
    say(torch.liveTensors());
    await world.close();
    `,
  );
  expect(ends.map(({ code, said }) => [code, said])).toEqual([
    [0, [0]],
    [0, [0]],
  ]);
});

it('can be any rank of any number without the others', async () => {
  const group = await ProcessGroup.fake(129, 1024);
  await scopeAsync(async () => {
    const shard = empty([500_000], { dtype: 'bfloat16', device: 'meta' });
    const whole = empty([512_000_000], { dtype: 'bfloat16', device: 'meta' });
    await group.allGather(whole, shard, { label: 'weights' }).wait();
    await group.allGather(whole, shard, { label: 'weights' }).waitOnStream();
    await group.reduceScatter(shard, whole, { label: 'gradients' }).wait();
    expect(() => group.allGather(shard, shard, { label: 'block 3' })).toThrow(
      expect.objectContaining({
        code: 'E_ARGUMENT',
        message: expect.stringMatching(
          /^all-gather of 500000 bfloat16 for 'block 3': 1024 shards of 500000 elements make 512000000, not 500000$/,
        ) as string,
      }) as Error,
    );
  });
  expect([group.rank, group.size, group.backend]).toEqual([129, 1024, 'fake']);
  expect(group.ledger.list()).toEqual([
    { kind: 'all-gather', dtype: 'bfloat16', calls: 2, elements: 1_024_000_000 },
    { kind: 'reduce-scatter', dtype: 'bfloat16', calls: 1, elements: 512_000_000 },
  ]);
  await group.close();
});

it('refuses tensors that are no block of memory on its device', async () => {
  const [end] = await runRanks(
    1,
    `
    const { group } = await join();
    for (const tensor of [zeros([2, 3]).transpose(0, 1), zeros([2], { device: 'meta' })]) {
      await Promise.resolve().then(() => group.allReduce(tensor, { label: 'x' })).catch(({ code, message }) => say([code, message]));
    }
    `,
  );
  expect(end!.said).toEqual([
    [
      'E_ARGUMENT',
      "all-reduce of 6 float32 for 'x': argument 'tensor': expected a contiguous tensor",
    ],
    [
      'E_ARGUMENT',
      "all-reduce of 2 float32 for 'x': argument 'tensor': expected a tensor on cpu, not on meta",
    ],
  ]);
});
