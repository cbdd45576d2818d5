/** A plan as a page of its own: its picture, and all its numbers as tables. It loads nothing. */

import { formatBytes, formatCount, formatDuration } from '../../base/format.js';
import { escapedXml } from '../../base/xml.js';
import type { Suggestion } from '../search/search.js';
import { groupOf } from '../course.js';
import type { Category } from '../categories.js';
import { planSvg, titleOf, type FigureParts } from './svg.js';

export interface PageParts extends FigureParts {
  readonly suggestions: readonly Suggestion[];
}

const STYLE = `
:root { color-scheme: light dark; }
body { margin: 2rem auto; max-width: 62rem; padding: 0 1rem; font: 16px/1.5 system-ui, sans-serif;
  color: light-dark(#1b1f24, #e6edf3); background: light-dark(#ffffff, #0d1117); }
svg { width: 100%; height: auto; }
.wide { overflow-x: auto; }
table { border-collapse: collapse; margin: 0.5rem 0 2rem; }
caption { text-align: start; font-weight: 600; padding-bottom: 0.4rem; }
th, td { padding: 0.25rem 0.9rem 0.25rem 0; text-align: start; border-bottom: 1px solid light-dark(#d1d9e0, #3d444d); }
td.number, th.number { text-align: end; font-variant-numeric: tabular-nums; }
code { font-size: 0.9em; }`;

type Cell = string | { readonly number: string };

export function planPage(parts: PageParts): string {
  const { plan, suggestions } = parts;
  const { perRank, timeline, largest, batch, seconds, accuracy } = plan;
  const { allocated, reserved, total, host, phase, atPeak } = perRank[0]!;
  const bytes = (value: number): Cell => ({ number: formatBytes(value) });
  const alive = Object.entries(atPeak)
    .filter(([, value]) => value > 0)
    .sort(([, a], [, b]) => b - a);
  const facts: [string, string][] = [
    ['A GPU, as its driver shows it', formatBytes(total)],
    ['In tensors', `${formatBytes(allocated)}, in ${phase}`],
    ['Reserved', formatBytes(reserved)],
    ['Host memory of a process', formatBytes(host)],
    [
      'Micro-batch',
      `${batch.records} records, ${batch.tokens} tokens, ${batch.images} pictures (${batch.basis})`,
    ],
    ['An update', `${seconds.update.toPrecision(3)} s`],
    ['In all', seconds.run === null ? 'not known without data' : formatDuration(seconds.run)],
    ['Tokens a second', formatCount(plan.tokensPerSecond)],
  ];
  return [
    '<!doctype html>',
    '<html lang="en">',
    '<head>',
    '<meta charset="utf-8">',
    '<meta name="viewport" content="width=device-width, initial-scale=1">',
    `<title>${escapedXml(titleOf(plan))}</title>`,
    `<style>${STYLE}\n</style>`,
    '</head>',
    '<body>',
    '<main>',
    `<h1>${escapedXml(titleOf(plan))}</h1>`,
    `<div class="wide">\n${planSvg(parts)}</div>`,
    table('The run', ['', ''], facts),
    table(
      'Most of each phase',
      ['Phase', '#In tensors', '#Reserved', '#Host memory'],
      timeline.map((at) => [
        at.phase === phase ? `${at.phase} (the most of all)` : at.phase,
        ...[at.allocated, at.reserved, at.host].map(bytes),
      ]),
    ),
    table(
      `Alive at the peak, in ${phase}`,
      ['What it is for', 'In the picture', '#Bytes'],
      alive.map(([name, value]) => [name, groupOf(name as Category), bytes(value)]),
    ),
    table(
      'Largest tensors then',
      ['Name', 'What it is for', '#Bytes'],
      largest.map((each) => [each.name, each.category, bytes(each.bytes)]),
    ),
    ...(suggestions.length === 0
      ? []
      : [
          table(
            'What fits besides',
            ['Settings', '#An update', '#A GPU', 'Numbers of the run'],
            suggestions.map(({ set, secondsPerUpdate, total: all, numerics }) => [
              set.join(', '),
              { number: `${secondsPerUpdate.toPrecision(3)} s` },
              bytes(all),
              numerics,
            ]),
          ),
        ]),
    `<p>Accuracy: ${escapedXml(accuracy.basis)}.</p>`,
    '</main>',
    '</body>',
    '</html>',
    '',
  ].join('\n');
}

/** @param heads those of numbers begin with `#` */
function table(
  caption: string,
  heads: readonly string[],
  rows: readonly (readonly Cell[])[],
): string {
  const head = (text: string): string =>
    text.startsWith('#')
      ? `<th scope="col" class="number">${escapedXml(text.slice(1))}</th>`
      : `<th scope="col">${escapedXml(text)}</th>`;
  const cell = (each: Cell, i: number): string => {
    if (typeof each !== 'string') return `<td class="number">${escapedXml(each.number)}</td>`;
    return i === 0 ? `<th scope="row">${escapedXml(each)}</th>` : `<td>${escapedXml(each)}</td>`;
  };
  const named = heads.some((text) => text !== '');
  return [
    '<div class="wide"><table>',
    `<caption>${escapedXml(caption)}</caption>`,
    ...(named ? [`<thead><tr>${heads.map(head).join('')}</tr></thead>`] : []),
    '<tbody>',
    ...rows.map((row) => `<tr>${row.map(cell).join('')}</tr>`),
    '</tbody>',
    '</table></div>',
  ].join('\n');
}
