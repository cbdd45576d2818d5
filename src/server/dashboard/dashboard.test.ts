import { appendFileSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import sharp from 'sharp';
import { afterAll, beforeAll, describe, expect, it, vi } from 'vitest';

import { type FileLock, tryLock } from '../../base/lock-file.js';
import { hostsOf } from '../access.js';
import { dashboard } from './dashboard.js';
import { Runs } from './runs.js';
import type { Curves } from './curves.js';
import type { RecordView, RunCard, RunView } from './shown.js';
import { metricsLine, writeRun } from './testing.js';

const TOKEN = 'secret';
let root: string;
let app: ReturnType<typeof dashboard>;

beforeAll(async () => {
  root = mkdtempSync(join(tmpdir(), 'patina-dashboard-'));
  const images = ['cat.png'];
  await sharp({ create: { width: 8, height: 4, channels: 3, background: 'red' } })
    .png()
    .toFile(join(root, 'cat.png'));
  writeFileSync(join(root, 'secret.png'), 'not told of');
  const source = join(root, 'a.json');
  const records = [1, 2, 3].map((number) => ({
    ...{ id: `r${number}`, image: 'cat.png' },
    conversations: [
      { from: 'human', value: '<image>\nWhat is it?' },
      { from: 'gpt', value: 'A cat' },
    ],
  }));
  writeFileSync(source, `[\n${records.map((each) => JSON.stringify(each)).join(',\n')}\n]`);
  const metrics = [1, 2, 3].map((update) => metricsLine(update, update === 2 ? { loss: NaN } : {}));
  writeRun(root, 'first', {
    metrics,
    recipe: {
      name: 'demo',
      data: { sources: [{ path: source, weight: 1 }] },
      optimizer: { learningRate: 1e-4, betas: [0.9, 0.95] },
    },
    events: [
      {
        ...{ type: 'diagnosis', update: 2, cause: 'poisoned-record', evidence: [] },
        records: [{ source, line: 2, record: 1, id: 'r1' }],
      },
      {
        type: 'probes',
        update: 0,
        answers: [{ question: 'What is it?', images, answer: 'A cat' }],
      },
      ...[0, 2].map((update) => ({
        ...{ type: 'score', update, name: 'pope', task: 'pope', harness: 'llava', score: 0.5 },
        ...{ interval: [0.4, 0.6], n: 9, categories: { random: { score: 0.5, n: 9 } } },
      })),
      { type: 'bad-record', update: 1, record: { file: source, line: 3, record: 2, id: 'r2' } },
    ],
  });
  writeRun(root, 'second', {
    ...{ metrics, state: 'running', planned: 10 },
    recipe: {
      ...{ name: 'demo', data: { sources: [{ path: source, weight: 1 }] }, seed: 1 },
      optimizer: { learningRate: 2e-4, betas: [0.9, 0.95] },
    },
  });
  app = dashboard({
    ...{ runs: new Runs([root]), token: TOKEN, hosts: hostsOf('127.0.0.1'), interval: 20 },
  });
});
afterAll(() => rmSync(root, { recursive: true }));

const authorization = { authorization: `Bearer ${TOKEN}` };
const host = { host: 'localhost:7860' };

function ask(path: string, init: RequestInit = {}): Promise<Response> {
  const headers = { ...host, ...authorization, ...(init.headers as object) };
  return Promise.resolve(app.request(`http://localhost:7860${path}`, { ...init, headers }));
}

async function json<T>(path: string): Promise<T> {
  const response = await ask(path);
  expect(response.status).toBe(200);
  return (await response.json()) as T;
}

interface Refusal {
  error: { code: string; message: string; hint?: string };
}

describe('runs', () => {
  it('are listed with how they stand', async () => {
    const { runs } = await json<{ runs: RunCard[] }>('/api/runs');
    expect(runs.map(({ id, state, updates }) => [id, state, updates]).sort()).toEqual([
      ['first', 'finished', 3],
      ['second', 'crashed', 3], // It says that it runs, but nobody holds it.
    ]);
    expect(runs[0]!.losses).toEqual([4, null, 2]);
  });

  it('are told of whole', async () => {
    const run = await json<RunView>('/api/runs/first');
    expect(run.last).toMatchObject({
      loss: 2,
      textTokensPerSecond: 250,
      imageTokensPerSecond: 750,
    });
    expect(run.badRecords).toMatchObject({ count: 1 });
    expect(run.probes).toHaveLength(1);
    const score = {
      name: 'pope',
      task: 'pope',
      harness: 'llava',
      score: 0.5,
      interval: [0.4, 0.6],
    };
    expect(run.scores).toEqual([0, 2].map((update) => ({ update, ...score, n: 9 })));
    expect(run.start).toBeNull();
  });

  it('grow while one looks; a torn line waits for its end', async () => {
    const path = join(writeRun(root, 'growing', { metrics: [metricsLine(1)] }), 'metrics.jsonl');
    const updates = async () => (await json<Curves>('/api/runs/growing/curves')).updates;
    expect(await updates()).toEqual([1]);
    const line = JSON.stringify(metricsLine(2));
    appendFileSync(path, line.slice(0, 30));
    expect(await updates()).toEqual([1]);
    appendFileSync(path, `${line.slice(30)}\nno JSON\n${JSON.stringify(metricsLine(3))}\n`);
    expect(await updates()).toEqual([1, 2, 3]);
    // It went back to its checkpoint.
    appendFileSync(path, `${JSON.stringify(metricsLine(2, { loss: 9 }))}\n`);
    expect((await json<Curves>('/api/runs/growing/curves?keys=loss')).series['loss']!.mean).toEqual(
      [4, 9],
    );
    rmSync(join(root, 'growing'), { recursive: true });
  });

  it('that were begun anew under their name are shown as they are now', async () => {
    const means = async () => (await json<Curves>('/api/runs/again/curves')).series['loss']!.mean;
    const folder = writeRun(root, 'again', { metrics: [1, 2, 3].map((n) => metricsLine(n)) });
    expect(await means()).toEqual([4, 2.5, 2]);
    rmSync(folder, { recursive: true });
    expect((await ask('/api/runs/again/curves')).status).toBe(404);
    const metrics = [1, 2, 3, 4].map((update) => metricsLine(update, { loss: 9 }));
    writeRun(root, 'again', { metrics });
    expect(await means()).toEqual([9, 9, 9, 9]);
    // The same file, cut.
    writeRun(root, 'again', { metrics: metrics.slice(0, 2) });
    expect(await means()).toEqual([9, 9]);
    rmSync(folder, { recursive: true });
  });

  it('are shown without the lines that cannot be, and say so', async () => {
    const broken = [
      ...['garbage', '5', 'null', '{"type":5}', '{"type":"probes"}', '{"type":"bad-record"}'],
      ...['{"type":"diagnosis","records":null}', '{"type":"score"}', '{"type":"start"}'],
    ];
    const folder = writeRun(root, 'broken', { metrics: [metricsLine(1)] });
    appendFileSync(join(folder, 'events.jsonl'), `${broken.join('\n')}\n{"type":"checkpoint"}\n`);
    const metrics = [JSON.stringify(metricsLine(2, { ranks: [null, 5] })), '{"update":1e400}'];
    appendFileSync(join(folder, 'metrics.jsonl'), `${metrics.join('\n')}\n`);
    const run = await json<RunView>('/api/runs/broken');
    expect(run).toMatchObject({ updates: 2, probes: [], diagnoses: [], scores: [], start: null });
    expect(run.checkpoints).toHaveLength(1);
    expect(run.warnings).toMatchObject([
      { code: 'E_LOG_BROKEN', message: expect.stringMatching(/^10 lines /) as string },
    ]);
    for (const path of ['picture?path=x', 'record?source=x&record=1']) {
      expect((await ask(`/api/runs/broken/${path}`)).status).toBe(404);
    }
    rmSync(folder, { recursive: true });
  });

  it('hide no others where their files cannot be read', async () => {
    const folder = writeRun(root, 'unreadable', { metrics: [metricsLine(1)] });
    rmSync(join(folder, 'events.jsonl'));
    mkdirSync(join(folder, 'events.jsonl', 'no-file'), { recursive: true });
    const { runs } = await json<{ runs: RunCard[] }>('/api/runs');
    expect(runs.map(({ id }) => id).sort()).toEqual(['first', 'second', 'unreadable']);
    const { warnings, last } = await json<RunView>('/api/runs/unreadable');
    expect(last).toMatchObject({ loss: 4 });
    expect(warnings[0]!['message']).toBe(
      `${join(folder, 'events.jsonl')} cannot be read (EISDIR).`,
    );
    writeFileSync(join(folder, 'state.json'), '{"name":');
    expect((await ask('/api/runs/unreadable')).status).toBe(404);
    rmSync(folder, { recursive: true });
  });

  it('have no curves of what is no number of points, or no weight', async () => {
    for (const query of ['points=0', 'points=x', 'smoothing=1', 'smoothing=-1', 'from=x']) {
      const response = await ask(`/api/runs/first/curves?${query}`);
      expect(response.status, query).toBe(400);
      expect(((await response.json()) as Refusal).error.code).toBe('E_QUERY');
    }
  });

  it('tell how long they take from the pace of late, not from when they began', async () => {
    const folder = writeRun(root, 'alive', {
      metrics: [metricsLine(6)],
      state: 'running',
      planned: 10,
    });
    // Held by this process.
    const lock = tryLock(join(folder, 'run.lock')) as FileLock;
    expect(await json('/api/runs/alive')).toMatchObject({ state: 'running', remaining: 8 });
    lock.release();
    rmSync(folder, { recursive: true });
  });

  it('come as events whenever something has changed', async () => {
    const response = await ask('/api/runs/first/events');
    const reader = response.body!.getReader();
    const text = new TextDecoder().decode((await reader.read()).value as Uint8Array);
    await reader.cancel();
    expect(response.headers.get('content-type')).toContain('text/event-stream');
    expect(text).toMatch(/^event: change\ndata: \{"id":"first"/);
  });

  it('differ in fields of their recipes', async () => {
    expect(await json('/api/differences?runs=first,second')).toMatchObject({
      differences: [
        { field: 'optimizer.learningRate', values: [1e-4, 2e-4] },
        { field: 'seed', values: [null, 1] },
      ],
    });
  });

  it('tell a cause once, with all of its updates and records', async () => {
    const diagnosis = (update: number, record: number): object => ({
      ...{ type: 'diagnosis', update, cause: 'poisoned-record', confidence: 0.9, message: 'One.' },
      ...{ evidence: [], fix: 'mend it', module: null, rank: null, page: 'docs/x.md' },
      records: [{ source: 'a.jsonl', line: record, record, id: null }],
    });
    const finding = { type: 'finding', cause: 'no-clipping', severity: 'warning', message: 'm' };
    const [first, second] = ['2026-01-31T12:00:00.000Z', '2026-01-31T13:00:00.000Z'];
    const [metrics, events] = [
      [metricsLine(1), metricsLine(2, { loss: NaN, skipped: true })],
      [
        ...[
          { time: first, type: 'start', statements: [], table: [] },
          { ...finding, time: first, message: 'of before' },
        ],
        ...[
          { time: second, type: 'start', statements: [], table: [] },
          { ...finding, time: second },
        ],
        ...[diagnosis(3, 7), { ...diagnosis(4, 1), cause: 'unknown' }],
        ...[diagnosis(5, 7), diagnosis(6, 8)],
      ],
    ];
    writeRun(root, 'troubled', { metrics, events });
    const run = await json<RunView>('/api/runs/troubled');
    expect(run.diagnoses).toMatchObject([
      {
        diagnosis: { cause: 'poisoned-record', records: [{ record: 7 }, { record: 8 }] },
        updates: [3, 5, 6],
      },
      { diagnosis: { cause: 'unknown' }, updates: [4] },
    ]);
    expect(run.findings.map(({ message }) => message)).toEqual(['m']);
    expect([run.loss, run.last['loss']]).toEqual(['not finite', null]);
    rmSync(join(root, 'troubled'), { recursive: true });
  });

  it('of one name in two places are told apart; one that is gone is not found', async () => {
    const other = join(root, 'other');
    writeRun(other, 'first', { metrics: [metricsLine(1)] });
    const runs = new Runs([root, other]);
    expect((await runs.all()).map(({ id }) => id).sort()).toEqual([
      ...['first', 'other/first', 'second'],
    ]);
    expect((await runs.find('other/first')).folder).toBe(join(other, 'first'));
    rmSync(other, { recursive: true });
    await expect(runs.find('other/first')).rejects.toMatchObject({ code: 'E_NOT_FOUND' });
    await expect(runs.find('nobody')).rejects.toMatchObject({ code: 'E_NOT_FOUND' });
  });

  it('by ranks have curves of each', async () => {
    const ranks = [0, 1].map((rank) => ({
      rank,
      tokensPerSecond: 5 + rank,
      waiting: 0,
      peakBytes: 1,
    }));
    writeRun(root, 'ranks', { metrics: [metricsLine(1, { ranks })] });
    const { last } = await json<RunView>('/api/runs/ranks');
    expect(last).toMatchObject({ 'tokensPerSecond@0': 5, 'tokensPerSecond@1': 6 });
    rmSync(join(root, 'ranks'), { recursive: true });
  });
});

describe('pictures', () => {
  it('are shown where the run has told of them', async () => {
    const response = await ask('/api/runs/first/picture?path=cat.png');
    expect(response.headers.get('content-type')).toBe('image/webp');
    const { width, height } = await sharp(await response.arrayBuffer()).metadata();
    expect([width, height]).toEqual([8, 4]);
  });

  it.each(['secret.png', '../secret.png', '/etc/passwd', '', 'cat.png/../secret.png'])(
    'are not shown else: %j',
    async (path) => {
      const response = await ask(
        `/api/runs/first/picture?${new URLSearchParams({ path }).toString()}`,
      );
      expect(response.status).toBe(404);
    },
  );
});

describe('records', () => {
  const at = (record: number): string =>
    `/api/runs/first/record?${new URLSearchParams({ source: join(root, 'a.json'), record: `${record}` }).toString()}`;

  it('that a diagnosis names, or that were left out, are shown with their pictures', async () => {
    for (const number of [1, 2]) {
      const { text, pictures } = await json<RecordView>(at(number));
      expect(JSON.parse(text)).toMatchObject({ id: `r${number}`, image: 'cat.png' });
      const [, png] = pictures[0]!.split(',');
      const { channels } = await sharp(Buffer.from(png!, 'base64')).stats();
      // A red picture, padded to a square.
      expect(channels.map(({ max }) => max)[0]).toBe(255);
    }
  });

  it('of which nothing was told are not', async () => {
    for (const path of [at(3), '/api/runs/first/record', at(1).replace('a.json', 'b.json')]) {
      expect((await ask(path)).status).toBe(404);
    }
  });
});

describe('what cannot be', () => {
  it.each([
    ['GET', '/api/runs/nobody', 404, 'E_NOT_FOUND'],
    ['GET', '/api/runs/..%2f..', 404, 'E_NOT_FOUND'],
    ['GET', '/api/nothing', 404, 'E_NOT_FOUND'],
    ['GET', '/api/runs/first/curves?points=many', 400, 'E_QUERY'],
    ['POST', '/api/runs/first/stop', 400, 'E_NOT_RUNNING'],
    ['POST', '/api/runs/first/save', 400, 'E_NOT_RUNNING'],
  ])('%s %s is refused', async (method, path, status, code) => {
    const response = await ask(path, { method });
    expect(response.status).toBe(status);
    expect(((await response.json()) as Refusal).error.code).toBe(code);
  });

  it('goes on no more where training ends at once, with what that said; and not twice', async () => {
    const resume = async (): Promise<Refusal['error']> => {
      const response = await ask('/api/runs/first/resume', { method: 'POST' });
      expect(response.status).toBe(400);
      return ((await response.json()) as Refusal).error;
    };
    const both = await Promise.all([resume(), resume()]);
    expect(both.map(({ code }) => code).sort()).toEqual(['E_RESUME', 'E_RUN_IN_USE']);
    expect(both.find(({ code }) => code === 'E_RESUME')!.message).toContain('recipe');
  });

  it('is told to stop once, since a second signal would break off its saving', async () => {
    const folder = writeRun(root, 'held', { state: 'running' });
    const told = vi.spyOn(process, 'kill').mockImplementation(() => true);
    const codes = async (action: string): Promise<unknown> => {
      const response = await ask(`/api/runs/held/${action}`, { method: 'POST' });
      const { error } = (await response.json()) as Partial<Refusal>;
      return error?.code ?? response.status;
    };
    const lock = tryLock(join(folder, 'run.lock')) as FileLock;
    try {
      expect(await codes('stop')).toBe(202);
      expect(await codes('stop')).toBe('E_STOPPING');
      expect(await codes('save')).toBe(202);
    } finally {
      told.mockRestore();
      lock.release();
      rmSync(folder, { recursive: true });
    }
  });
});

describe('access', () => {
  const bare = (path: string, headers: Record<string, string>, method = 'GET') =>
    Promise.resolve(app.request(`http://localhost:7860${path}`, { method, headers }));

  it.each([
    ['no token', host, 401],
    ['a wrong token', { ...host, authorization: 'Bearer wrong' }, 401],
    ['another name for this machine', { host: 'evil.example', ...authorization }, 403],
    ['a cookie of another port', { ...host, cookie: `patina-80=${TOKEN}` }, 401],
    ['the cookie', { ...host, cookie: `patina-7860=${TOKEN}` }, 200],
    ['the token', { ...host, ...authorization }, 200],
  ])('with %s', async (_, headers, status) => {
    expect((await bare('/api/runs', headers)).status).toBe(status);
  });

  it('by the address that was printed leaves a cookie that no script reads, and no token in the address', async () => {
    const response = await bare(`/?token=${TOKEN}`, host);
    expect(response.status).toBe(302);
    expect(response.headers.get('location')).toBe('/');
    expect(response.headers.get('set-cookie')).toMatch(
      /patina-7860=secret;.*HttpOnly.*SameSite=Strict/i,
    );
  });

  it('to change something by a cookie needs a header that forms of other pages cannot send', async () => {
    const cookie = { ...host, cookie: `patina-7860=${TOKEN}` };
    expect((await bare('/api/runs/first/stop', cookie, 'POST')).status).toBe(403);
    expect(
      (await bare('/api/runs/first/stop', { ...cookie, 'x-patina': '1' }, 'POST')).status,
    ).toBe(400);
  });
});
