/**
 * A plan as a picture: memory through one update, stacked by what it is for, and the peak of each phase beside what the card has. One file
 * that needs no other: colours follow the reader's light or dark surroundings, and a description says in words what is drawn.
 */

import { formatBytes } from '../../base/format.js';
import { escapedXml } from '../../base/xml.js';
import { GROUPS, type Group, type Moment } from '../course.js';
import type { Plan } from '../plan.js';

export interface FigureParts {
  readonly plan: Plan;
  /** Of the last update. */
  readonly moments: readonly Moment[];
  /** Bytes that the allocator of a process may reserve. */
  readonly limit: number;
}

const WIDTH = 960;
const LEFT = 84;
const RIGHT = 24;
const TOP = 96;
/** Of the stack. */
const HEIGHT = 300;
const ROW = 26;
const FOOT = 16;
const PLOT = WIDTH - LEFT - RIGHT;
/** Columns of the names of phases. */
const NAMES = 110;
const SIZES = 170;

/** Told apart by readers who see colours differently too (Okabe and Ito 2008). */
const COLOURS: Readonly<Record<Group, string>> = {
  weights: '#0072b2',
  states: '#56b4e9',
  gradients: '#e69f00',
  activations: '#009e73',
  workspace: '#cc79a7',
};

const STYLE = `
.patina-plan { --ink: #1b1f24; --faint: #59636e; --line: #d1d9e0; --ground: #ffffff; --limit: #b42318; }
@media (prefers-color-scheme: dark) {
  .patina-plan { --ink: #e6edf3; --faint: #9aa4af; --line: #3d444d; --ground: #0d1117; --limit: #ff8a80; }
}
.patina-plan text { fill: var(--ink); font: 13px system-ui, sans-serif; }
.patina-plan .faint { fill: var(--faint); }
.patina-plan .head { font-size: 16px; font-weight: 600; }
.patina-plan .end { text-anchor: end; }
.patina-plan .middle { text-anchor: middle; }
.patina-plan .grid { stroke: var(--line); }
.patina-plan .limit { stroke: var(--limit); stroke-width: 2; stroke-dasharray: 6 4; }
.patina-plan .over { fill: var(--limit); }
.patina-plan .reserved { fill: none; stroke: var(--faint); }
.patina-plan .ground { fill: var(--ground); }`;

/** The picture, as the text of a file. */
export function planSvg(parts: FigureParts): string {
  const { plan } = parts;
  const phases = plan.timeline.length;
  const below = TOP + HEIGHT + 70;
  const height = below + phases * ROW + FOOT;
  return [
    `<svg class="patina-plan" xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" role="img" aria-labelledby="plan-title plan-desc">`,
    `<title id="plan-title">${escapedXml(titleOf(plan))}</title>`,
    `<desc id="plan-desc">${escapedXml(inWords(parts))}</desc>`,
    `<style>${STYLE}\n</style>`,
    `<rect class="ground" width="${WIDTH}" height="${height}"/>`,
    `<text class="head" x="${LEFT}" y="28">${escapedXml(titleOf(plan))}</text>`,
    ...legend(),
    ...stack(parts),
    `<text class="head" x="${LEFT}" y="${below - 16}">Most of each phase: in tensors, and reserved (outlined)</text>`,
    ...bars(parts, below),
    '</svg>',
    '',
  ].join('\n');
}

export function titleOf({ recipe, ranks, gpu, fits, margin }: Plan): string {
  const verdict = fits
    ? `fits, with ${formatBytes(margin)} to spare`
    : `does not fit: ${formatBytes(-margin)} are missing`;
  return `${recipe} on ${ranks} x ${gpu.name}: ${verdict}`;
}

function inWords({ plan, moments, limit }: FigureParts): string {
  const { allocated, reserved, phase } = plan.perRank[0]!;
  const most = (group: Group): number => Math.max(0, ...moments.map(({ alive }) => alive[group]));
  const groups = GROUPS.map((group) => `${group} ${formatBytes(most(group))}`).join(', ');
  const phases = plan.timeline.map((each) => `${each.phase} ${formatBytes(each.allocated)}`);
  return (
    `Memory of a GPU. Most is in tensors in ${phase}: ${formatBytes(allocated)}, of ${formatBytes(reserved)} reserved; ` +
    `a process may reserve ${formatBytes(limit)}. Through one update at most: ${groups}. By phase: ${phases.join(', ')}.`
  );
}

function legend(): string[] {
  return GROUPS.flatMap((group, i) => {
    const x = LEFT + 120 * i;
    return [
      `<rect x="${x}" y="48" width="14" height="14" fill="${COLOURS[group]}"/>`,
      `<text x="${x + 20}" y="60">${group}</text>`,
    ];
  });
}

function stack({ plan, moments, limit }: FigureParts): string[] {
  const highest = Math.max(1, ...moments.map(totalOf));
  // A limit far above would leave the stack flat.
  const drawsLimit = limit < 2 * highest;
  const top = niceTop(drawsLimit ? Math.max(highest, limit) : highest);
  const y = (bytes: number): number => round(TOP + HEIGHT * (1 - bytes / top.most));
  const x = (column: number): number => round(LEFT + (PLOT * column) / Math.max(1, moments.length));
  const lines = Array.from({ length: top.count + 1 }, (_, i) => i * top.step).flatMap((bytes) => [
    `<line class="grid" x1="${LEFT}" x2="${LEFT + PLOT}" y1="${y(bytes)}" y2="${y(bytes)}"/>`,
    `<text class="faint end" x="${LEFT - 8}" y="${y(bytes) + 4}">${formatBytes(bytes)}</text>`,
  ]);
  const below = moments.map(() => 0);
  const areas = GROUPS.map((group) => {
    const floor = [...below];
    moments.forEach(({ alive }, i) => (below[i] = below[i]! + alive[group]));
    return `<path fill="${COLOURS[group]}" d="${areaOf(floor, below, x, y)}"><title>${group}</title></path>`;
  });
  const limitAt = y(limit);
  return [
    `<text class="faint" x="${LEFT}" y="${TOP - 12}">One update (${plan.batch.records} records, ${plan.batch.tokens} tokens in a micro-batch), allocation by allocation</text>`,
    ...lines,
    ...areas,
    ...spansOf(moments).flatMap(({ phase, from, to }) => {
      const [left, right] = [x(from), x(to)];
      const line = `<line class="grid" x1="${right}" x2="${right}" y1="${TOP}" y2="${TOP + HEIGHT}"/>`;
      const isWide = right - left > 7 * phase.length + 4;
      return isWide
        ? [
            line,
            `<text class="middle" x="${round((left + right) / 2)}" y="${TOP + HEIGHT + 18}">${phase}</text>`,
          ]
        : [line];
    }),
    ...(drawsLimit
      ? [
          `<line class="limit" x1="${LEFT}" x2="${LEFT + PLOT}" y1="${limitAt}" y2="${limitAt}"/>`,
          `<text class="over end" x="${LEFT + PLOT}" y="${limitAt - 6}">${formatBytes(limit)}: what a process may reserve</text>`,
        ]
      : []),
  ];
}

/** Along the tops, and back along the bottoms, in steps. */
function areaOf(
  bottoms: readonly number[],
  tops: readonly number[],
  x: (column: number) => number,
  y: (bytes: number) => number,
): string {
  const forth = tops.map((bytes, i) => `${x(i)},${y(bytes)} ${x(i + 1)},${y(bytes)}`);
  const back = bottoms.map((bytes, i) => `${x(i + 1)},${y(bytes)} ${x(i)},${y(bytes)}`).reverse();
  return tops.length === 0 ? '' : `M${[...forth, ...back].join(' ')}Z`;
}

/** Moments of one phase that follow one another. */
function spansOf(moments: readonly Moment[]): { phase: string; from: number; to: number }[] {
  const spans: { phase: string; from: number; to: number }[] = [];
  moments.forEach(({ phase }, i) => {
    const last = spans.at(-1);
    if (last?.phase === phase) last.to = i + 1;
    else spans.push({ phase, from: i, to: i + 1 });
  });
  return spans;
}

function bars({ plan: { timeline }, limit }: FigureParts, top: number): string[] {
  const from = LEFT + NAMES;
  const width = PLOT - NAMES - SIZES;
  const most = Math.max(limit, ...timeline.map(({ reserved }) => reserved));
  const long = (bytes: number): number => round((width * bytes) / most);
  const limitAt = round(from + long(limit));
  const rows = timeline.flatMap(({ phase, allocated, reserved }, i) => {
    const y = top + i * ROW;
    return [
      `<text x="${LEFT}" y="${y + 15}">${phase}</text>`,
      `<rect x="${from}" y="${y + 3}" width="${long(allocated)}" height="${ROW - 9}" fill="${COLOURS.weights}"/>`,
      `<rect class="reserved" x="${from}" y="${y + 3}" width="${long(reserved)}" height="${ROW - 9}"/>`,
      `<text class="${reserved > limit ? 'over' : 'faint'} end" x="${LEFT + PLOT}" y="${y + 15}">${formatBytes(allocated)} / ${formatBytes(reserved)}</text>`,
    ];
  });
  return [
    ...rows,
    `<line class="limit" x1="${limitAt}" x2="${limitAt}" y1="${top}" y2="${top + timeline.length * ROW}"/>`,
  ];
}

const totalOf = ({ alive }: Moment): number => GROUPS.reduce((sum, group) => sum + alive[group], 0);

/** Four to eight steps of a round number of bytes. */
function niceTop(most: number): { step: number; count: number; most: number } {
  const unit = 1024 ** Math.floor(Math.log2(most) / 10);
  const steps = [1, 2, 4, 5, 8, 10, 16, 20, 32, 40, 50, 64, 100, 128, 200, 256];
  const step = unit * (steps.find((each) => most / (each * unit) <= 8) ?? 256);
  const count = Math.ceil(most / step);
  return { step, count, most: step * count };
}

const round = (value: number): number => Math.round(10 * value) / 10;
