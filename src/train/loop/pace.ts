/** How long updates of a run take while nothing but their work holds them up, and what a typical one of them was made of. */

import type { UpdateData } from '../../data/index.js';
import type { UpdateEvent } from '../events.js';
import { recordShape, tokensOf } from './heaviest.js';
import type { TypicalUpdate } from './prediction.js';

export interface PacedUpdate extends TypicalUpdate {
  readonly seconds: number;
}

/** The first of a process compile kernels and fill the allocator. */
const WARMING_UP = 3;
/** Fewer tell nothing. */
const ENOUGH = 8;
/** Of the newest. */
const KEPT = 64;
/** Share of an update that may go by waiting for data. */
const WAITING = 0.05;
/** Times the tokens of this rank that another one may have. */
const BALANCE = 1.05;

export class Pace {
  private passed = 0;
  private readonly kept: (PacedUpdate & { readonly tokensPerSecond: number })[] = [];

  /** An update that has gone through. */
  see(event: UpdateEvent, { microBatches }: Pick<UpdateData, 'microBatches'>): void {
    const { seconds, tokensPerSecond } = event;
    if (++this.passed <= WARMING_UP || isDisturbed(event)) return;
    const typical = typicalOf(microBatches);
    if (typical === null) return;
    this.kept.push({ ...typical, seconds, tokensPerSecond });
    if (this.kept.length > KEPT) this.kept.shift();
  }

  /** The one that went through its tokens at the median of speeds; `null` where too few were undisturbed. */
  get typical(): PacedUpdate | null {
    if (this.kept.length < ENOUGH) return null;
    const sorted = this.kept.toSorted((a, b) => a.tokensPerSecond - b.tokensPerSecond);
    const { batch, microBatches, seconds } = sorted[sorted.length >> 1]!;
    return { batch, microBatches, seconds };
  }
}

/** The speed was not that of the device, or not that of what this rank had to do. */
function isDisturbed({ waiting, skipped, tokensPerSecond, ranks }: UpdateEvent): boolean {
  if (skipped || waiting > WAITING) return true;
  const fastest = Math.max(...(ranks ?? []).map((rank) => rank.tokensPerSecond));
  return fastest > BALANCE * (ranks?.[0]?.tokensPerSecond ?? tokensPerSecond);
}

/** The micro-batch that is nearest to their mean, and how many such have as many tokens as all of them; `null` where none has any. */
function typicalOf(microBatches: UpdateData['microBatches']): TypicalUpdate | null {
  const filled = microBatches.map(({ samples }) => samples).filter(({ length }) => length > 0);
  if (filled.length === 0) return null;
  const tokens = filled.reduce((sum, samples) => sum + tokensOf(samples), 0);
  const off = (samples: (typeof filled)[number]): number =>
    Math.abs(tokensOf(samples) - tokens / filled.length);
  const nearest = filled.reduce((best, each) => (off(each) < off(best) ? each : best));
  return { batch: nearest.map(recordShape), microBatches: tokens / tokensOf(nearest) };
}
