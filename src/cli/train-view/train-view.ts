/**
 * What training looks like: in a terminal a block of two lines that is drawn over and over below everything else, elsewhere
 * plain lines, with an update every few seconds.
 */
import { sparkline } from '../../base/sparkline.js';
import type { MemoryEvent, ProbeAnswer, TrainEvent, UpdateEvent } from '../../train/index.js';
import type { Output } from '../session.js';
import { eventLines, figures, speedLine, updateLine } from './event-lines.js';

export interface TrainView {
  show(event: TrainEvent): void;
  /** A line of its own. */
  say(line: string): void;
}

export interface ViewOptions {
  /** @default what the output says */
  isTTY?: boolean;
  /** Columns of the terminal. @default 80 */
  columns?: number;
  /** Milliseconds between two updates: shown as lines, or drawn. @default 5000 as lines, 100 drawn */
  interval?: number;
  now?: () => number;
}

/** Updates over which speed is averaged. */
const RECENT = 50;

export function openTrainView(output: Output, options: ViewOptions = {}): TrainView {
  const { isTTY = output.isTTY === true } = options;
  return isTTY ? new LiveView(output, options) : new PlainView(output, options);
}

/** What both views know of the run. */
abstract class View implements TrainView {
  protected planned = 0;
  protected readonly losses: number[] = [];
  protected readonly recent: UpdateEvent[] = [];
  private before: readonly ProbeAnswer[] = [];
  /** Told with the end. */
  private memory: MemoryEvent | null = null;
  protected readonly now: () => number;

  constructor(
    protected readonly output: Output,
    { now = () => performance.now() }: ViewOptions,
  ) {
    this.now = now;
  }

  show(event: TrainEvent): void {
    if (event.type === 'update') {
      this.losses.push(event.loss ?? NaN);
      this.recent.push(event);
      if (this.recent.length > RECENT) this.recent.shift();
      this.update(event);
      return;
    }
    if (event.type === 'memory') {
      this.memory = event;
      return;
    }
    if (event.type === 'start') this.planned = event.updates.planned;
    if (event.type === 'probes' && event.update === 0) this.before = event.answers;
    this.lines(eventLines(event, { before: this.before, memory: this.memory }));
  }

  say(line: string): void {
    this.lines([line]);
  }

  protected abstract update(event: UpdateEvent): void;
  protected abstract lines(lines: readonly string[]): void;
}

class PlainView extends View {
  private last = -Infinity;
  private readonly interval: number;

  constructor(output: Output, options: ViewOptions) {
    super(output, options);
    this.interval = options.interval ?? 5000;
  }

  protected update(event: UpdateEvent): void {
    const now = this.now();
    const due = now - this.last >= this.interval || event.update === this.planned;
    if (!due && !event.skipped) return;
    this.last = now;
    this.lines([updateLine(event, this.planned)]);
  }

  protected lines(lines: readonly string[]): void {
    this.output.write(lines.map((line) => `${line}\n`).join(''));
  }
}

class LiveView extends View {
  private drawn = 0;
  private last = -Infinity;
  private readonly interval: number;
  private readonly columns: number;

  constructor(output: Output, options: ViewOptions) {
    super(output, options);
    this.interval = options.interval ?? 100;
    this.columns = options.columns ?? 80;
  }

  protected update(event: UpdateEvent): void {
    const now = this.now();
    if (now - this.last < this.interval && event.update !== this.planned) return;
    this.last = now;
    this.output.write(this.erase() + this.block());
  }

  protected lines(lines: readonly string[]): void {
    const text = lines.map((line) => `${line}\n`).join('');
    this.output.write(this.erase() + text + (this.recent.length > 0 ? this.block() : ''));
  }

  /** Goes back to where the block began, and clears all below. */
  private erase(): string {
    const up = this.drawn === 0 ? '' : `\u001B[${this.drawn}A`;
    this.drawn = 0;
    return `${up}\r\u001B[J`;
  }

  private block(): string {
    const event = this.recent.at(-1)!;
    const loss = event.loss === null ? 'none' : figures(event.loss);
    const lines = [
      `update ${event.update}/${this.planned}  epoch ${event.epoch + 1}  loss ${loss} ${sparkline(this.losses, { width: 20 })}  ` +
        `norm ${figures(event.gradientNorm)}  lr ${event.learningRate.toExponential(2)}`,
      speedLine(this.recent, this.planned),
    ];
    this.drawn = lines.length;
    return lines.map((line) => `${line.slice(0, this.columns - 1)}\n`).join('');
  }
}
