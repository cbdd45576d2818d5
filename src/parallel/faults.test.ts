import { describe, expect, it } from 'vitest';

import { Store } from './store.js';
import { allThere, ended, endsWithout, FAST, runRanks, startRank, startRanks } from './testing.js';

describe.concurrent('a rank that is gone', () => {
  it.each([
    ['is killed', 1, 'SIGKILL', /^rank 1 has not been heard of for [\d.]+ s$/],
    ['and the store are stopped', 0, 'SIGSTOP', /^rank 0, which holds the store, has not answered/],
  ] as const)('ends the others when it %s', async (_how, lost, signal, message) => {
    for (const end of await endsWithout(lost, signal)) {
      expect(end).toMatchObject({ code: 3, error: { code: 'E_RANK_LOST' } });
      expect(end.error!.message).toMatch(message);
    }
  });

  it('is named by itself where it was stopped, held the store and goes on when the other is gone', async () => {
    const [first, second] = await startRanks(
      2,
      `
      const world = await join({ heartbeat: { interval: 200, timeout: 3_000, grace: 500 } });
      say('there');
      await Promise.race([sleep(60_000), world.lost.then((error) => Promise.reject(error))]);
      `,
    );
    await allThere([first!, second!]);
    first!.process.kill('SIGSTOP');
    await second!.end;
    first!.process.kill('SIGCONT');
    const { code, error } = await first!.end;
    expect([code, error!.code]).toEqual([3, 'E_RANK_LOST']);
    expect(error!.message).toMatch(
      /^rank 0 was stopped for [\d.]+ s, and rank 1 has not been heard of since$/,
    );
  });

  it('ends the others with its error when it fails', async () => {
    const [failed, ...others] = await runRanks(
      3,
      `
      const world = await join({ ${FAST} });
      const fail = async () => {
        await world.group.barrier({ label: 'start' }).wait();
        if (rank === 0) throw Object.assign(new Error('shard-3.jsonl is broken'), { exitCode: 4 });
        await world.group.allReduce(zeros([4]), { label: 'step' }).wait();
      };
      await fail().catch(async (error) => { await world.close(error); throw error; });
      `,
    );
    expect(failed).toMatchObject({ code: 4, error: { message: 'shard-3.jsonl is broken' } });
    for (const other of others) {
      const message = 'rank 0 has failed: shard-3.jsonl is broken';
      expect(other).toMatchObject({ code: 3, error: { code: 'E_RANK_FAILED', message } });
    }
  });
});

describe.concurrent('leaving', () => {
  it.each([
    [
      'is killed',
      `await world.store.set('closing/1', ''); process.kill(process.pid, 'SIGKILL');`,
      'E_RANK_LOST',
      /^rank 1 has not been heard of for/,
    ],
    [
      'fails',
      `const error = new Error('the disk is full'); await world.close(error); throw error;`,
      'E_RANK_FAILED',
      /^rank 1 has failed: the disk is full$/,
    ],
  ] as const)(
    'does not wait for ever for a rank that then %s',
    async (_how, end, code, message) => {
      const [first] = await runRanks(
        2,
        `
      const world = await join({ ${FAST} });
      if (rank === 1) { ${end} }
      await world.close();
      `,
      );
      expect(first).toMatchObject({ code: 3, error: { code } });
      expect(first!.error!.message).toMatch(message);
    },
  );
});

describe.concurrent('a rank that lives', () => {
  it('is named when it does not make a call, and all ranks end with the same error', async () => {
    const ends = await runRanks(
      3,
      `
      const world = await join({ timeout: 3_000, ${FAST} });
      const { group } = world;
      await group.allGather(zeros([6]), zeros([2]), { label: 'block 0' }).wait();
      if (rank === 2) await Promise.race([sleep(60_000), world.lost.then((error) => Promise.reject(error))]);
      await group.allReduce(zeros([4]), { label: 'block 1' }).wait();
      `,
    );
    const message =
      "all-reduce of 4 float32 for 'block 1' (call 2 of the group 'world') has not ended within 3 s: " +
      "rank 2 has not called it (its last was call 1, all-gather of 6 float32 for 'block 0')";
    for (const end of ends) {
      expect(end).toMatchObject({ code: 3, error: { code: 'E_COLLECTIVE_TIMEOUT', message } });
    }
  });

  const inOrder = (first: string, second: string): string => `
    const world = await join({ timeout: 3_000, ${FAST} });
    const reduce = () => world.group.allReduce(zeros([4]), { label: 'gradients' }).wait();
    const gather = () => world.group.allGather(zeros([4]), zeros([2]), { label: 'weights' }).wait();
    if (rank === 0) { await reduce(); await gather(); }
    else { await ${first}(); await ${second}(); }
    await world.close();`;

  it('is told from one that is slow or gone when it calls the same in another order', async () => {
    for (const end of await runRanks(2, inOrder('gather', 'reduce'))) {
      expect(end).toMatchObject({ code: 3, error: { code: 'E_COLLECTIVE_ORDER' } });
      expect(end.error!.message).toMatch(/rank \d calls something else as its call 1, all-/);
    }
  });

  it('is told too where it has gone on without waiting for its call', async () => {
    const ends = await runRanks(
      2,
      `
      const world = await join({ timeout: 3_000, ${FAST} });
      const reduce = () => world.group.allReduce(zeros([4]), { label: 'gradients' });
      if (rank === 1) void world.group.allGather(zeros([4]), zeros([2]), { label: 'weights' }).wait().catch(() => {});
      await reduce().wait();
      await world.close();
      `,
    );
    for (const end of ends) {
      expect(end).toMatchObject({ code: 3, error: { code: 'E_COLLECTIVE_ORDER' } });
      expect(end.error!.message).toMatch(/rank \d calls something else as its call 1, all-/);
    }
  });

  it('is waited for while it is slow', async () => {
    const ends = await runRanks(
      2,
      inOrder('await sleep(1_000).then(reduce); await gather', 'sleep'),
    );
    expect(ends.map(({ code, error }) => [code, error])).toEqual(Array(2).fill([0, null]));
  });

  it('is ended, and says why, when its thread does not come back', async () => {
    const [first, second] = await runRanks(
      2,
      `
      const world = await join({ timeout: 3_000, ${FAST} });
      await world.group.barrier({ label: 'start' }).wait();
      if (rank === 1) for (;;);
      await world.group.barrier({ label: 'end' }).wait();
      `,
    );
    expect(first).toMatchObject({ code: 3, error: { code: 'E_COLLECTIVE_TIMEOUT' } });
    expect(first!.error!.message).toMatch(
      /rank 1 has not called it \(its last was call 1, barrier/,
    );
    expect(second).toMatchObject({ code: 3 });
    expect(second!.stderr).toBe(`error: ${first!.error!.message}\ncode: E_COLLECTIVE_TIMEOUT\n`);
  });

  it('is ended with the exit code of the error of another rank', async () => {
    const [first, second] = await runRanks(
      2,
      `
      const world = await join({ ${FAST} });
      await world.group.barrier({ label: 'start' }).wait();
      if (rank === 1) for (;;);
      await world.newGroup('none', []).catch(async (error) => { await world.close(error); throw error; });
      `,
    );
    expect([first!.code, second!.code]).toEqual([2, 2]);
    expect(second!.stderr).toBe(
      `error: rank 0 has failed: ${first!.error!.message}\ncode: E_RANK_FAILED\n`,
    );
  });
});

describe.concurrent('finding each other', () => {
  const meet = (options: string): string => `
    const world = await join(${options});
    say(world.size);
    await world.close();`;

  it('names the ranks that have not come, and those that came twice', async () => {
    const twin = { RANK: '1', LOCAL_RANK: '1' };
    const ends = await runRanks(3, meet('{ joinTimeout: 4_000 }'), (rank) => {
      return { WORLD_SIZE: '4', ...(rank === 2 && twin) };
    });
    const messages = ends.map(({ error }) => error!.message).sort();
    const missing = '2 of 4 ranks have not come within 4 s: 2, 3';
    expect(messages).toEqual([missing, missing, expect.any(String)]);
    expect(messages[2]).toMatch(
      /^two processes are rank 1 of the job at 127\.0\.0\.1:\d+: process \d+ on \S+ and /,
    );
    expect(ends.map(({ code, error }) => [code, error!.code])).toEqual(
      Array(3).fill([3, 'E_RENDEZVOUS']),
    );
  });

  it('refuses ranks that differ in their number', async () => {
    const ends = await runRanks(3, meet(''), (rank) => ({ WORLD_SIZE: rank === 1 ? '2' : '3' }));
    for (const { code, error } of ends) {
      const message = 'rank 1 was started as one of 2, rank 0 as one of 3';
      expect([code, error]).toEqual([3, { code: 'E_WORLD_SIZE', message }]);
    }
  });

  it('refuses processes that are not of a job that runs, which goes on', async () => {
    const job = await startRanks(
      2,
      `const world = await join();
      say('there');
      await world.store.wait(['go on']);
      const sum = tensor([1]);
      await world.group.allReduce(sum, { label: 'sum' }).wait();
      say(sum.toArray());
      await world.close();`,
    );
    await allThere(job);
    const at = { MASTER_ADDR: '127.0.0.1', MASTER_PORT: job[0]!.port, WORLD_SIZE: '2' };
    const strays = [
      startRank(meet('{ joinTimeout: 4_000 }'), { ...at, RANK: '1' }),
      startRank(meet('{ joinTimeout: 4_000 }'), { ...at, RANK: '4', WORLD_SIZE: '5' }),
      startRank(meet('{ joinTimeout: 4_000 }'), { ...at, RANK: '0' }),
    ];
    const ends = await ended(strays);
    expect(ends.map(({ code, error }) => [code, error!.code])).toEqual([
      [3, 'E_RENDEZVOUS'],
      [3, 'E_RENDEZVOUS'],
      [3, 'E_PORT_IN_USE'],
    ]);
    expect(ends[1]!.error!.message).toMatch(
      /^the job at 127\.0\.0\.1:\d+ has all its ranks already; process \d+ on \S+ is none of them$/,
    );
    const store = await Store.open('127.0.0.1', Number(job[0]!.port));
    await store.set('go on', '');
    store.close();
    expect((await ended(job)).map(({ code, said }) => [code, said.at(-1)])).toEqual([
      [0, [2]],
      [0, [2]],
    ]);
  });

  it('keeps jobs side by side apart', async () => {
    const jobs = await Promise.all([runRanks(2, meet('')), runRanks(2, meet(''))]);
    expect(jobs.flat().map(({ code, said }) => [code, said])).toEqual(Array(4).fill([0, [2]]));
  });
});
