/** The post-mortem as one page of HTML that needs nothing else: curves, diagnoses with their evidence, records with their pictures. */

import { describePlace } from '../../data/sources/place.js';
import { curve, type Metrics } from '../../train/run/logs.js';
import type { Told } from './by-cause.js';
import type { PostMortem } from './post-mortem.js';
import { showRecord, type ShownRecord } from './shown-record.js';

/** Records that are shown for a cause. */
const SHOWN = 3;

export async function postMortemPage(found: PostMortem): Promise<string> {
  const { run, ending, told, recoveries, metrics, skipped, sources, unread } = found;
  const marks = told.flatMap(({ updates }) => updates);
  const sections = await Promise.all(told.map((each) => section(each, sources)));
  const title = `${text(run.name)}: post-mortem`;
  return `<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>${title}</title>
<style>${STYLE}</style>
<h1>${title}</h1>
<p>Recipe ${text(run.recipe)}, begun ${text(run.created)}; ${text(ending)}. ${skipped} updates were skipped.</p>
${unread.map((what) => `<p>Not all is known: ${text(what)}.</p>`).join('\n')}
${chart('loss', metrics, 'loss', marks)}
${chart('norm of the gradient', metrics, 'gradientNorm', marks)}
${sections.join('\n') || '<p>Nothing was found.</p>'}
${
  recoveries.length === 0
    ? ''
    : `<h2>What the run did about it</h2>
<table><tr><th>update<th>action<th>what<th>left
${recoveries.map((each) => `<tr><td>${each.update}<td>${text(each.action)}<td>${text(each.message)}<td>${each.action === 'halve' ? '' : each.budgetLeft}`).join('\n')}
</table>`
}
</html>
`;
}

async function section(
  { diagnosis, updates }: Told,
  sources: PostMortem['sources'],
): Promise<string> {
  const { cause, confidence, message, evidence, fix, module, rank, records, page } = diagnosis;
  const shown = await Promise.all(
    records.slice(0, SHOWN).map((record) => showRecord(record, sources)),
  );
  const rows = [
    ['updates', updates.join(', ')],
    ...(module === null ? [] : [['module', module]]),
    ...(rank === null ? [] : [['rank', String(rank)]]),
    ['what to do', fix],
    ['more', page],
  ];
  return `<h2>${text(cause)} <small>${Math.round(100 * confidence)} %</small></h2>
<p>${text(message)}</p>
<table>${rows.map(([name, value]) => `<tr><th>${name!}<td>${text(value!)}`).join('\n')}</table>
<h3>Evidence</h3>
<ul>${evidence.map((each) => `<li>${text(each)}`).join('\n')}</ul>
${shown.map(recordPart).join('\n')}`;
}

function recordPart({ record, text: json, pictures }: ShownRecord): string {
  const { source: file, ...place } = record;
  return `<h3>${text(describePlace({ file, ...place }))}</h3>
<div class="record">${pictures.map((each) => `<img src="${each}" alt="picture of the record">`).join('')}<pre>${text(json)}</pre></div>`;
}

const WIDTH = 900;
const HEIGHT = 220;
const LEFT = 60;

/** A curve, logarithmic where it spans more than two decades; what is not finite is a mark at the top. */
function chart(
  title: string,
  metrics: readonly Metrics[],
  key: string,
  marks: readonly number[],
): string {
  const points = curve(metrics, key);
  const finite = points.filter(({ y }) => Number.isFinite(y));
  if (finite.length === 0) return '';
  const positive = finite.map(({ y }) => y).filter((y) => y > 0);
  const logarithmic = positive.length > 0 && Math.max(...positive) > 100 * Math.min(...positive);
  const scale = (y: number): number =>
    logarithmic ? Math.log10(Math.max(y, Math.min(...positive))) : y;
  const ys = finite.map(({ y }) => scale(y));
  const [low, high] = [Math.min(...ys), Math.max(...ys)];
  const [first, last] = [points[0]!.x, points.at(-1)!.x];
  const x = (update: number): number =>
    LEFT + ((WIDTH - LEFT - 10) * (update - first)) / Math.max(1, last - first);
  const y = (value: number): number =>
    HEIGHT - 24 - ((HEIGHT - 44) * (scale(value) - low)) / (high - low || 1);
  const line = finite.map((each) => `${x(each.x).toFixed(1)},${y(each.y).toFixed(1)}`).join(' ');
  const bad = points
    .filter((each) => !Number.isFinite(each.y))
    .map((each) => `<text x="${x(each.x).toFixed(1)}" y="16" class="bad">×</text>`);
  const told = [...new Set(marks)]
    .filter((each) => each >= first && each <= last)
    .map(
      (each) => `<line x1="${x(each)}" x2="${x(each)}" y1="20" y2="${HEIGHT - 24}" class="told"/>`,
    );
  const label = (value: number): string => (logarithmic ? 10 ** value : value).toPrecision(3);
  return `<figure><figcaption>${text(title)}${logarithmic ? ' (logarithmic)' : ''}; × not finite, a line where a cause was told</figcaption>
<svg viewBox="0 0 ${WIDTH} ${HEIGHT}" role="img" aria-label="${text(title)}">
<polyline points="${line}" class="curve"/>${told.join('')}${bad.join('')}
<text x="4" y="26">${label(high)}</text><text x="4" y="${HEIGHT - 24}">${label(low)}</text>
<text x="${LEFT}" y="${HEIGHT - 6}">${first}</text><text x="${WIDTH - 10}" y="${HEIGHT - 6}" text-anchor="end">${last}</text>
</svg></figure>`;
}

const STYLE = `
body { font: 15px/1.5 system-ui, sans-serif; max-width: 60rem; margin: 2rem auto; padding: 0 1rem; color: #222; background: #fff }
h2 { border-top: 1px solid #ddd; padding-top: 1rem } small { color: #777; font-weight: normal }
table { border-collapse: collapse } th, td { text-align: left; vertical-align: top; padding: .2rem .8rem .2rem 0 }
figure { margin: 1rem 0 } figcaption { color: #555 } svg { width: 100%; background: #fafafa }
svg text { font-size: 12px; fill: #555 } svg .bad { fill: #c22; font-size: 16px; text-anchor: middle }
.curve { fill: none; stroke: #246; stroke-width: 1.5 } .told { stroke: #c22; stroke-dasharray: 3 3 }
.record { display: flex; flex-wrap: wrap; gap: 1rem; align-items: flex-start } .record img { width: 168px; image-rendering: pixelated }
pre { white-space: pre-wrap; overflow-wrap: anywhere; background: #f4f4f4; padding: .8rem; margin: 0; flex: 1 1 20rem }
`;

function text(value: string): string {
  return value.replace(/[&<>"]/g, (each) => `&#${each.charCodeAt(0)};`);
}
