import { describe, expect, it } from 'vitest';

import { Store } from './store.js';
import { runRanks, startRank, startRanks, type Rank, type RankEnd } from './testing.js';

/** Beats fast, so that what is lost is missed soon. */
const FAST = `heartbeat: { interval: 200, timeout: 4_000, grace: 2_000 }`;

/** Says that it is there, then reduces until something ends it. */
const REDUCE_ON = `
  const world = await join({ ${FAST} });
  say('there');
  for (let step = 1; ; step++) {
    await world.group.allReduce(zeros([4]), { label: 'step' }).wait();
    await sleep(10);
  }`;

const allThere = (ranks: readonly Rank[]): Promise<unknown> =>
  Promise.all(ranks.map(({ spoken }) => spoken));

const ended = (ranks: readonly Rank[]): Promise<RankEnd[]> =>
  Promise.all(ranks.map(({ end }) => end));

/** Sends a signal to one of three ranks at work, and gives what the others say. */
async function without(lost: number, signal: NodeJS.Signals): Promise<RankEnd[]> {
  const ranks = await startRanks(3, REDUCE_ON);
  await allThere(ranks);
  ranks[lost]!.process.kill(signal);
  const rest = await ended(ranks.filter((_, rank) => rank !== lost));
  ranks[lost]!.process.kill('SIGKILL');
  return rest;
}

/** What takes longest is left to `npm run test:full`. */
const itInFull = it.skipIf(process.env['PATINA_FULL'] !== '1');

describe.concurrent('a rank that is gone', () => {
  const SILENT = /^rank 1 has not been heard of for [\d.]+ s$/;
  const GONE = /^rank 0, which holds the store at \S+, is gone$/;
  const STILL = /^rank 0, which holds the store, has not answered/;

  async function expectOthers(lost: number, signal: NodeJS.Signals, why: RegExp): Promise<void> {
    for (const end of await without(lost, signal)) {
      expect(end).toMatchObject({ code: 3, error: { code: 'E_RANK_LOST' } });
      expect(end.error!.message).toMatch(why);
    }
  }

  it('ends the others when it is killed', () => expectOthers(1, 'SIGKILL', SILENT));
  it('ends the others when it and the store are stopped', () => expectOthers(0, 'SIGSTOP', STILL));
  itInFull('ends the others when it is stopped', () => expectOthers(1, 'SIGSTOP', SILENT));
  itInFull('ends the others when it and the store are killed', () =>
    expectOthers(0, 'SIGKILL', GONE),
  );

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

describe.concurrent('a rank that lives', () => {
  it('is named when it does not make a call, and all ranks end with the same error', async () => {
    const ends = await runRanks(
      3,
      `
      const world = await join({ timeout: 500, ${FAST} });
      const { group } = world;
      await group.allGather(zeros([6]), zeros([2]), { label: 'block 0' }).wait();
      if (rank === 2) await Promise.race([sleep(60_000), world.lost.then((error) => Promise.reject(error))]);
      await group.allReduce(zeros([4]), { label: 'block 1' }).wait();
      `,
    );
    const message =
      "all-reduce of 4 float32 for 'block 1' (call 2 of the group 'world') has not ended within 0.5 s: " +
      "rank 2 has not called it (its last was call 1, all-gather of 6 float32 for 'block 0')";
    for (const end of ends) {
      expect(end).toMatchObject({ code: 3, error: { code: 'E_COLLECTIVE_TIMEOUT', message } });
    }
  });

  it('is ended, and says why, when its thread does not come back', async () => {
    const [first, second] = await runRanks(
      2,
      `
      const world = await join({ timeout: 500, ${FAST} });
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

  itInFull('is not missed while its thread is busy', async () => {
    const ends = await runRanks(
      2,
      `
      const world = await join({ ${FAST} });
      if (rank === 1) for (const end = performance.now() + 5_000; performance.now() < end; );
      await world.group.barrier({ label: 'late' }).wait();
      await world.close();
      `,
    );
    expect(ends.map(({ code, error }) => [code, error])).toEqual([
      [0, null],
      [0, null],
    ]);
  });

  itInFull('has not lost the others after it was stopped for longer than they wait', async () => {
    const ranks = await startRanks(
      2,
      `
      const world = await join({ ${FAST} });
      say('there');
      for (const end = performance.now() + 7_000; performance.now() < end; await sleep(10));
      await world.group.barrier({ label: 'end' }).wait();
      await world.close();
      `,
    );
    await allThere(ranks);
    for (const { process } of ranks) process.kill('SIGSTOP');
    await new Promise((resolve) => setTimeout(resolve, 5_000));
    for (const { process } of ranks) process.kill('SIGCONT');
    expect((await ended(ranks)).map(({ code, error }) => [code, error])).toEqual([
      [0, null],
      [0, null],
    ]);
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
