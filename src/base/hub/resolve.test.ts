import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';

import { gitHash, LoopbackHub, sha256 } from './loopback-hub.js';
import { resolveModel, type HubEvent, type ResolveOptions } from './resolve.js';

const COMMIT = 'c0ffee'.padEnd(40, '0');
const WEIGHTS = randomBytes(300_000);
const CONFIG = '{"model_type": "llava"}';

let hub: LoopbackHub;
let cacheFolder: string;
let options: ResolveOptions;
let events: HubEvent[];

beforeEach(async () => {
  hub = await LoopbackHub.start();
  hub.repositories.set('models/org/model', {
    commit: COMMIT,
    files: {
      'config.json': CONFIG,
      'model.safetensors': { content: WEIGHTS, large: true },
      'pytorch_model.bin': { content: WEIGHTS, large: true },
      'original/consolidated.00.pth': { content: WEIGHTS, large: true },
      'projector/a b#1.json': '{}',
    },
  });
  cacheFolder = mkdtempSync(join(tmpdir(), 'patina-hub-'));
  events = [];
  options = {
    cacheFolder,
    retryDelay: 0.01,
    env: { HF_ENDPOINT: hub.endpoint, HF_HOME: join(cacheFolder, 'home') },
    onDownload: (event) => events.push(event),
  };
});
afterEach(async () => {
  await hub.stop();
  rmSync(cacheFolder, { recursive: true });
});

const repository = (): string => join(cacheFolder, 'models--org--model');
const blob = (): string => join(repository(), 'blobs', sha256(WEIGHTS));
const notices = (): string[] =>
  events.flatMap((event) => (event.type === 'notice' ? [event.message] : []));

describe('a name on the hub', () => {
  test('becomes a folder in the layout that Python shares', async () => {
    const prints = [
      vi.spyOn(console, 'debug'),
      vi.spyOn(console, 'log'),
      vi.spyOn(console, 'info'),
    ];
    const folder = await resolveModel('org/model', options);
    expect(folder).toBe(join(repository(), 'snapshots', COMMIT));
    const files = readdirSync(folder, { recursive: true }).sort();
    expect(files).toEqual([
      'config.json',
      'model.safetensors',
      'projector',
      'projector/a b#1.json',
    ]);
    expect(readlinkSync(join(folder, 'model.safetensors'))).toBe(`../../blobs/${sha256(WEIGHTS)}`);
    expect(readlinkSync(join(folder, 'projector/a b#1.json'))).toBe(
      `../../../blobs/${gitHash('{}')}`,
    );
    expect(readFileSync(join(folder, 'model.safetensors')).equals(WEIGHTS)).toBe(true);
    expect(readFileSync(join(repository(), 'refs/main'), 'utf8')).toBe(COMMIT);
    const tree = JSON.parse(
      readFileSync(join(repository(), 'trees', `${COMMIT}.json`), 'utf8'),
    ) as { format_version: number; files: Record<string, object> };
    expect(tree.format_version).toBe(1);
    expect(tree.files['model.safetensors']).toMatchObject({
      size: WEIGHTS.length,
      lfs_sha256: sha256(WEIGHTS),
      lfs_size: WEIGHTS.length,
    });
    expect(Object.keys(tree.files)).toContain('original/consolidated.00.pth');
    expect(
      readdirSync(join(repository(), 'blobs')).some((name) => name.includes('incomplete')),
    ).toBe(false);
    expect(readdirSync(join(cacheFolder, '.locks/models--org--model'))).toEqual([]);
    for (const print of prints) expect(print).not.toHaveBeenCalled();
  });

  test('is asked for once, then served from the cache', async () => {
    await resolveModel('org/model', options);
    const before = hub.downloads().length;
    await resolveModel('org/model', options);
    expect(hub.downloads()).toHaveLength(before);
    const asked = hub.requests.length;
    await resolveModel(`org/model@${COMMIT}`, options);
    await resolveModel('org/model', { ...options, offline: true });
    expect(hub.requests).toHaveLength(asked);
  });

  test('tells how far it is', async () => {
    await resolveModel('org/model', options);
    const progress = events.filter((event) => event.type === 'progress');
    const totalBytes = WEIGHTS.length + CONFIG.length + 2;
    expect(progress.at(-1)).toMatchObject({
      bytes: totalBytes,
      totalBytes,
      files: 3,
      totalFiles: 3,
    });
    expect(progress.every((event, i) => i === 0 || event.bytes >= progress[i - 1]!.bytes)).toBe(
      true,
    );
  });

  test('of a dataset gives the files asked for', async () => {
    hub.repositories.set('datasets/org/data', {
      commit: COMMIT,
      files: { 'a.json': '[]', 'b.json': '[1]', 'images.zip': 'zip' },
    });
    const dataset = { ...options, kind: 'dataset' as const };
    const folder = await resolveModel('org/data', { ...dataset, files: ['a.json'] });
    expect(readdirSync(folder)).toEqual(['a.json']);
    await resolveModel('org/data', dataset);
    expect(readdirSync(folder)).toEqual(['a.json', 'b.json']);
    await expect(resolveModel('org/data', { ...dataset, files: ['c.*'] })).rejects.toMatchObject({
      code: 'E_HUB_FILE',
      message: expect.stringContaining('no file c.*') as string,
    });
  });

  test('sends the token to the hub and to nobody else', async () => {
    await resolveModel('org/model', { ...options, token: 'secret' });
    const seen = hub.requests.map(
      ({ server, authorization }) => `${server} ${authorization ?? '-'}`,
    );
    expect(new Set(seen)).toEqual(new Set(['hub Bearer secret', 'store -']));
  });
});

describe('a local path', () => {
  test('is returned as it is, also offline', async () => {
    const path = join(cacheFolder, 'my model');
    mkdirSync(path);
    await expect(resolveModel(path, { ...options, offline: true })).resolves.toBe(path);
    expect(hub.requests).toHaveLength(0);
  });

  test.each(['./gone', '/gone/model', '~/gone', 'a/b/c', 'gone.pth', 'data.jsonl'])(
    '%s that is not there is an error, not a question to the hub',
    async (path) => {
      await expect(resolveModel(path, options)).rejects.toMatchObject({ code: 'E_PATH_MISSING' });
      expect(hub.requests).toHaveLength(0);
    },
  );

  test.each(['', '-x/y', 'a b', 'a--b/c', 'org/model.git', 'org/'])(
    '%j is no name',
    async (name) => {
      await expect(resolveModel(name, options)).rejects.toMatchObject({ code: 'E_HUB_NAME' });
    },
  );

  test.each(['../../x', '/x', 'a//b', 'a\\b', ''])('%j is no revision', async (revision) => {
    await expect(resolveModel('org/model', { ...options, revision })).rejects.toMatchObject({
      code: 'E_HUB_REVISION_NAME',
    });
  });
});

describe('an interrupted download', () => {
  test('goes on by range when the connection drops', async () => {
    hub.faults.set('model.safetensors', { times: 2, dropAfter: 100_000 });
    await resolveModel('org/model', options);
    const asked = hub.downloads().filter((file) => file.startsWith('store:model.safetensors'));
    const from = asked.map((file) => Number(/@bytes=(\d+)-$/.exec(file)?.[1] ?? 0));
    // What was on its way when a connection dropped may be lost.
    expect(from).toHaveLength(3);
    expect(from[0]).toBe(0);
    expect(from[1]).toBeGreaterThan(0);
    expect(from[1]).toBeLessThanOrEqual(100_000);
    expect(from[2]).toBeGreaterThan(from[1]!);
    expect(from[2]).toBeLessThanOrEqual(from[1]! + 100_000);
    expect(readFileSync(blob()).equals(WEIGHTS)).toBe(true);
    expect(notices()).toHaveLength(2);
  });

  test('goes on in another process, after an abort', async () => {
    const abort = new AbortController();
    hub.faults.set('model.safetensors', { times: 1, stallAfter: 120_000 });
    const stopped = resolveModel('org/model', {
      ...options,
      signal: abort.signal,
      onDownload: (event) => {
        if (event.type === 'progress' && event.bytes > 100_000) abort.abort(new Error('enough'));
      },
    });
    await expect(stopped).rejects.toThrow('enough');
    // What had been received may still be on its way to the disk.
    const left = await vi.waitFor(async () => {
      const seen = readFileSync(`${blob()}.patina.incomplete`);
      await sleep(50);
      expect(readFileSync(`${blob()}.patina.incomplete`).length).toBe(seen.length);
      return seen;
    });
    expect(left.equals(WEIGHTS.subarray(0, left.length))).toBe(true);
    expect(existsSync(blob())).toBe(false);
    await resolveModel('org/model', options);
    expect(hub.downloads().at(-1)).toBe(`store:model.safetensors@bytes=${left.length}-`);
    expect(readFileSync(blob()).equals(WEIGHTS)).toBe(true);
    expect(notices().join()).toContain(`going on after ${left.length} bytes`);
  });

  test('goes on after a stall', async () => {
    hub.faults.set('model.safetensors', { times: 1, stallAfter: 50_000 });
    const env = { ...options.env, HF_HUB_DOWNLOAD_TIMEOUT: '0.3' };
    await resolveModel('org/model', { ...options, env });
    expect(notices().join()).toContain('no data for 0.3 seconds');
    expect(readFileSync(blob()).equals(WEIGHTS)).toBe(true);
  });

  test.each([
    ['a broken rest', randomBytes(1000), {}],
    ['a rest that is too long', randomBytes(WEIGHTS.length + 1), {}],
    ['a server without ranges', WEIGHTS.subarray(0, 1000), { times: 1, ignoreRange: true }],
    ['a whole rest', WEIGHTS, {}],
  ])('begins anew or ends well with %s', async (_case, left, fault) => {
    mkdirSync(dirname(blob()), { recursive: true });
    writeFileSync(`${blob()}.patina.incomplete`, left);
    if ('times' in fault) hub.faults.set('model.safetensors', fault);
    await resolveModel('org/model', options);
    expect(readFileSync(blob()).equals(WEIGHTS)).toBe(true);
  });

  test('is given up when nothing more comes', async () => {
    hub.faults.set('model.safetensors', {
      times: 99,
      status: 503,
      headers: { 'retry-after': '0' },
    });
    await expect(resolveModel('org/model', options)).rejects.toMatchObject({
      code: 'E_HUB_UNREACHABLE',
      exitCode: 3,
      message: expect.stringContaining('503') as string,
    });
  });
});

test('a file with the wrong content is refused and leaves nothing', async () => {
  for (const path of ['config.json', 'model.safetensors']) {
    hub.faults.set(path, { times: 1, corrupt: true });
    await expect(resolveModel('org/model', { ...options, concurrency: 1 })).rejects.toMatchObject({
      code: 'E_HUB_CHECKSUM',
      message: expect.stringContaining(path) as string,
    });
  }
  expect(readdirSync(join(repository(), 'blobs'))).not.toContain(sha256(WEIGHTS));
  await resolveModel('org/model', options);
});

test('a cached file of the wrong size is fetched again', async () => {
  await resolveModel('org/model', options);
  writeFileSync(blob(), 'torn');
  const folder = await resolveModel('org/model', options);
  expect(readFileSync(join(folder, 'model.safetensors')).equals(WEIGHTS)).toBe(true);
});

describe('refusals', () => {
  const page = (): string => `${hub.endpoint}/org/gated`;
  beforeEach(() => {
    hub.repositories.set('models/org/gated', {
      commit: COMMIT,
      files: { 'config.json': CONFIG },
      gatedFor: 'right',
    });
    hub.repositories.set('models/org/private', {
      commit: COMMIT,
      files: { 'config.json': CONFIG },
      privateFor: 'right',
    });
  });

  test('a gated model says where to accept its licence, with and without a token', async () => {
    for (const token of [undefined, 'wrong']) {
      await expect(resolveModel('org/gated', { ...options, token })).rejects.toMatchObject({
        code: 'E_HUB_GATED',
        exitCode: 3,
        hint: expect.stringContaining(page()) as string,
      });
    }
    await resolveModel('org/gated', { ...options, token: 'right' });
  });

  test.each([
    ['org/none', undefined, 'E_HUB_NOT_FOUND'],
    ['org/none', 'wrong', 'E_HUB_NOT_FOUND'],
    ['org/private', undefined, 'E_HUB_NOT_FOUND'],
    ['org/private', 'refused', 'E_HUB_TOKEN'],
    ['org/model@v9', undefined, 'E_HUB_REVISION'],
  ])('%s with token %s is %s', async (name, token, code) => {
    const failure = resolveModel(name, { ...options, token });
    await expect(failure).rejects.toMatchObject({ code });
    await expect(failure).rejects.not.toMatchObject({
      message: expect.stringContaining('refused') as string,
    });
  });

  test('a token that cannot be one is refused without showing it', async () => {
    for (const token of ['hf_a\nb', 'hf_\u2026', 'hf a']) {
      const failure = resolveModel('org/model', { ...options, token });
      await expect(failure).rejects.toMatchObject({ code: 'E_HUB_TOKEN' });
      await expect(failure).rejects.not.toThrow(token);
    }
    expect(hub.requests).toHaveLength(0);
  });

  test.each([
    [403, 'E_HUB_FORBIDDEN'],
    [418, 'E_HUB_RESPONSE'],
    [500, 'E_HUB_UNREACHABLE'],
    [429, 'E_HUB_UNREACHABLE'],
  ])('status %d is %s', async (status, code) => {
    hub.faults.set('api', { times: 9, status });
    await expect(resolveModel('org/model', options)).rejects.toMatchObject({ code });
  });

  test('a busy hub is asked again', async () => {
    hub.faults.set('api', { times: 2, status: 429 });
    await resolveModel('org/model', options);
    expect(notices()).toHaveLength(2);
  });

  test.each(['../../escape.json', '/etc/escape.json', 'a/../../b.json', 'c\\d.json'])(
    'a listing with %s is refused before anything is written',
    async (path) => {
      hub.repositories.get('models/org/model')!.files[path] = '{}';
      await expect(resolveModel('org/model', options)).rejects.toMatchObject({
        code: 'E_HUB_RESPONSE',
      });
      expect(existsSync(repository())).toBe(false);
    },
  );

  test('HF_ENDPOINT that is no hub, or no address, is typed', async () => {
    const env = (endpoint: string): ResolveOptions => ({
      ...options,
      env: { ...options.env, HF_ENDPOINT: endpoint },
    });
    await expect(resolveModel('org/model', env('nonsense'))).rejects.toMatchObject({
      code: 'E_HUB_ENDPOINT',
      exitCode: 2,
    });
    const gone = await LoopbackHub.start();
    const { endpoint } = gone;
    await gone.stop();
    await expect(resolveModel('org/model', env(endpoint))).rejects.toMatchObject({
      code: 'E_HUB_UNREACHABLE',
      message: expect.stringMatching(
        /for the model org\/model \(no folder here has that name\) failed: .*ECONNREFUSED/,
      ) as string,
    });
  });
});

describe('without the network', () => {
  test('offline is a clear error for what is not cached, or only in part', async () => {
    const offline = { ...options, env: { ...options.env, HF_HUB_OFFLINE: '1' } };
    await expect(resolveModel('org/model', offline)).rejects.toMatchObject({
      code: 'E_HUB_OFFLINE',
      exitCode: 3,
    });
    const folder = await resolveModel('org/model', options);
    await expect(resolveModel('org/model', offline)).resolves.toBe(folder);
    rmSync(join(folder, 'model.safetensors'));
    await expect(resolveModel('org/model', offline)).rejects.toMatchObject({
      code: 'E_HUB_OFFLINE',
      message: expect.stringContaining('lacks model.safetensors') as string,
    });
  });

  test('a snapshot that Python left without a listing is judged by the index of its shards', async () => {
    const folder = join(repository(), 'snapshots', COMMIT);
    mkdirSync(folder, { recursive: true });
    mkdirSync(join(repository(), 'refs'));
    writeFileSync(join(repository(), 'refs/main'), COMMIT);
    writeFileSync(join(folder, 'config.json'), CONFIG);
    const offline = { ...options, offline: true };
    await expect(resolveModel('org/model', offline)).resolves.toBe(folder);
    const index = { weight_map: { a: 'model-1.safetensors', b: 'model-2.safetensors' } };
    writeFileSync(join(folder, 'model.safetensors.index.json'), JSON.stringify(index));
    writeFileSync(join(folder, 'model-1.safetensors'), '');
    await expect(resolveModel('org/model', offline)).rejects.toMatchObject({
      message: expect.stringContaining('lacks model-2.safetensors') as string,
    });
  });

  test('a dead hub gives way to the cached copy, and says so', async () => {
    const folder = await resolveModel('org/model', options);
    hub.faults.set('api', { times: 99, status: 503 });
    await expect(resolveModel('org/model', options)).resolves.toBe(folder);
    expect(notices().at(-1)).toContain(`The copy in the cache serves in its place: ${folder}`);
  });
});

test('two calls at once fetch each file once', async () => {
  const folders = await Promise.all([
    resolveModel('org/model', options),
    resolveModel('org/model', options),
  ]);
  expect(folders[0]).toBe(folders[1]);
  expect(hub.downloads().filter((file) => file === 'store:model.safetensors')).toHaveLength(1);
});

test('a process that is killed leaves no lock that blocks', async () => {
  const child = spawn(process.execPath, ['-e', 'setTimeout(() => {}, 60000)']);
  await new Promise((resolve) => child.once('spawn', resolve));
  child.kill('SIGKILL');
  await new Promise((resolve) => child.once('exit', resolve));
  const lock = join(cacheFolder, '.locks/models--org--model', `${sha256(WEIGHTS)}.patina.lock`);
  mkdirSync(dirname(lock), { recursive: true });
  const { hostname } = await import('node:os');
  writeFileSync(lock, JSON.stringify({ host: hostname(), pid: child.pid, started: '', since: '' }));
  await resolveModel('org/model', options);
});

test('HF_HUB_DISABLE_SYMLINKS makes copies', async () => {
  const env = { ...options.env, HF_HUB_DISABLE_SYMLINKS: '1' };
  const folder = await resolveModel('org/model', { ...options, env });
  expect(lstatSync(join(folder, 'model.safetensors')).isFile()).toBe(true);
});

test('a cache that cannot be written is a typed error', async () => {
  const file = join(cacheFolder, 'file');
  writeFileSync(file, '');
  await expect(
    resolveModel('org/model', { ...options, cacheFolder: join(file, 'cache') }),
  ).rejects.toMatchObject({ code: 'E_UNWRITABLE', exitCode: 3 });
});
