/** `patina runs`: the runs of a folder, and the curves of one. Both are files alone: nothing here loads libtorch. */
import { basename, join } from 'node:path';

import { formatBytes } from '../base/format.js';
import { number } from '../base/json-lines.js';
import { jsonLine } from '../base/json-text.js';
import { lineChart, sparkline } from '../base/sparkline.js';
import type { ScoreEvent } from '../train/events.js';
import { type Checkpoint, listCheckpoints } from '../train/checkpoint/checkpoints.js';
import { findRun, listRuns, type RunSummary } from '../train/run/list-runs.js';
import {
  curve,
  loggedWarnings,
  type LoggedEvent,
  type LoggedWarning,
  ofType,
  readEvents,
  readMetrics,
} from '../train/run/logs.js';
import type { Session } from './session.js';
import { columns, eventLines, figures, warningLine } from './train-view/event-lines.js';

export interface RunsFlags {
  root?: string;
  json?: boolean;
}

/** Lists runs. */
export async function runsCommand(
  { root, json = false }: RunsFlags,
  session: Session,
): Promise<void> {
  const runs = await listRuns(root);
  session.stdout.write(json ? jsonLine({ runs }) : listText(runs));
  if (runs.length === 0) session.stderr.write(`There is no run under ${root ?? 'runs'}.\n`);
}

/** Shows one run. */
export async function showRun(
  name: string | undefined,
  { root, json = false }: RunsFlags,
  session: Session,
): Promise<void> {
  const path = await findRun(name, root);
  const run = (await listRuns(join(path, '..'))).find((each) => each.path === path)!;
  const events = await readEvents(path);
  const warnings = loggedWarnings(events);
  session.stdout.write(
    json ? jsonLine({ ...run, warnings }) : await showText(run, events, warnings),
  );
}

function listText(runs: readonly RunSummary[]): string {
  if (runs.length === 0) return '';
  const head = ['run', 'state', 'updates', 'loss', '', 'size'];
  const rows = runs.map((run) => [
    basename(run.path),
    run.state,
    progress(run),
    run.losses.length === 0 ? '-' : figures(run.losses.at(-1)!),
    sparkline(run.losses, { width: 24 }),
    formatBytes(run.bytes),
  ]);
  return columns([head, ...rows])
    .map((line) => `${line}\n`)
    .join('');
}

function progress({ updates, plannedUpdates }: RunSummary): string {
  return plannedUpdates === undefined ? String(updates) : `${updates}/${plannedUpdates}`;
}

async function showText(
  run: RunSummary,
  events: readonly LoggedEvent[],
  warnings: readonly LoggedWarning[],
): Promise<string> {
  const metrics = await readMetrics(join(run.path, 'metrics.jsonl')).catch(() => []);
  const losses = curve(metrics, 'loss');
  const validation = ofType(events, 'validation').map(({ update, loss }) => ({
    x: update,
    y: number(loss),
  }));
  const scores = scoreLines(ofType(events, 'score'));
  const probes = ofType(events, 'probes');
  const [first, last] = [probes[0], probes.at(-1)];
  const checkpoints = await listCheckpoints(join(run.path, 'checkpoints'));
  const lines = [
    `${run.name}: ${run.state}${run.reason === undefined ? '' : `, ${run.reason}`}`,
    `recipe ${run.recipe}, ${progress(run)} updates, ${formatBytes(run.bytes)}, begun ${run.created}`,
    ...(losses.length === 0 ? [] : ['', chart('training loss', losses)]),
    ...(validation.length < 2 ? [] : ['', chart('validation loss', validation)]),
    ...scores,
    ...(last === undefined
      ? []
      : ['', ...eventLines(last, { before: first === last ? [] : first!.answers })]),
    ...(warnings.length === 0 ? [] : ['', ...warnings.map(warningLine)]),
    ...(checkpoints.length === 0 ? [] : ['']),
    ...checkpoints.map(checkpointLine),
  ];
  return `${lines.join('\n')}\n`;
}

/** A curve for each task, and beneath it its last score in full. */
function scoreLines(events: readonly ScoreEvent[]): string[] {
  const names = [...new Set(events.map(({ name }) => name))];
  return names.flatMap((name) => {
    // What came later holds: a run that went on has asked some twice.
    const byUpdate = new Map(
      events.filter((each) => each.name === name).map((each) => [each.update, each]),
    );
    const all = [...byUpdate.values()].sort((a, b) => a.update - b.update);
    const points = all.map(({ update, score }) => ({ x: update, y: score }));
    const curve = points.length < 2 ? [] : [chart(`score of ${name}`, points)];
    return ['', ...curve, ...eventLines(all.at(-1)!)];
  });
}

function checkpointLine({ path, bytes, validationLoss, scores }: Checkpoint): string {
  const parts = [
    formatBytes(bytes),
    ...(validationLoss === null ? [] : [`validation loss ${figures(validationLoss)}`]),
    ...Object.entries(scores).map(([name, score]) => `${name} ${figures(score)}`),
  ];
  return `checkpoint ${path} (${parts.join(', ')})`;
}

function chart(title: string, points: { x: number; y: number }[]): string {
  return lineChart(points, { title, xLabel: 'updates' });
}
