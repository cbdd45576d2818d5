/**
 * How far the rows of `bench/plan.ts` lie apart: in how many of them memory, seconds and the verdict were right, whether that is as many as it
 * is meant to be, which rows were not, and the same by what is trained.
 */

import { kindOf } from '../src/plan/calibration/calibration.js';
import { recipeOf, type PlanConfig } from './plan-config.js';
import {
  OUT_OF_MEMORY,
  type Figures,
  type Measured,
  type Predicted,
  type SharedFigures,
} from './plan-row.js';

export type PlanRow = PlannedRow | UnplannedRow;

export interface PlannedRow {
  readonly name: string;
  readonly predicted: Predicted;
  readonly measured: Measured | SharedFigures;
  readonly config: PlanConfig;
}

/** `measured` says why. */
export interface UnplannedRow {
  readonly name: string;
  readonly predicted: null;
  readonly measured: { readonly failed: string };
  /** As the file has it where it is none. */
  readonly config: unknown;
}

interface Criterion {
  /** Share by which a prediction may be off. */
  readonly within: number;
  /** Share of the rows in which it must not be further off; `null` where nothing is asked. */
  readonly of: number | null;
}

const CRITERIA = {
  allocated: { within: 0.03, of: 1 },
  reserved: { within: 0.05, of: 0.95 },
  total: { within: 0.05, of: null },
  context: { within: 0.1, of: null },
  seconds: { within: 0.1, of: 0.9 },
} as const satisfies Partial<Record<keyof Figures, Criterion>>;

/** Share of verdicts that must be right, and share of the limit by which a plan may miss it where it says that a run fits which does not. */
const VERDICTS = { of: 0.95, unsafe: 0.02 };

export function summary(rows: readonly PlanRow[]): string {
  const groups = new Map<string, PlanRow[]>();
  for (const row of rows) {
    const group = groupOf(row);
    groups.set(group, [...(groups.get(group) ?? []), row]);
  }
  return [
    `${rows.length} configurations`,
    ...figureLines(rows),
    ...verdictLines(rows),
    ...rows
      .filter(isFailed)
      .map(({ name, measured }) => `failed: ${name}: ${failureOf(measured)!}`),
    ...(groups.size < 2 ? [] : [...groups].map(([group, own]) => groupLine(group, own))),
  ].join('\n');
}

/** It has no figures, and not because memory did not suffice. */
export function isFailed({ measured }: Pick<PlanRow, 'measured'>): boolean {
  const why = failureOf(measured);
  return why !== null && why !== OUT_OF_MEMORY;
}

/** What is trained, on how many cards, and whether memory was limited. */
function groupOf(row: PlanRow): string {
  if (row.predicted === null) return 'not planned';
  const { config } = row;
  const { ranks, limitGiB } = config;
  const cards = ranks === 1 ? '' : `, ${ranks} cards`;
  return `${kindOf(recipeOf(config))}${cards}${limitGiB === null ? '' : ', limited'}`;
}

interface Off {
  readonly name: string;
  /** Share by which it was predicted too high. */
  readonly by: number;
}

/** Of the rows that have the figure, the farthest first. */
function offBy(figure: keyof typeof CRITERIA, rows: readonly PlanRow[]): Off[] {
  return rows
    .flatMap(({ name, predicted, measured }) => {
      // Rows of earlier days lack some.
      const was = ('failed' in measured ? null : measured[figure]) ?? null;
      const said = predicted?.[figure] ?? null;
      return was === null || said === null ? [] : [{ name, by: said / was - 1 }];
    })
    .sort((a, b) => Math.abs(b.by) - Math.abs(a.by));
}

function figureLines(rows: readonly PlanRow[]): string[] {
  return Object.entries<Criterion>(CRITERIA).flatMap(([figure, { within, of }]) => {
    const off = offBy(figure as keyof typeof CRITERIA, rows);
    const wrong = off.filter(({ by }) => Math.abs(by) > within);
    const [worst] = off;
    if (worst === undefined) return [];
    const right = off.length - wrong.length;
    const farthest = `the farthest ${signed(worst.by)} (${worst.name})`;
    return [
      `${figure}: ${right} of ${off.length} within ${percent(within)}${judged(right, off.length, of)}, ${farthest}`,
      ...(of === null ? [] : wrong.map(({ name, by }) => `  ${name}: ${signed(by)}`)),
    ];
  });
}

interface Verdict {
  readonly name: string;
  readonly fits: boolean;
  readonly said: boolean;
  /** Share of the limit that the plan left. */
  readonly left: number;
}

/** Of the rows whose memory was limited. */
function verdictsOf(rows: readonly PlanRow[]): Verdict[] {
  return rows.flatMap((row) => {
    if (row.predicted === null) return [];
    const { name, predicted, measured } = row;
    const { limitGiB } = row.config;
    const why = failureOf(measured);
    if (limitGiB === null) return [];
    if (why !== null && why !== OUT_OF_MEMORY) return [];
    const left = 1 - predicted.reserved / (limitGiB * 2 ** 30);
    return [{ name, fits: why === null, said: predicted.fits, left }];
  });
}

function verdictLines(rows: readonly PlanRow[]): string[] {
  const verdicts = verdictsOf(rows);
  if (verdicts.length === 0) return [];
  const wrong = verdicts.filter(({ fits, said }) => fits !== said);
  const right = verdicts.length - wrong.length;
  const unsafe = wrong.filter(({ said, left }) => said && left > VERDICTS.unsafe);
  return [
    `verdicts: ${right} of ${verdicts.length} right${judged(right, verdicts.length, VERDICTS.of)}, ` +
      `${unsafe.length} that did not fit had more than ${percent(VERDICTS.unsafe)} left by plan (none may: ${unsafe.length === 0 ? 'met' : 'missed'})`,
    ...wrong.map(({ name, said, left }) => {
      return `  ${name}: was ${said ? '' : 'not '}to fit, with ${percent(left)} of its limit left`;
    }),
  ];
}

/** How many rows of a group were right in each. */
function groupLine(group: string, rows: readonly PlanRow[]): string {
  const parts = Object.entries<Criterion>(CRITERIA).flatMap(([figure, { within, of }]) => {
    const off = offBy(figure as keyof typeof CRITERIA, rows);
    if (of === null || off.length === 0) return [];
    const right = off.filter(({ by }) => Math.abs(by) <= within).length;
    return [`${figure} ${right} of ${off.length} (${signed(off[0]!.by)})`];
  });
  const verdicts = verdictsOf(rows);
  const right = verdicts.filter(({ fits, said }) => fits === said).length;
  const judgements = verdicts.length === 0 ? [] : [`verdicts ${right} of ${verdicts.length}`];
  return `[${group}] ${[`rows ${rows.length}`, ...parts, ...judgements].join(', ')}`;
}

function failureOf(measured: PlanRow['measured']): string | null {
  return 'failed' in measured ? measured.failed : null;
}

function judged(right: number, all: number, of: number | null): string {
  if (of === null) return '';
  const wanted = of === 1 ? 'all' : percent(of);
  return ` (${wanted} must be: ${right >= of * all ? 'met' : 'missed'})`;
}

const percent = (share: number): string => `${Number((100 * share).toFixed(1))} %`;

const signed = (share: number): string => `${share < 0 ? '' : '+'}${(100 * share).toFixed(1)} %`;
