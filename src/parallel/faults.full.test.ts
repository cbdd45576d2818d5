import { describe, expect, it } from 'vitest';

import { allThere, ended, endsWithout, FAST, runRanks, startRanks } from './testing.js';

describe.concurrent('a rank that is gone', () => {
  it.each([
    ['is stopped', 1, 'SIGSTOP', /^rank 1 has not been heard of for [\d.]+ s$/],
    ['and the store are killed', 0, 'SIGKILL', /^rank 0, which holds the store at \S+, is gone$/],
  ] as const)('ends the others when it %s', async (_how, lost, signal, message) => {
    for (const end of await endsWithout(lost, signal)) {
      expect(end).toMatchObject({ code: 3, error: { code: 'E_RANK_LOST' } });
      expect(end.error!.message).toMatch(message);
    }
  });
});

describe.concurrent('a rank that lives', () => {
  it('is not missed while its thread is busy', async () => {
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

  it('has not lost the others after it was stopped for longer than they wait', async () => {
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
