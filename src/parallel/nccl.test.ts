import { describe, expect, it } from 'vitest';

import { torchFacts } from '../torch/index.js';
import { runRanks } from './testing.js';

const { cuda, ncclError } = torchFacts();

/** Where there are two GPUs. */
describe.skipIf((cuda?.devices.length ?? 0) < 2)('NCCL', () => {
  it('is built for these GPUs', () => {
    expect(ncclError).toBeUndefined();
  });

  it('moves tensors between GPUs, in the order of streams', async () => {
    const ends = await runRanks(
      2,
      `
      const world = await join({ backend: 'nccl' });
      const { group, device } = world;
      const results = {};
      for (const dtype of ['float32', 'bfloat16', 'int64']) {
        const make = (values) => tensor(values).to({ dtype, device });
        const sum = make([rank, 1, -2]);
        const max = make([rank, -rank]);
        const whole = make([0, 1, 2, 3]).mul(rank + 1);
        const shard = make([0, 0]);
        const gathered = make([0, 0, 0, 0]);
        const sent = make([[rank], [rank]]);
        group.allReduce(max, { label: 'max', reduction: 'max' });
        await group.allReduce(sum, { label: 'sum' }).waitOnStream();
        const doubled = sum.mul(2);
        await group.reduceScatter(shard, whole, { label: 'gradients' }).waitOnStream();
        await group.allGather(gathered, shard, { label: 'weights' }).waitOnStream();
        await group.broadcast(sent, { label: 'state', root: 1 }).wait();
        const read = (value) => value.to({ dtype: 'float32', device: 'cpu' }).toArray();
        results[dtype] = [sum, max, doubled, shard, gathered, sent].map(read);
      }
      await group.barrier({ label: 'end' }).wait();
      const alone = await world.newGroup('alone', [rank]);
      const own = tensor([rank]).to({ device });
      await alone.allReduce(own, { label: 'own' }).wait();
      say({ device, results, own: own.item() });
      await world.close();
      `,
    );
    for (const [rank, { code, said, stderr }] of ends.entries()) {
      expect([code, stderr]).toEqual([0, '']);
      const shards = [
        [0, 3],
        [6, 9],
      ];
      const result = [[1, 2, -4], [1, 0], [2, 4, -8], shards[rank], shards.flat(), [[1], [1]]];
      const results = { float32: result, bfloat16: result, int64: result };
      expect(said).toEqual([{ device: `cuda:${rank}`, results, own: rank }]);
    }
  });

  it('holds tensors no longer than whoever asked for them, however far behind the device is, or ahead', async () => {
    const ends = await runRanks(
      2,
      `
      const world = await join({ backend: 'nccl' });
      const { group, device } = world;
      const one = torch.ones([1], { device });
      await group.allReduce(one, { label: 'begin' }).wait();
      const factor = torch.ones([8192, 8192], { device });
      const busy = (times) => torch.scope(() => { for (let i = 0; i < times; i++) factor.matmul(factor).dispose(); });
      busy(1); // takes what cuBLAS works in
      const before = torch.memoryStats(device).allocated;
      const left = [];
      for (const isAhead of [true, false]) {
        if (isAhead) busy(40);
        const [shard, whole] = [torch.empty([2 ** 24], { device }), torch.ones([2 ** 25], { device })];
        const work = group.reduceScatter(shard, whole, { label: 'gradients' });
        whole.dispose();
        await (isAhead ? work.waitOnStream() : work.wait());
        shard.dispose();
        left.push(torch.memoryStats(device).allocated - before);
      }
      say({ left });
      torch.synchronize(device);
      await world.close();
      `,
    );
    for (const { code, said, stderr } of ends) {
      expect([code, stderr, said]).toEqual([0, '', [{ left: [0, 0] }]]);
    }
  });

  it('frees a host that waits for the device when a rank is missing, and names it', async () => {
    const ends = await runRanks(
      2,
      `
      const world = await join({ backend: 'nccl', timeout: 3_000, heartbeat: { interval: 200, timeout: 5_000 } });
      const { group, device } = world;
      const sum = torch.ones([4]).to({ device });
      await group.allReduce(sum, { label: 'first' }).wait();
      if (rank === 1) await Promise.race([sleep(60_000), world.lost.then((error) => Promise.reject(error))]);
      const work = group.allReduce(sum, { label: 'second' });
      await work.waitOnStream();
      torch.synchronize(device);
      await work.wait();
      `,
    );
    const message =
      "all-reduce of 4 float32 for 'second' (call 2 of the group 'world') has not ended within 3 s: " +
      "rank 1 has not called it (its last was call 1, all-reduce of 4 float32 for 'first')";
    for (const { code, error } of ends) {
      expect([code, error]).toEqual([3, { code: 'E_COLLECTIVE_TIMEOUT', message }]);
    }
  });
});
