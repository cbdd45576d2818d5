/** One picture of curves over updates. What was not finite or was left out is a gap, and marked. */
import { useEffect, useRef } from 'preact/hooks';
import uPlot from 'uplot';

import type { Gap } from './api.js';
import { numberText } from './text.js';

export interface Line {
  readonly label: string;
  /** A CSS variable. */
  readonly colour: string;
  readonly values: readonly (number | null)[];
  /** Smallest and largest of each span, drawn as a band. */
  readonly band?: readonly [readonly (number | null)[], readonly (number | null)[]] | undefined;
  /** `joined`: points with lines between them, over what lies between two. */
  readonly style?: 'line' | 'faint' | 'points' | 'dashed' | 'joined';
}

const COLOURS = ['--one', '--two', '--three', '--four', '--five', '--six'];

export function colour(index: number): string {
  return COLOURS[index % COLOURS.length]!;
}

export interface ChartProps {
  readonly title: string;
  /** Updates, shared by all lines. */
  readonly x: readonly number[];
  readonly lines: readonly Line[];
  readonly gaps?: readonly Gap[];
  readonly log?: boolean;
  readonly format?: (value: number) => string;
  /** Gets what was dragged over; nothing for a double click. */
  readonly onZoom?: (range: readonly [number, number] | undefined) => void;
}

const HEIGHT = 220;
/** uPlot declares its distributions as a const enum, which modules that are compiled alone cannot name. */
// eslint-disable-next-line @typescript-eslint/no-unsafe-enum-assignment
const LOGARITHMIC: uPlot.Scale = { distr: 3 };

export function Chart(props: ChartProps) {
  const place = useRef<HTMLDivElement>(null);
  const plot = useRef<uPlot>(undefined);
  const latest = useRef(props);
  latest.current = props;
  const { title, lines, log = false } = props;
  // What a plot is made of; data alone are put into the one that there is.
  const form = JSON.stringify([lines.map(({ label, style, band }) => [label, style, !!band]), log]);

  useEffect(() => {
    const element = place.current!;
    const made = new uPlot(optionsOf(element, latest), dataOf(latest.current), element);
    plot.current = made;
    const resize = new ResizeObserver(() => {
      made.setSize({ width: element.clientWidth, height: HEIGHT });
    });
    resize.observe(element);
    const scheme = matchMedia('(prefers-color-scheme: dark)');
    const redraw = (): void => {
      made.redraw(false);
    };
    scheme.addEventListener('change', redraw);
    addEventListener('theme', redraw);
    return () => {
      resize.disconnect();
      scheme.removeEventListener('change', redraw);
      removeEventListener('theme', redraw);
      made.destroy();
      plot.current = undefined;
    };
  }, [form]);
  useEffect(() => {
    plot.current?.setData(dataOf(latest.current));
  });

  return (
    <figure class="chart">
      <figcaption>
        <span>{title}</span>
        <Legend {...props} />
      </figcaption>
      <div ref={place} role="img" aria-label={summary(props)} />
    </figure>
  );
}

/** Names, colours and last values, which read without the picture too. */
function Legend(props: ChartProps) {
  return (
    <ul class="legend">
      {props.lines
        .filter(({ style }) => style !== 'faint')
        .map((line) => (
          <li key={line.label}>
            <i style={{ background: `var(${line.colour})` }} />
            {line.label} <b>{lastText(line, props)}</b>
          </li>
        ))}
    </ul>
  );
}

/** The newest value; that it is not finite is not hidden behind one that was. */
function lastText(
  { values, style }: Line,
  { x, gaps = [], format = numberText }: ChartProps,
): string {
  const broken = gaps.some(({ kind, to }) => kind === 'not-finite' && to === x.at(-1));
  if (broken && style !== 'points' && values.at(-1) === null) return 'not finite';
  const last = values.findLast((value) => value !== null);
  return last == null ? '–' : format(last);
}

function summary(props: ChartProps): string {
  const { title, lines, gaps = [], format = numberText } = props;
  const told = lines
    .filter(({ style }) => style !== 'faint')
    .map((line) => {
      const first = line.values.find((value) => value !== null);
      if (first == null) return `${line.label}: nothing yet`;
      return `${line.label} from ${format(first)} to ${lastText(line, props)}`;
    });
  const updates = (wanted: Gap['kind']): number =>
    gaps.reduce((sum, gap) => sum + (gap.kind === wanted ? gap.updates : 0), 0);
  const [broken, skipped] = [updates('not-finite'), updates('skipped')];
  return [
    `${title}: ${told.join('; ')}`,
    ...(broken > 0 ? [`${broken} updates not finite`] : []),
    ...(skipped > 0 ? [`${skipped} left out`] : []),
  ].join('; ');
}

function optionsOf(element: HTMLElement, latest: { current: ChartProps }): uPlot.Options {
  const { lines, log = false } = latest.current;
  const format = (value: number): string => (latest.current.format ?? numberText)(value);
  const axis = {
    stroke: () => css(element, '--muted'),
    grid: { stroke: () => css(element, '--grid'), width: 1 },
    ticks: { show: false },
    font: '12px system-ui',
  };
  const series: uPlot.Series[] = [{ label: 'update' }];
  const bands: uPlot.Band[] = [];
  for (const { label, colour, style = 'line', band } of lines) {
    const stroke = (): string => css(element, colour);
    const spanGaps = style === 'dashed' || style === 'joined';
    if (band !== undefined) {
      const edge = { stroke: 'transparent', points: { show: false }, spanGaps };
      bands.push({
        series: [series.length + 1, series.length],
        fill: () => `color-mix(in srgb, ${css(element, colour)} 25%, transparent)`,
      });
      series.push(edge, edge);
    }
    series.push({
      label,
      stroke: style === 'faint' ? () => faint(css(element, colour)) : stroke,
      width: style === 'faint' ? 1 : 1.75,
      ...(style === 'dashed' && { dash: [6, 4] }),
      ...(style === 'points'
        ? { paths: () => null, points: { show: true, size: 7, fill: stroke } }
        : {
            points:
              style === 'joined'
                ? { show: true, size: 6, fill: stroke }
                : { show: false, filter: alone, size: 5, fill: stroke },
          }),
      spanGaps,
    });
  }
  return {
    width: element.clientWidth,
    height: HEIGHT,
    scales: { x: { time: false }, y: log ? LOGARITHMIC : {} },
    axes: [
      { ...axis, values: (_, ticks) => ticks.map((tick) => tick.toLocaleString('en')) },
      {
        ...axis,
        size: 64,
        values: (_, ticks) => ticks.map((tick) => (tick === null ? '' : format(tick))),
      },
    ],
    legend: { show: false },
    cursor: { drag: { x: true, y: false, setScale: false }, points: { size: 6 } },
    series,
    bands,
    hooks: {
      drawClear: [(plot) => drawGaps(plot, element, latest.current.gaps ?? [])],
      setSelect: [
        (plot) => {
          const { left, width } = plot.select;
          if (width < 8) return;
          const ends = [left, left + width].map((at) => Math.round(plot.posToVal(at, 'x')));
          plot.setSelect({ left: 0, top: 0, width: 0, height: 0 }, false);
          latest.current.onZoom?.([ends[0]!, ends[1]!]);
        },
      ],
      ready: [
        (plot) => {
          plot.over.addEventListener('dblclick', () => latest.current.onZoom?.(undefined));
        },
      ],
    },
  };
}

/** Values between gaps, of which a line shows nothing. */
function alone(plot: uPlot, series: number): number[] {
  const values = plot.data[series]!;
  const found: number[] = [];
  values.forEach((value, i) => {
    if (value != null && values[i - 1] == null && values[i + 1] == null) found.push(i);
  });
  return found;
}

function dataOf({ x, lines, log = false }: ChartProps): uPlot.AlignedData {
  // A logarithm has no place for what is not above 0.
  const shown = (values: readonly (number | null)[]): (number | null)[] =>
    log ? values.map((value) => (value !== null && value > 0 ? value : null)) : [...values];
  const all = lines.flatMap(({ values, band }) => [...(band ?? []), values]);
  return [[...x], ...all.map(shown)] as uPlot.AlignedData;
}

/** Bands over the whole height, at least as wide as can be seen. */
function drawGaps(plot: uPlot, element: HTMLElement, gaps: readonly Gap[]): void {
  const { ctx, bbox } = plot;
  const least = 3 * devicePixelRatio;
  ctx.save();
  for (const { kind, from, to } of gaps) {
    const [left, right] = [from, to].map((update) => plot.valToPos(update, 'x', true)) as [
      number,
      number,
    ];
    if (right < bbox.left || left > bbox.left + bbox.width) continue;
    const width = Math.max(least, right - left);
    // What was left out is a strip below, so that both can be told where they meet.
    const top = kind === 'skipped' ? bbox.top + bbox.height - 2 * least : bbox.top;
    ctx.fillStyle = css(element, kind === 'not-finite' ? '--bad' : '--warn');
    ctx.globalAlpha = 0.35;
    ctx.fillRect((left + right - width) / 2, top, width, bbox.top + bbox.height - top);
  }
  ctx.restore();
}

function css(element: HTMLElement, variable: string): string {
  return getComputedStyle(element).getPropertyValue(variable).trim();
}

function faint(colour: string): string {
  return `color-mix(in srgb, ${colour} 40%, transparent)`;
}
