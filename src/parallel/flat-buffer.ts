/**
 * Several parameters in one flat buffer that ranks share out: each rank keeps one of as many equal slices, and the whole is gathered
 * from them (Rajbhandari et al. 2020, "ZeRO").
 *
 * A parameter is one leaf tensor over its stretch of the buffer, with a version count of its own. The buffer's memory may be freed
 * and refilled in place; the leaves stay, and with them every graph that was kept of them.
 *
 * P: elements of the buffer, padding included; N: ranks; S = P / N.
 */
import {
  empty,
  emptyOnHost,
  noGrad,
  scope,
  type Device,
  type DType,
  type Tensor,
  zeros,
} from '../torch/index.js';

/**
 * Parameters begin, and slices end, at multiples of so many elements: so a parameter is cut at multiples of it, and blocks of values
 * that share a scale do not depend on the number of ranks.
 */
const ALIGNMENT = 256;

/** Where a parameter lies in the whole. */
export interface Stretch {
  readonly name: string;
  readonly shape: readonly number[];
  readonly start: number;
  readonly length: number;
}

/** What of a parameter lies in a rank's slice. */
export interface Piece {
  readonly name: string;
  /** First element of the parameter. */
  readonly from: number;
  /** First element of the slice. */
  readonly at: number;
  readonly length: number;
}

/** Which parameters lie where in a buffer, and how ranks share it out. */
export class FlatLayout {
  readonly stretches: ReadonlyMap<string, Stretch>;
  /** P */
  readonly length: number;
  /** S */
  readonly sliceLength: number;

  constructor(
    shapes: ReadonlyMap<string, readonly number[]>,
    readonly ranks: number,
  ) {
    const stretches = new Map<string, Stretch>();
    let end = 0;
    for (const [name, shape] of shapes) {
      const length = shape.reduce((product, each) => product * each, 1);
      stretches.set(name, { name, shape, start: end, length });
      end = roundUp(end + length, ALIGNMENT);
    }
    this.stretches = stretches;
    this.length = roundUp(end, ranks * ALIGNMENT);
    this.sliceLength = this.length / ranks;
  }

  piecesOf(rank: number): Piece[] {
    const [begin, end] = [rank * this.sliceLength, (rank + 1) * this.sliceLength];
    return [...this.stretches.values()].flatMap(({ name, start, length }) => {
      const [from, to] = [Math.max(start, begin), Math.min(start + length, end)];
      return from < to ? [{ name, from: from - start, at: from - begin, length: to - from }] : [];
    });
  }
}

export interface FlatBufferOptions {
  readonly rank: number;
  readonly ranks: number;
  /** Whether the whole lies on every rank all the time; else only while it is gathered. */
  readonly resident: boolean;
  /** How the slice is kept where the whole does not stay. */
  readonly kept?: {
    /** @default that of the parameters */
    readonly dtype?: DType | undefined;
    /** Whether it lies in host memory, page-locked where the parameters are on a GPU. @default false */
    readonly host?: boolean;
  };
  /** Where it lies. Parameters that are still on meta leave zeros, to be filled. @default where the parameters are */
  readonly device?: Device | undefined;
}

export class FlatBuffer {
  readonly layout: FlatLayout;
  /** (P); without memory while it is not gathered. */
  readonly whole: Tensor;
  /** What this rank keeps (S): its part of the whole, or a copy where the whole does not stay. */
  readonly slice: Tensor;
  /** The parameters over their stretches of the whole; the model owns them. */
  readonly leaves: ReadonlyMap<string, Tensor>;
  readonly pieces: readonly Piece[];
  /** Whether the whole stays. */
  readonly resident: boolean;
  /** Whether the slice lies in host memory. */
  readonly host: boolean;
  /** This rank's part of the whole (S). */
  private readonly own: Tensor;

  /** Copies the parameters, all of one dtype, device and `requiresGrad`; the caller frees them. */
  constructor(
    parameters: ReadonlyMap<string, Tensor>,
    { rank, ranks, resident, kept = {}, ...options }: FlatBufferOptions,
  ) {
    const first = parameters.values().next().value!;
    const { dtype, requiresGrad } = first;
    const { device = first.device } = options;
    const shapes = new Map([...parameters].map(([name, { shape }]) => [name, shape]));
    const layout = new FlatLayout(shapes, ranks);
    this.layout = layout;
    this.pieces = layout.piecesOf(rank);
    this.resident = resident;
    this.whole = zeros([layout.length], { dtype, device }).keep();
    noGrad(() =>
      scope(() => {
        for (const [name, parameter] of parameters) {
          if (parameter.device !== device) continue;
          this.stretchOf(this.whole, name).copy_(parameter.detach().reshape([-1]));
        }
      }),
    );
    const own = noGrad(() =>
      this.whole.narrow(0, rank * layout.sliceLength, layout.sliceLength),
    ).keep();
    this.own = own;
    this.host = kept.host === true;
    this.slice = resident ? own : noGrad(() => this.copyOf(own, kept.dtype ?? dtype)).keep();
    this.leaves = new Map(
      [...layout.stretches.values()].map(({ name, start, shape }) => [
        name,
        noGrad(() =>
          empty([0], { dtype, device }).setStorage_(this.whole, start, shape, stridesOf(shape)),
        )
          .requiresGrad_(requiresGrad)
          .keep(),
      ]),
    );
    this.free();
  }

  private copyOf(own: Tensor, dtype: DType): Tensor {
    const { shape, device } = own;
    const place = this.host ? emptyOnHost(shape, dtype, device) : empty(shape, { dtype, device });
    return place.copy_(own);
  }

  /** Bytes that stay on this rank all the time. */
  get bytes(): number {
    return (this.resident ? this.whole : this.slice).bytes;
  }

  /** Gives the whole its memory back, to be gathered into. */
  allocate(): void {
    if (!this.resident) this.whole.resizeStorage(this.whole.bytes);
  }

  /**
   * What this rank brings to the whole: its slice. Where that lies elsewhere or in another type, it is its part of the whole, copied or
   * rounded from the slice: no copy of that kind lasts. Without waiting for a copy from page-locked memory.
   */
  bring(): Tensor {
    const { slice, own, layout } = this;
    const same = slice.dtype === own.dtype && slice.device === own.device;
    if (same && layout.ranks > 1) return slice;
    if (slice !== own) noGrad(() => own.copy_(slice, true));
    return own;
  }

  /** Frees the whole where it does not stay. */
  free(): void {
    if (!this.resident) this.whole.resizeStorage(0);
  }

  /** A parameter's part of a tensor that is laid out as the whole is (P), flat. */
  stretchOf(wholeLike: Tensor, name: string): Tensor {
    const { start, length } = this.layout.stretches.get(name)!;
    return wholeLike.narrow(0, start, length);
  }

  /** Parameters' parts of a tensor that is laid out as the slice is (S), flat, by name. */
  piecesIn(sliceLike: Tensor): Map<string, Tensor> {
    return new Map(
      this.pieces.map(({ name, at, length }) => [name, sliceLike.narrow(0, at, length)]),
    );
  }

  /** Frees the buffer; the leaves are the model's. */
  dispose(): void {
    if (this.own !== this.slice) this.own.dispose();
    this.slice.dispose();
    this.whole.dispose();
  }
}

function stridesOf(shape: readonly number[]): number[] {
  return shape.map((_, dim) => shape.slice(dim + 1).reduce((a, b) => a * b, 1));
}

const roundUp = (value: number, multiple: number): number => Math.ceil(value / multiple) * multiple;
