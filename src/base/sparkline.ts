/** Curves in the terminal: a sparkline of one row, and a chart of dots with its axes. Pure functions, text out. */

const BARS = '▁▂▃▄▅▆▇█';
/** Where a value is NaN or infinite: such a gap is what one looks for. */
const BROKEN = '×';

export interface SparklineOptions {
  /** Columns; longer series are averaged down. @default 30 */
  width?: number;
  /** Lower end of the scale. @default the smallest value */
  min?: number;
  /** Upper end of the scale. @default the largest value */
  max?: number;
}

/** One character per column, from ▁ (smallest) to █ (largest); × where a value is not finite. */
export function sparkline(
  values: readonly number[],
  { width = 30, min, max }: SparklineOptions = {},
): string {
  const columns = resample(values, width);
  const finite = columns.filter(Number.isFinite);
  const low = min ?? Math.min(...finite);
  const span = (max ?? Math.max(...finite)) - low;
  return columns
    .map((value) => {
      if (!Number.isFinite(value)) return BROKEN;
      const level = span > 0 ? ((value - low) / span) * (BARS.length - 1) : 0;
      return BARS[Math.min(BARS.length - 1, Math.max(0, Math.round(level)))]!;
    })
    .join('');
}

export interface Point {
  x: number;
  y: number;
}

export interface ChartOptions {
  /** Columns in all, axis included. @default 72 */
  width?: number;
  /** Rows of the plot, without its axis. @default 12 */
  height?: number;
  /** Written above. */
  title?: string;
  /** Written below, at the right. */
  xLabel?: string;
}

/**
 * A curve of Braille dots, two by four to a character, over a scale with labels. A column in which a value is not
 * finite is marked × in the lowest row.
 */
export function lineChart(
  points: readonly Point[],
  { width = 72, height = 12, title, xLabel = '' }: ChartOptions = {},
): string {
  const finite = points.filter(({ y }) => Number.isFinite(y));
  if (finite.length === 0) return [title, '(nothing to draw)'].filter(Boolean).join('\n');
  const low = Math.min(...finite.map(({ y }) => y));
  const high = Math.max(...finite.map(({ y }) => y));
  const middle = height >> 1;
  const middleValue = high - ((high - low) * (middle + 0.5)) / height;
  const labels = [high, middleValue, low].map(axisNumber);
  const margin = Math.max(...labels.map((label) => label.length));
  const columns = Math.max(4, width - margin - 2);
  const left = points[0]!.x;
  const span = points.at(-1)!.x - left || 1;
  const canvas = new Canvas(columns, height);
  const dot = ({ x, y }: Point): [number, number] => [
    Math.round(((x - left) / span) * (2 * columns - 1)),
    Math.round((high > low ? (high - y) / (high - low) : 0.5) * (4 * height - 1)),
  ];
  for (const [i, point] of points.entries()) {
    if (!Number.isFinite(point.y)) {
      canvas.mark(Math.round(((point.x - left) / span) * (columns - 1)), height - 1);
      continue;
    }
    const before = points[i - 1];
    const from = before !== undefined && Number.isFinite(before.y) ? before : point;
    canvas.line(dot(from), dot(point));
  }
  const rows = canvas.rows().map((row, i) => {
    const label = { [middle]: labels[1], [height - 1]: labels[2], 0: labels[0] }[i] ?? '';
    return `${label.padStart(margin)} ${label ? '┤' : '│'}${row}`;
  });
  const ends = [axisNumber(left), axisNumber(points.at(-1)!.x) + (xLabel && ` ${xLabel}`)];
  const gap = ' '.repeat(Math.max(1, columns - ends[0]!.length - ends[1]!.length));
  const indent = ' '.repeat(margin + 2);
  return [
    ...(title === undefined ? [] : [title]),
    ...rows.map((row) => row.trimEnd()),
    `${' '.repeat(margin)} └${'─'.repeat(columns)}`,
    `${indent}${ends[0]!}${gap}${ends[1]!}`,
  ].join('\n');
}

/** `values` averaged into at most `width` columns; a column with a value that is not finite is not finite. */
export function resample(values: readonly number[], width: number): number[] {
  if (values.length <= width) return [...values];
  return Array.from({ length: Math.max(0, Math.floor(width)) }, (_, column) => {
    const from = Math.floor((column * values.length) / width);
    const to = Math.floor(((column + 1) * values.length) / width);
    const part = values.slice(from, to);
    return part.reduce((sum, value) => sum + value, 0) / part.length;
  });
}

function axisNumber(value: number): string {
  if (value === 0) return '0';
  const size = Math.abs(value);
  if (size >= 1e6 || size < 1e-3) return value.toExponential(1);
  return String(Number(value.toPrecision(4)));
}

/** Dots at twice the columns and four times the rows of the text; the bits of Unicode's Braille block from U+2800. */
class Canvas {
  readonly #columns: number;
  readonly #cells: Uint8Array;
  readonly #marks = new Set<number>();

  constructor(columns: number, height: number) {
    this.#columns = columns;
    this.#cells = new Uint8Array(columns * height);
  }

  /** Bresenham's line between two dots, both included. */
  line([x0, y0]: [number, number], [x1, y1]: [number, number]): void {
    const steps = Math.max(Math.abs(x1 - x0), Math.abs(y1 - y0), 1);
    for (let step = 0; step <= steps; step++) {
      this.#dot(
        Math.round(x0 + ((x1 - x0) * step) / steps),
        Math.round(y0 + ((y1 - y0) * step) / steps),
      );
    }
  }

  mark(column: number, row: number): void {
    this.#marks.add(row * this.#columns + column);
  }

  rows(): string[] {
    const characters = Array.from(this.#cells, (bits, i) => {
      if (this.#marks.has(i)) return BROKEN;
      return bits === 0 ? ' ' : String.fromCodePoint(0x2800 + bits);
    });
    const rows = [];
    for (let i = 0; i < characters.length; i += this.#columns) {
      rows.push(characters.slice(i, i + this.#columns).join(''));
    }
    return rows;
  }

  #dot(x: number, y: number): void {
    const bit = [
      [0x01, 0x08],
      [0x02, 0x10],
      [0x04, 0x20],
      [0x40, 0x80],
    ][y & 3]![x & 1]!;
    const cell = (y >> 2) * this.#columns + (x >> 1);
    this.#cells[cell]! |= bit;
  }
}
