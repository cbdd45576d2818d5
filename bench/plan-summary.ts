/** How far the rows of `bench/plan.ts` lie apart: in how many of them memory, seconds and the verdict were right. */

import type { PlanConfig } from './plan-config.js';
import { OUT_OF_MEMORY, type Measured, type Predicted } from './plan-row.js';

export interface PlanRow {
  readonly name: string;
  readonly predicted: Predicted;
  readonly measured: Measured;
  readonly config: PlanConfig;
}

/** Shares within which predictions are to lie. */
const WITHIN = { allocated: 0.03, reserved: 0.05, total: 0.05, seconds: 0.1 } as const;

export function summary(rows: readonly PlanRow[]): string {
  const lines = [`${rows.length} configurations`];
  for (const [figure, share] of Object.entries(WITHIN) as [keyof typeof WITHIN, number][]) {
    const off = rows.flatMap(({ name, predicted, measured }) => {
      const [was, said] = ['failed' in measured ? null : measured[figure], predicted[figure]];
      return was === null || said === null ? [] : [{ name, by: said / was - 1 }];
    });
    const right = off.filter(({ by }) => Math.abs(by) <= share).length;
    const worst = off.sort((a, b) => Math.abs(b.by) - Math.abs(a.by))[0];
    if (worst === undefined) continue;
    lines.push(
      `${figure}: ${right} of ${off.length} within ${100 * share} %, the farthest ${signed(worst.by)} (${worst.name})`,
    );
  }
  const limited = rows.filter(({ config }) => config.limitGiB !== null);
  const verdicts = limited.flatMap(({ name, predicted, measured }) => {
    if ('failed' in measured && measured.failed !== OUT_OF_MEMORY) return [];
    return [{ name, fits: !('failed' in measured), said: predicted.fits }];
  });
  const wrong = verdicts.filter(({ fits, said }) => fits !== said);
  if (verdicts.length > 0) {
    lines.push(`verdicts: ${verdicts.length - wrong.length} of ${verdicts.length} right`);
  }
  for (const { name, said } of wrong) lines.push(`  ${name}: was to ${said ? '' : 'not '}fit`);
  for (const { name, measured } of rows) {
    if ('failed' in measured && measured.failed !== OUT_OF_MEMORY) {
      lines.push(`failed: ${name}: ${measured.failed}`);
    }
  }
  return lines.join('\n');
}

const signed = (share: number): string => `${share < 0 ? '' : '+'}${(100 * share).toFixed(1)} %`;
