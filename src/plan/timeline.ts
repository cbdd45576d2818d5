/** Where a trace is: the ranges that the step program opens, as phases of a run and segments of a model. */

/** In the order of a run. */
export const PHASES = [
  'load',
  'first forward',
  'forward',
  'head',
  'backward',
  'update',
  'validation',
  'probes',
  'save',
] as const;

export type Phase = (typeof PHASES)[number];

export interface Place {
  readonly phase: Phase;
  /** `decoder.3`; empty outside of segments. */
  readonly segment: string;
  /** Counts visits, so that two of one segment differ. */
  readonly visit: number;
}

/** Phases between updates, each in a range of its name. */
export const BETWEEN = ['validation', 'probes', 'save'] as const satisfies Phase[];

/** Whether a range is one of them. */
export function isBetween(range: string): range is (typeof BETWEEN)[number] {
  return (BETWEEN as readonly string[]).includes(range);
}

export class Places {
  /** So far: each is one object for its duration. */
  current: Place = { phase: 'load', segment: '', visit: 0 };
  private visits = 0;
  private isLoaded = false;
  private readonly open: string[] = [];

  begin(range: string): void {
    this.open.push(range);
    this.move();
  }

  end(range: string): void {
    const at = this.open.lastIndexOf(range);
    if (at >= 0) this.open.splice(at, 1);
    this.move();
  }

  private move(): void {
    const { open } = this;
    const range = open.at(-1) ?? '';
    const [what = '', segment = ''] = range.split(' ');
    this.current = { phase: this.phaseOf(what, segment), segment, visit: ++this.visits };
  }

  private phaseOf(what: string, segment: string): Phase {
    const { open } = this;
    const between = open.find(isBetween);
    if (between !== undefined) return between;
    const update = Number(/^ProfilerStep#(\d+)$/.exec(open[0] ?? '')?.[1] ?? 0);
    this.isLoaded ||= update > 0;
    // Between updates what the last one began goes on.
    if (update === 0) return this.isLoaded ? 'update' : 'load';
    if (what === 'backward') return 'backward';
    if (what === 'optimizer') return 'update';
    if (segment === 'head') return 'head';
    return update === 1 && what === 'forward' ? 'first forward' : 'forward';
  }
}
