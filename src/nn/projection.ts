/**
 * Linear layers that share their input, with their backward: by hand (projection-by-hand.ts), or, where one of them has DoRA, recorded
 * and differentiated by autograd (recorded-projection.ts). What each layer computes is in linear.ts and lora.ts.
 *
 * N: rows, I: input features, O: output features of all layers together.
 */
import { dtypeBytes, scope, type Tensor } from '../torch/index.js';
import type { DropoutMasks } from './dropout.js';
import type { Fp8Rows } from './fp8.js';
import { denseOf, fp8Of, jointProducts } from './joint-products.js';
import type { Linear } from './linear.js';
import { BackwardByHand, forwardByHand, type LowRank } from './projection-by-hand.js';
import { type Drop, type ProjectionBackward, joinColumns } from './projection-parts.js';
import { record, type Recorded, RecordedBackward } from './recorded-projection.js';
import { laySideBySide } from './side-by-side.js';

/** What the backward reads beside the input where it is kept. */
export interface ProjectionRest {
  readonly low?: LowRank;
  /** The graphs of layers without a backward by hand, from their input on. */
  readonly recorded?: Recorded;
}

export interface Projected {
  /** (N, O) */
  readonly output: Tensor;
  readonly rest: ProjectionRest;
}

export interface ProjectOptions {
  /** What the result is added to, in place (N, O). */
  target?: Tensor;
  /** Whether layers without a backward by hand keep their graphs. @default false */
  records?: boolean;
  /** Whether what adapters add is left out, where they allow it. @default false */
  leavesApart?: boolean;
  /** The input in fp8, where it was quantised already. */
  rows?: Fp8Rows | undefined;
}

/** What two adapters add to their layers' results, `s z Bᵀ`, left to whoever reads these. */
export interface AddedPair {
  readonly z: readonly [Tensor, Tensor];
  readonly b: readonly [Tensor, Tensor];
  readonly scaling: readonly [number, number];
}

/** Ranks up to which it pays to add a low-rank product where its target is read. */
const MOST_RANK = 64;

export class Projection {
  constructor(private readonly linears: readonly Linear[]) {}

  /** Whether any of its parameters is to get a gradient. */
  get trains(): boolean {
    return this.linears.some((layer) => {
      const { bias, adapter } = layer;
      const own = [denseOf(layer), bias, adapter?.a, adapter?.b];
      if (adapter?.dora === true) own.push(adapter.magnitude);
      return own.some((parameter) => parameter?.requiresGrad);
    });
  }

  /** Whether it reads its input in fp8, too. */
  get readsFp8(): boolean {
    return !this.isRecorded && fp8Of(this.linears) !== null;
  }

  /** Bytes of one row of what `forward` gives for the backward, without graphs. */
  get lowRankBytes(): number {
    if (this.isRecorded) return 0;
    return this.linears
      .flatMap(({ adapter }) => adapter ?? [])
      .reduce((sum, { a, rank }) => sum + rank * dtypeBytes(a.dtype), 0);
  }

  /** Lays what can be multiplied by, or added, as one side by side. */
  laySideBySide(): void {
    const rowParts = this.linears.map(({ base }) => base.rowParts ?? []);
    const [weights, scales] = [0, 1].map((i) => rowParts.flatMap((parts) => parts[i] ?? []));
    const biases = this.linears.flatMap(({ bias }) => bias ?? []);
    const lowRank = this.linears.flatMap(({ adapter }) => adapter?.a ?? []);
    for (const parts of [weights!, scales!, biases, lowRank]) {
      if (parts.length > 1) laySideBySide(parts);
    }
  }

  /** x (..., I) -> the layers' results, each (..., O), where nothing is to be differentiated: one product where no layer has an adapter. */
  frozen(x: Tensor): Tensor[] {
    const { linears } = this;
    if (linears.some(({ adapter }) => adapter !== undefined)) {
      return linears.map((layer) => layer.forward(x));
    }
    return scope(() => {
      const joint = jointProducts(linears);
      if (joint === null) return linears.map((layer) => layer.forward(x));
      const sizes = linears.map(({ outFeatures }) => outFeatures);
      return joint.product(x).splitWithSizes(sizes, -1);
    });
  }

  /** What dropout does to the input of each layer's adapter. */
  drops(masks?: DropoutMasks): Drop[] {
    return this.linears.map(({ adapter }) =>
      masks === undefined || adapter === undefined || adapter.dropout === 0
        ? null
        : masks.next(adapter.dropout),
    );
  }

  /** Whether `forward` leaves what its adapters add to whoever reads `added`: two layers, with adapters of few ranks. */
  get leavesApart(): boolean {
    const adapters = this.linears.flatMap(({ adapter, base }) =>
      adapter !== undefined && adapter.b.dtype === base.dtype && adapter.rank <= MOST_RANK
        ? adapter
        : [],
    );
    return this.linears.length === 2 && adapters.length === 2 && !this.isRecorded;
  }

  /** What is still to be added to a result; `null` where there is nothing. */
  added({ low }: ProjectionRest): AddedPair | null {
    if (!this.leavesApart) return null;
    const [first, second] = this.linears.map(({ adapter }) => adapter!);
    const [z1, z2] =
      low!.length === 2 ? low! : low![0]!.splitWithSizes([first!.rank, second!.rank], 1);
    return {
      z: [z1!, z2!],
      b: [first!.b, second!.b],
      scaling: [first!.scaling, second!.scaling],
    };
  }

  /** @param drops of each layer's adapter */
  forward(
    xNI: Tensor,
    drops: readonly Drop[],
    { records = false, ...options }: ProjectOptions = {},
  ): Projected {
    const { linears } = this;
    return scope(() => {
      if (this.isRecorded) {
        const recorded = record(linears, xNI, drops, records);
        const output = joinColumns(recorded.results.map((result) => result.detach()));
        const { target } = options;
        return { output: target?.add_(output) ?? output, rest: records ? { recorded } : {} };
      }
      const { output, low } = forwardByHand(linears, xNI, drops, options);
      return { output, rest: { low } };
    });
  }

  /**
   * @param gNO gradient of the result, which is left as it is
   * @param rest of the forward; what is missing is computed again
   */
  backward(gNO: Tensor, drops: readonly Drop[], rest: ProjectionRest = {}): ProjectionBackward {
    const { linears } = this;
    return this.isRecorded
      ? new RecordedBackward(linears, gNO, drops, rest.recorded)
      : new BackwardByHand(linears, gNO, drops, rest.low);
  }

  private get isRecorded(): boolean {
    return this.linears.some(({ adapter }) => adapter?.dora === true);
  }
}
