import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { launchRanks, type LaunchOptions } from './launch.js';
import { program } from './testing.js';

let folder: string;
beforeAll(() => {
  folder = mkdtempSync(join(tmpdir(), 'patina-launch-'));
});
afterAll(() => rmSync(folder, { recursive: true }));

interface Launch {
  readonly process: ChildProcess;
  /** What its standard output was when it had ended, with its exit code. */
  readonly end: Promise<{ code: number | null; out: string; err: string }>;
  /** Resolves when so many lines have come to standard error. */
  lines(count: number): Promise<void>;
  /** Its standard error so far. */
  soFar(): string;
}

/** A process that launches ranks and ends as they do; each runs a script. */
function launch(script: string, options: Partial<LaunchOptions> = {}): Launch {
  const given = { command: [process.execPath, '--input-type=module', '-e', script], processes: 3 };
  const launcher = program(`
    const { code, failure } = await parallel.launchRanks(${JSON.stringify({ ...given, ...options })});
    if (failure) process.stderr.write(failure + '\\n');
    process.exitCode = code;`);
  const child = spawn(process.execPath, ['--input-type=module', '-e', launcher], {
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  let [out, err] = ['', ''];
  const waiting = new Set<() => void>();
  child.stdout.on('data', (data) => (out += String(data)));
  child.stderr.on('data', (data) => {
    err += String(data);
    for (const look of waiting) look();
  });
  return {
    process: child,
    end: new Promise((resolve) => {
      child.once('close', (code) => resolve({ code, out, err }));
    }),
    soFar: () => err,
    lines: (count) =>
      new Promise((resolve) => {
        const look = (): void => {
          if (err.split('\n').length > count) resolve();
        };
        waiting.add(look);
        look();
      }),
  };
}

const alive = (pid: number): boolean => {
  try {
    return process.kill(pid, 0);
  } catch {
    return false;
  }
};

/** The lines of standard error without what differs, in order. */
const sorted = (text: string): string[] => text.trimEnd().split('\n').sort();

/** Each rank lives on, and says that it got a signal; its process id, when it is ready for them. */
const STUBBORN = `
  for (const name of ['SIGINT', 'SIGTERM']) process.on(name, () => process.stderr.write(name + '\\n'));
  setInterval(() => undefined, 1_000);
  process.stderr.write(process.pid + '\\n');`;

/** The process ids that ranks have said, or one of them. */
function pids(text: string, only?: number): number[] {
  const lines = [...text.matchAll(/^(?:\[rank (\d)\] )?(\d+)$/gm)];
  return lines
    .filter(([, rank]) => only === undefined || Number(rank) === only)
    .map(([, , pid]) => Number(pid));
}

describe.concurrent('launched ranks', () => {
  it('have their variables and a meeting place, and only the first one prints', async () => {
    const script = `
      const { RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, MASTER_PORT } = process.env;
      const place = [RANK, WORLD_SIZE, LOCAL_RANK, LOCAL_WORLD_SIZE, MASTER_ADDR, Number(MASTER_PORT) > 0].join();
      console.log('out', place);
      console.error('err', place);`;
    const { code, out, err } = await launch(script, { processes: 2 }).end;
    expect(out).toBe('out 0,2,0,2,127.0.0.1,true\n');
    expect(sorted(err)).toEqual([
      '[rank 1] err 1,2,1,2,127.0.0.1,true',
      'err 0,2,0,2,127.0.0.1,true',
    ]);
    expect(code).toBe(0);
  });

  it('are those of one machine of several, and print to files', async () => {
    const logs = join(folder, 'logs');
    const node = { index: 1, count: 4, address: 'gpu1', port: 4711 };
    const script = `
      const { RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT } = process.env;
      console.log([RANK, WORLD_SIZE, LOCAL_RANK, MASTER_ADDR, MASTER_PORT].join());
      console.error('done');`;
    const end = await launch(script, { processes: 2, node, logs }).end;
    expect(end).toEqual({ code: 0, out: '', err: '' });
    expect([2, 3].map((rank) => readFileSync(join(logs, `rank-${rank}.log`), 'utf8'))).toEqual([
      '2,8,0,gpu1,4711\ndone\n',
      '3,8,1,gpu1,4711\ndone\n',
    ]);
  });

  it('meet, and are told where one is lost', async () => {
    const script = program(`
      const world = await join({ heartbeat: { interval: 200, timeout: 4_000 } });
      await world.group.barrier({ label: 'start' }).wait();
      if (rank === 1) process.exit(6);
      await world.group.barrier({ label: 'end' }).wait();`);
    const { code, err } = await launch(script).end;
    expect(err).toContain('rank 1 ended with exit code 6');
    expect(code).toBe(6);
  });

  it('are ended when one is killed, also those that are stopped or do not listen', async () => {
    const stop = `if (process.env.RANK === '1') process.kill(process.pid, 'SIGSTOP');`;
    const launched = launch(`${STUBBORN} ${stop}`, { grace: 500 });
    await launched.lines(3);
    process.kill(pids(launched.soFar(), 2)[0]!, 'SIGKILL');
    const { code, err } = await launched.end;
    expect(err).toContain('rank 2 was killed by SIGKILL\n');
    // The one that was stopped goes on, and is told like the others.
    expect(sorted(err).filter((line) => line.includes('SIGTERM'))).toEqual(
      ['SIGTERM', '[rank 1] SIGTERM'].sort(),
    );
    expect(code).toBe(3);
    expect(pids(err).filter(alive)).toEqual([]);
  });

  it('end when their launcher is killed', async () => {
    const script = program(`
      const world = await join({ heartbeat: { interval: 200, timeout: 4_000, grace: 1_000 } });
      process.stderr.write(process.pid + '\\n');
      for (;;) {
        await world.group.barrier({ label: 'step' }).wait();
        await sleep(10);
      }`);
    const launched = launch(script);
    await launched.lines(3);
    launched.process.kill('SIGKILL');
    const ranks = pids(launched.soFar());
    expect(ranks.length).toBe(3);
    await vi.waitFor(() => expect(ranks.filter(alive)).toEqual([]), { timeout: 30_000 });
  });

  it('end when their launcher is killed before they have met', async () => {
    // The last one never comes to the others; one asks for them only when its launcher is gone.
    const script = program(`
      process.stderr.write(process.pid + '\\n');
      if (rank === 2) for (;;) await sleep(1_000);
      if (rank === 1) await sleep(1_500);
      await join({ joinTimeout: 60_000 });`);
    const launched = launch(script);
    await launched.lines(3);
    launched.process.kill('SIGKILL');
    const ranks = pids(launched.soFar());
    const last = launched.soFar().match(/\[rank 2\] (\d+)/)![1]!;
    const waiting = ranks.filter((pid) => pid !== Number(last));
    expect(waiting.length).toBe(2);
    await vi.waitFor(() => expect(waiting.filter(alive)).toEqual([]), { timeout: 20_000 });
    process.kill(Number(last), 'SIGKILL');
  });

  it('are told once by the first signal, and killed by the second', async () => {
    const launched = launch(STUBBORN);
    await launched.lines(3);
    launched.process.kill('SIGINT');
    await launched.lines(6);
    // An echo of the first, as npm makes it.
    launched.process.kill('SIGINT');
    await new Promise((resolve) => setTimeout(resolve, 700));
    launched.process.kill('SIGINT');
    const { code, err } = await launched.end;
    expect(sorted(err).filter((line) => line.includes('SIGINT'))).toEqual(
      ['SIGINT', '[rank 1] SIGINT', '[rank 2] SIGINT'].sort(),
    );
    expect(code).toBe(130);
    expect(pids(err).filter(alive)).toEqual([]);
  });

  it('may each take their time after a signal', async () => {
    const launched = launch(`
      process.on('SIGTERM', () => setTimeout(() => process.exit(130), 200 * process.env.RANK));
      process.on('exit', () => process.stderr.write('saved\\n'));
      setInterval(() => undefined, 1_000);
      process.stderr.write('there\\n');`);
    await launched.lines(3);
    launched.process.kill('SIGTERM');
    const { code, err } = await launched.end;
    expect(err.match(/saved/g)?.length).toBe(3);
    expect(code).toBe(130);
  });
});

it('names a program that cannot be started', async () => {
  const command = [join(folder, 'nothing')];
  await expect(launchRanks({ command, processes: 2 })).rejects.toMatchObject({
    code: 'E_LAUNCH',
    exitCode: 3,
    message: expect.stringMatching(/nothing cannot be started: .*ENOENT/) as string,
  });
});
