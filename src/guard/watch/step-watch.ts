/**
 * How far updates move weights, by the optimizer's groups: steps so large that nothing lasts of what weights had learnt, or so small that
 * fp32 rounds them away.
 */

import { median } from '../../base/median.js';
import type { UpdateEvent } from '../../train/index.js';

/** Of the norm of weights. New projectors and LoRA's matrices reach a twentieth at published rates. */
const LARGE = 0.2;
/** Half the spacing of fp32. */
const SMALL = 2 ** -24;
/** Steps of a group, one after another, that count as large, or as small. */
const LARGE_IN_ROW = 2;
const SMALL_IN_ROW = 20;

export interface OddSteps {
  readonly kind: 'large' | 'small';
  readonly tensor: string;
  /** Median. */
  readonly ratio: number;
}

export class StepWatch {
  private readonly groups = new Map<string, number[]>();

  /**
   * Takes in an update. Each rank sees steps of its own part of the weights.
   *
   * @param gradient norm of that of the tensor; that nothing moves one without is as it should be
   */
  add(
    { learningRate, step }: Pick<UpdateEvent, 'learningRate' | 'step'>,
    gradient: number,
  ): OddSteps | null {
    if (step === undefined || learningRate === 0) return null;
    const { group, tensor, ratio } = step;
    if (!(gradient > 0) && ratio < SMALL) return null;
    const ratios = this.groups.get(group) ?? [];
    this.groups.set(group, ratios);
    ratios.push(ratio);
    if (ratios.length > SMALL_IN_ROW) ratios.shift();
    const last = ratios.slice(-LARGE_IN_ROW);
    if (last.length === LARGE_IN_ROW && last.every((each) => each > LARGE)) {
      return { kind: 'large', tensor, ratio: median(last) };
    }
    if (ratios.length < SMALL_IN_ROW || ratios.some((each) => each >= SMALL)) return null;
    return { kind: 'small', tensor, ratio: median(ratios) };
  }

  /** Median of the latest steps of each group, the largest of them; `null` before the first. */
  get usual(): number | null {
    const medians = [...this.groups.values()].map(median);
    return medians.length === 0 ? null : Math.max(...medians);
  }
}
