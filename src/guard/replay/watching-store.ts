/** A store that brings parameters as another one does, looks at each gradient, and changes nothing. */

import type { Residency, SegmentBase } from '../../models/index.js';
import { cat, noGrad, scope, type Tensor } from '../../torch/index.js';
import type { StepStore } from '../../train/index.js';

/** A gradient as it came: NaN or infinite where an element is. */
export interface SeenGradient {
  readonly segment: string;
  readonly name: string;
  /** Largest absolute value. */
  readonly largest: number;
  readonly sum: number;
}

export class WatchingStore implements StepStore {
  readonly acquire: Residency['acquire'];
  readonly prefetch: Residency['prefetch'];
  readonly release: Residency['release'];
  private readonly names: { readonly segment: string; readonly name: string }[] = [];
  private readonly facts: Tensor[] = [];

  constructor(residency: Residency) {
    this.acquire = (...visit) => residency.acquire(...visit);
    this.prefetch = (segment) => residency.prefetch(segment);
    this.release = (...visit) => residency.release(...visit);
  }

  accept({ name: segment }: SegmentBase, gradients: ReadonlyMap<string, Tensor | null>): void {
    for (const [name, gradient] of gradients) {
      if (gradient === null) continue;
      this.names.push({ segment, name });
      const facts = noGrad(() =>
        scope(() => {
          const wide = gradient.to('float32').reshape([-1]);
          return cat([wide.abs().amax([]).reshape([1]), wide.sum(null).reshape([1])]);
        }),
      );
      this.facts.push(facts.keep());
      gradient.dispose();
    }
  }

  /** The gradients in the order in which they came. */
  read(): SeenGradient[] {
    if (this.facts.length === 0) return [];
    const numbers = noGrad(() => scope(() => cat(this.facts).toTypedArray())) as Float32Array;
    return this.names.map((name, i) => ({
      ...name,
      largest: numbers[2 * i]!,
      sum: numbers[2 * i + 1]!,
    }));
  }

  dispose(): void {
    for (const each of this.facts) each.dispose();
  }
}
