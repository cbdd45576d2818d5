/**
 * Micro-batches that memory did not suffice for, cut smaller: half as large and twice as many, with the same records. An update is the
 * same up to rounding: its loss is weighted by all of its tokens, and dropout depends on the record alone.
 */

import { microBatchOf, type LoadedSample, type UpdateData } from '../../data/index.js';
import { pack } from '../../data/loading/pack.js';

type MicroBatches = UpdateData['microBatches'];

/** What a micro-batch holds at most; a record that is larger goes alone. */
export type CutUnit = 'records' | 'tokens';

/** Plain, for a checkpoint. */
export interface CutState {
  /** `batchSize` or `batchTokens` of the recipe that it was found under. */
  readonly asked: number;
  readonly most: number;
}

export class BatchCut {
  /** As the recipe has it. */
  private most = Infinity;

  /** @param asked `batchSize` or `batchTokens` */
  constructor(
    readonly unit: CutUnit,
    private readonly asked: number,
  ) {}

  applyTo(microBatches: MicroBatches): MicroBatches {
    return microBatches.flatMap((each) => {
      if (this.sizeOf(each.samples) <= this.most) return [each];
      return this.parts(each.samples).map(microBatchOf);
    });
  }

  /** What the largest of these holds that can be cut; `null` where each of them is one record. */
  largest(microBatches: MicroBatches): number | null {
    const sizes = microBatches
      .filter(({ samples }) => samples.length > 1)
      .map(({ samples }) => this.sizeOf(samples));
    return sizes.length === 0 ? null : Math.max(...sizes);
  }

  /** Halves what a micro-batch holds, from so much. @returns what it held and holds */
  halve(before: number): { readonly before: number; readonly after: number } {
    const after = Math.ceil(before / 2);
    this.most = after;
    return { before, after };
  }

  get isCut(): boolean {
    return this.most < Infinity;
  }

  get state(): CutState | undefined {
    return this.isCut ? { asked: this.asked, most: this.most } : undefined;
  }

  /** Goes on with it, unless the recipe has changed since. @returns what that means, a sentence */
  restore({ asked, most }: CutState): string[] {
    if (asked !== this.asked) return [];
    this.most = most;
    const field = this.unit === 'records' ? 'batchSize' : 'batchTokens';
    return [
      `micro-batches stay cut to ${counted(most, this.unit)}, as memory did not suffice for more; ` +
        `another \`${field}\` than ${asked} begins anew`,
    ];
  }

  private sizeOf(samples: readonly LoadedSample[]): number {
    if (this.unit === 'records') return samples.length;
    return samples.reduce((sum, { inputIds }) => sum + inputIds.length, 0);
  }

  private parts(samples: readonly LoadedSample[]): (readonly LoadedSample[])[] {
    const { most, unit } = this;
    if (unit === 'records') {
      const count = Math.ceil(samples.length / most);
      return Array.from({ length: count }, (_, i) => samples.slice(i * most, (i + 1) * most));
    }
    const fits = ({ inputIds }: LoadedSample): boolean => inputIds.length <= most;
    const small = samples.filter(fits);
    const sizes = small.map(({ inputIds, images }) => ({
      ...{ tokens: inputIds.length, images: images.length },
    }));
    const packed = pack(sizes, { tokens: most });
    return [
      ...samples.filter((each) => !fits(each)).map((each) => [each]),
      ...packed.map((places) => places.map((place) => small[place]!)),
    ];
  }
}

export function counted(count: number, unit: CutUnit): string {
  return `${count} ${count === 1 ? unit.slice(0, -1) : unit}`;
}
