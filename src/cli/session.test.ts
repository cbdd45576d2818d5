/** What ends a command from outside: signals, readers that leave, disks that fill up. Real processes throughout. */
import { spawn, spawnSync, type ChildProcess, type StdioOptions } from 'node:child_process';
import {
  closeSync,
  existsSync,
  mkdirSync,
  openSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, afterEach, beforeAll, describe, expect, test } from 'vitest';

import { packageRoot } from '../base/native-path.js';
import { CHAT_FOLDER } from '../generate/testing.js';
import { listCheckpoints, type EndEvent } from '../train/index.js';
import { ColourFolder } from '../train/testing-files.js';

const BIN = join(packageRoot(), 'bin/patina.js');
const STACK = /\n {4}at /;

let folder: ColourFolder;
let recipe: string;
beforeAll(async () => {
  folder = await ColourFolder.make();
  recipe = folder.at('colours.json');
  const run = { root: folder.runs, name: 'mine' };
  writeFileSync(recipe, JSON.stringify(folder.recipe({ run, schedule: { updates: 100_000 } })));
});
afterAll(() => folder.remove());
afterEach(() => rmSync(folder.runs, { recursive: true, force: true }));

/** A process, what it has written so far, and how it ends. */
class Child {
  out = '';
  err = '';
  readonly process: ChildProcess;
  readonly ended: Promise<{ code: number | null; signal: NodeJS.Signals | null }>;

  constructor(args: readonly string[], stdio: StdioOptions = ['ignore', 'pipe', 'pipe']) {
    this.process = spawn(process.execPath, args, { stdio, cwd: folder.path });
    this.process.stdout?.on('data', (text) => (this.out += String(text)));
    this.process.stderr?.on('data', (text) => (this.err += String(text)));
    this.ended = new Promise((resolve) => {
      this.process.on('close', (code, signal) => resolve({ code, signal }));
    });
  }

  async until(what: () => boolean): Promise<void> {
    let over = false;
    void this.ended.then(() => (over = true));
    while (!what()) {
      if (over) throw new Error(`it ended before: ${this.out}${this.err}`);
      await new Promise((resolve) => setTimeout(resolve, 10));
    }
  }
}

const train = (...more: string[]): Child => new Child([BIN, 'train', recipe, ...more]);
const metrics = (): string => {
  const path = join(folder.runs, 'mine', 'metrics.jsonl');
  return existsSync(path) ? readFileSync(path, 'utf8') : '';
};

/** What the folder of the run says. */
async function left(): Promise<{ state: string; reason: string; updates: number; saved: number }> {
  const run = join(folder.runs, 'mine');
  const facts = JSON.parse(readFileSync(join(run, 'state.json'), 'utf8')) as object;
  const saved = (await listCheckpoints(join(run, 'checkpoints'))).at(-1)!.update;
  return { ...(facts as { state: string; reason: string; updates: number }), saved };
}

describe('a training run ends in order, and its folder says why', () => {
  test.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('on %s', async (name) => {
    const run = train('--json');
    await run.until(() => metrics() !== '');
    // As `timeout` and a shell that goes do: more than once.
    for (let i = 0; i < 3; i++) run.process.kill(name);
    expect(await run.ended).toEqual({ code: 130, signal: null });
    expect(run.err).toBe('');
    const end = JSON.parse(run.out.trim().split('\n').at(-1)!) as EndEvent;
    const { updates, saved, ...facts } = await left();
    expect(end).toMatchObject({ type: 'end', reason: 'interrupted', update: updates });
    expect(saved).toBe(updates);
    expect(facts).toMatchObject({ state: 'interrupted', reason: `told to end by ${name}` });
  });

  test.each([
    ['standard output', ['--json']],
    ['standard error', []],
  ])('when nobody reads %s any more', async (name, more) => {
    const run = train(...more);
    await run.until(() => metrics() !== '');
    (name === 'standard output' ? run.process.stdout : run.process.stderr)!.destroy();
    expect(await run.ended).toEqual({ code: 130, signal: null });
    const { updates, saved, ...facts } = await left();
    expect(saved).toBe(updates);
    expect(facts).toMatchObject({ state: 'interrupted', reason: `nobody reads ${name} any more` });
    expect(run.err).not.toMatch(STACK);
  });

  const onSmallDisk = ['-rm', 'sh', '-c', 'mount -t tmpfs -o size=64k none "$0" && exec "$@"'];
  const canMount = spawnSync('unshare', [...onSmallDisk, tmpdir(), 'true']).status === 0;
  test.skipIf(!canMount)('when the disk under standard output fills up', async () => {
    const disk = folder.at('disk');
    mkdirSync(disk);
    const command = 'exec "$0" "$@" > events.jsonl';
    const args = [process.execPath, BIN, 'train', recipe, '--json'];
    const mounted = [...onSmallDisk, disk, 'sh', '-c', `cd "${disk}" && ${command}`, ...args];
    const { status, stderr } = spawnSync('unshare', mounted, { encoding: 'utf8' });
    expect(stderr).toMatch(/^error: The disk is full: could not print at standard output\.\n/);
    expect(stderr).toContain('code: E_DISK_FULL\nhint: Free some space');
    expect(stderr).not.toMatch(STACK);
    expect(status).toBe(3);
    const { updates, saved, ...facts } = await left();
    expect(saved).toBe(updates);
    expect(facts.state).toBe('interrupted');
    expect(facts.reason).toMatch(/^The disk is full: could not print at standard output/);
  });

  test('before the first update there is no run, and the full disk is told', async () => {
    const full = openSync('/dev/full', 'w');
    const run = new Child([BIN, 'train', recipe, '--json'], ['ignore', full, 'pipe']);
    closeSync(full);
    expect(await run.ended).toEqual({ code: 3, signal: null });
    expect(run.err).toMatch(/^error: The disk is full.*\ncode: E_DISK_FULL\nhint: .*\n$/);
    expect(existsSync(folder.runs)).toBe(false);
  });
});

describe('a second signal ends at once what does not end', () => {
  const module = pathToFileURL(join(packageRoot(), 'dist/src/cli/session.js')).href;
  const endless = `
    import { openSession } from ${JSON.stringify(module)};
    await openSession(process.stdout, process.stderr).inOrder((signal) => {
      signal.addEventListener('abort', () => console.log(signal.reason.message));
      console.log('begun');
      return new Promise(() => setInterval(() => undefined, 1000));
    });`;

  test.each([
    ['SIGINT', 'SIGINT'],
    ['SIGTERM', 'SIGINT'],
    ['SIGHUP', 'SIGTERM'],
  ] as const)('%s, then %s', async (first, second) => {
    const child = new Child(['--input-type=module', '-e', endless]);
    await child.until(() => child.out.includes('begun'));
    child.process.kill(first);
    await child.until(() => child.out.includes(`told to end by ${first}`));
    const again = setInterval(() => child.process.kill(second), 50);
    const { signal } = await child.ended;
    clearInterval(again);
    expect(signal).toBe(second);
  });

  test('but not a second SIGHUP, which a shell that goes sends by itself', async () => {
    const child = new Child(['--input-type=module', '-e', endless]);
    await child.until(() => child.out.includes('begun'));
    let sent = 0;
    const again = setInterval(() => {
      child.process.kill('SIGHUP');
      if (++sent === 20) child.process.kill('SIGTERM');
    }, 50);
    const { signal } = await child.ended;
    clearInterval(again);
    expect(signal).toBe('SIGTERM');
  });
});

describe('no command shows a stack where its output ends', () => {
  const data = (): string[] => ['--tokenizer', folder.at('tokenizer'), '--data'];
  const COMMANDS: [string, () => string[]][] = [
    ['--help', () => ['--help']],
    ['help', () => ['help', 'train']],
    ['--version', () => ['--version']],
    ['recipes list', () => ['recipes', 'list']],
    ['recipes show', () => ['recipes', 'show', 'llava-1.5-7b-lora', '--json']],
    ['runs', () => ['runs', '--json']],
    ['show --data', () => ['show', ...data(), folder.at('one.jsonl')]],
    ['show --image', () => ['show', '--image', folder.at('0.png'), '--size', '8']],
    ['export --inspect', () => ['export', '--inspect', CHAT_FOLDER]],
    ['chat', () => ['chat', CHAT_FOLDER, '--max-new-tokens', '4', '--device', 'cpu', 'What?']],
    ['doctor', () => ['doctor', '--json']],
  ];

  test.each(COMMANDS)('%s', async (_name, args) => {
    const full = openSync('/dev/full', 'w');
    const unwritable = new Child([BIN, ...args()], ['ignore', full, 'pipe']);
    closeSync(full);
    const unread = new Child([BIN, ...args()]);
    unread.process.stdout!.destroy();
    expect(await unwritable.ended).toEqual({ code: 3, signal: null });
    expect(unwritable.err).toMatch(/^error: The disk is full.*\ncode: E_DISK_FULL\nhint: .*\n/m);
    expect(unwritable.err).not.toMatch(STACK);
    expect(await unread.ended).toEqual({ code: 130, signal: null });
    expect(unread.err).not.toMatch(STACK);
  });

  test('an error keeps its exit code where it cannot be shown', async () => {
    const full = openSync('/dev/full', 'w');
    const child = new Child([BIN, 'frobnicate'], ['ignore', 'pipe', full]);
    closeSync(full);
    expect(await child.ended).toEqual({ code: 2, signal: null });
  });
});
