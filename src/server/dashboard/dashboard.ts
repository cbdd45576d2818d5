/**
 * The page of runs as a web application: JSON under `/api`, the bundle of `web/` for all the rest.
 *
 *     GET  /api/runs                      all runs, newest first
 *     GET  /api/runs/ID                   one of them
 *     GET  /api/runs/ID/curves            ?keys=loss,gradientNorm&from=&to=&points=&smoothing=
 *     GET  /api/runs/ID/recipe            as it is in force
 *     GET  /api/runs/ID/events            server-sent: `change` whenever something has come
 *     GET  /api/runs/ID/picture           ?path= of a picture of its probes
 *     GET  /api/runs/ID/record            ?source=&record= of one that a diagnosis names or that was left out
 *     GET  /api/differences               ?runs=ID,ID: fields in which recipes differ
 *     POST /api/runs/ID/stop|save|resume
 */
import { type Context, Hono } from 'hono';
import { streamSSE } from 'hono/streaming';
import sharp from 'sharp';

import { type PatinaError, UsageError } from '../../base/errors.js';
import { readRunRecipe } from '../../train/run/run-folder.js';
import { type Access, guarded } from '../access.js';
import { addPage } from '../bundle.js';
import { statusOf } from '../http-error.js';
import { curvesOf } from './curves.js';
import { RunControl } from './run-control.js';
import type { RunLog } from './run-log.js';
import { PATIENCE, recipeDifferences, runCard, runView } from './run-view.js';
import { notFound, type Runs } from './runs.js';
import { toldPicture, toldRecord } from './told.js';

export interface DashboardOptions extends Access {
  readonly runs: Runs;
  /** Milliseconds between looks at files, while somebody watches. @default 500 */
  readonly interval?: number;
}

export function dashboard({ runs, interval = 500, ...access }: DashboardOptions): Hono {
  const run = (context: Context): Promise<RunLog> => runs.find(context.req.param('id') ?? '');
  const api = new Hono();
  api.get('/runs', async (context) => {
    const cards = await Promise.all((await runs.all()).map((log) => runCard(log)));
    const found = cards.filter((card) => card !== undefined);
    return context.json({ runs: found.sort((a, b) => (a.created < b.created ? 1 : -1)) });
  });
  api.get('/runs/:id', async (context) => {
    const log = await run(context);
    const view = await runView(log);
    if (view === undefined) throw notFound(`state.json of ${log.folder} cannot be read.`);
    return context.json(view);
  });
  api.get('/runs/:id/curves', async (context) => {
    const log = await run(context);
    await log.refresh(PATIENCE);
    const keys = (context.req.query('keys') ?? 'loss').split(',').filter((key) => key !== '');
    const [from, to] = ['from', 'to'].map((name) => numberOf(context, name));
    const points = numberOf(context, 'points', { holds: (x) => x >= 1, wanted: 'from 1' });
    const smoothing = numberOf(context, 'smoothing', {
      ...{ holds: (x) => x >= 0 && x < 1, wanted: 'from 0 and below 1' },
    });
    return context.json(curvesOf(log.columns, { keys, from, to, points, smoothing }));
  });
  api.get('/runs/:id/recipe', async (context) => {
    const { folder } = await run(context);
    return context.json((await readRunRecipe(folder)) as object);
  });
  api.get('/runs/:id/events', async (context) => {
    const log = await run(context);
    return streamSSE(context, async (stream) => {
      let shown = '';
      while (!stream.aborted) {
        const card = await runCard(log);
        const news = JSON.stringify(card ?? null);
        // A line now and then tells both sides that the other is still there.
        if (news !== shown) await stream.writeSSE({ event: 'change', data: news });
        else await stream.writeln(': still here');
        shown = news;
        await stream.sleep(interval);
      }
    });
  });
  api.get('/runs/:id/picture', async (context) => {
    const log = await run(context);
    await log.refresh();
    const path = await toldPicture(log, context.req.query('path') ?? '');
    if (path === undefined) throw notFound('The run has told of no such picture.');
    const small = await sharp(path, { failOn: 'none' })
      .rotate()
      .resize(640, 640, { fit: 'inside', withoutEnlargement: true })
      .webp({ quality: 85 })
      .toBuffer()
      .catch((cause: unknown) => {
        throw notFound(`${path} cannot be shown.`, cause);
      });
    return context.body(new Uint8Array(small), 200, {
      'content-type': 'image/webp',
      'cache-control': 'private, max-age=3600',
    });
  });
  api.get('/runs/:id/record', async (context) => {
    const log = await run(context);
    await log.refresh();
    const number = numberOf(context, 'record') ?? 0;
    const found = await toldRecord(log, context.req.query('source') ?? '', number);
    if (found === undefined) throw notFound('The run has told of no such record.');
    return context.json(found);
  });
  api.get('/differences', async (context) => {
    const ids = (context.req.query('runs') ?? '').split(',');
    const folders = await Promise.all(ids.map(async (id) => (await runs.find(id)).folder));
    return context.json({ runs: ids, differences: await recipeDifferences(folders) });
  });
  const control = new RunControl();
  const actions = {
    stop: (folder: string) => control.stop(folder),
    save: (folder: string) => control.save(folder),
    resume: async (folder: string, log: RunLog) => {
      await log.refresh();
      const ranks = log.columns.keys.filter((key) => key.startsWith('tokensPerSecond@')).length;
      await control.resume(folder, ranks);
    },
  };
  for (const [name, act] of Object.entries(actions)) {
    api.post(`/runs/:id/${name}`, async (context) => {
      const log = await run(context);
      await act(log.folder, log);
      return context.json({ done: name }, 202);
    });
  }
  api.all('*', () => {
    throw notFound('There is no such address.');
  });
  api.onError(failed);

  const app = new Hono();
  app.use(guarded(access));
  app.route('/api', api);
  addPage(app, 'dashboard');
  app.notFound(() => {
    throw notFound('There is no such address.');
  });
  app.onError(failed);
  return app;
}

interface Limit {
  readonly holds: (value: number) => boolean;
  readonly wanted: string;
}

const ANY: Limit = { holds: () => true, wanted: '' };

/** @throws UsageError `E_QUERY` */
function numberOf(
  context: Context,
  name: string,
  { holds, wanted }: Limit = ANY,
): number | undefined {
  const text = context.req.query(name);
  if (text === undefined || text === '') return undefined;
  const value = Number(text);
  if (Number.isFinite(value) && holds(value)) return value;
  const number = `number ${wanted}`.trim();
  throw new UsageError(`${name} is ${JSON.stringify(text)}, which is no ${number}.`, {
    code: 'E_QUERY',
    hint: `Leave it out, or give a ${number}.`,
  });
}

function failed(error: Error, context: Context): Response {
  const { code = 'E_UNEXPECTED', hint = null } = error as Partial<PatinaError>;
  return context.json({ error: { code, message: error.message, hint } }, statusOf(error));
}
