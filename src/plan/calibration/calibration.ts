/**
 * What earlier runs on a card say of later ones there: how long an update takes beside what the table of cards gives, and what the card holds
 * beside libtorch's allocator. Tensors are the step program's, and nothing is taken from measurements for them.
 */

import { median } from '../../base/median.js';
import { loraOf, type Recipe } from '../../config/index.js';
import { CARDS, type Card } from '../devices/cards.js';

/** What a run has measured beside its plan. */
export interface MeasuredRun {
  /** When it ended, ISO 8601. */
  readonly at: string;
  /** What the driver calls the card. */
  readonly card: string;
  readonly libtorch: string;
  readonly patina: string;
  readonly ranks: number;
  /** As `kindOf` says. */
  readonly kind: string;
  /** How many times as long as planned a typical update took; `null` where none was told. */
  readonly time: number | null;
  /** Bytes that the card held beside the allocator; `null` where that was not measured. */
  readonly context: number | null;
}

/** With what runs are comparable. */
export type Versions = Pick<MeasuredRun, 'libtorch' | 'patina'>;

export interface Calibrated {
  /** Bytes beside the allocator; `null` where too few runs have told. */
  readonly context: number | null;
  readonly time: CalibratedTime | null;
}

export interface CalibratedTime {
  /** How many times as long as the table of cards gives: the median of the runs. */
  readonly factor: number;
  /** Share of it within which two thirds of the runs lie. */
  readonly interval: number;
  readonly runs: number;
  /** They trained in the same way on as many GPUs; else they are all that there are of the card. */
  readonly sameKind: boolean;
}

/** Runs from which on they count: of fewer, one that was disturbed could be the median. */
const ENOUGH = 3;

/** Share of an update for which a card must have work: what the host holds up says nothing of a card. */
const CARD_BOUND = 0.8;

export class Calibration {
  private readonly runs: readonly MeasuredRun[];

  constructor(runs: readonly MeasuredRun[], { libtorch, patina }: Versions) {
    this.runs = runs.filter((run) => run.libtorch === libtorch && run.patina === patina);
  }

  of(card: Card, recipe: Recipe, ranks: number): Calibrated {
    const own = this.runs.filter((run) => isOf(card, run.card));
    const kind = kindOf(recipe);
    const alike = timesOf(own.filter((run) => run.kind === kind && run.ranks === ranks));
    const all = timesOf(own);
    const times = alike.length >= ENOUGH ? alike : all;
    // Groups of ranks hold buffers of their own. What others have of a card only adds to what a run sees.
    const contexts = own
      .filter((run) => run.ranks > 1 === ranks > 1)
      .flatMap(({ context }) => context ?? []);
    return {
      context: contexts.length < ENOUGH ? null : Math.min(...contexts),
      time: times.length < ENOUGH ? null : { ...spreadOf(times), sameKind: times === alike },
    };
  }
}

/** Whether so much of an update is the card's own that its times can be held against each other. */
export function isCardBound({ busy }: { readonly busy: number }): boolean {
  return busy >= CARD_BOUND;
}

/** Runs whose times are off in the same way: by what the decoder trains, its base, the type, and what lies in host memory. */
export function kindOf({ train: { decoder }, precision, parallel }: Recipe): string {
  const trains = loraOf(decoder) !== undefined ? 'lora' : decoder === 'full' ? 'full' : 'frozen';
  const base = typeof decoder === 'object' ? decoder.base : undefined;
  const { offload } = parallel;
  return [
    trains,
    ...(base === undefined ? [] : [base]),
    precision.compute,
    ...(offload === 'none' ? [] : [`${offload} in host memory`]),
  ].join(', ');
}

/** A card as the driver calls it is only itself; one of the table is all that it stands for. */
function isOf({ name }: Card, called: string): boolean {
  return name === called || CARDS.find(({ words }) => words.test(called))?.name === name;
}

function timesOf(runs: readonly MeasuredRun[]): number[] {
  return runs.flatMap(({ time }) => time ?? []);
}

function spreadOf(times: readonly number[]): Omit<CalibratedTime, 'sameKind'> {
  const factor = median(times);
  const off = times.map((time) => Math.abs(time / factor - 1)).sort((a, b) => a - b);
  const interval = off[Math.ceil((2 * off.length) / 3) - 1]!;
  return { factor, interval, runs: times.length };
}
