/**
 * Adapters of neighbouring layers that read one input and are alike, as one: their matrices A side by side, or, where each drops the
 * input its own way, operators that do so on the way.
 *
 * N: rows, I: input features, O: output features of all layers together, R: ranks of all adapters of the group together.
 */
import {
  droppedGradients,
  droppedProduct,
  type DType,
  lowRankBackward,
  lowRankGradients,
  project,
  scope,
  type Tensor,
  zeros,
} from '../torch/index.js';
import type { Linear } from './linear.js';
import type { LoraAdapter } from './lora.js';
import type { ParameterGradients } from './parameter-gradients.js';
import type { Drop } from './projection-parts.js';

interface Member {
  readonly adapter: LoraAdapter;
  readonly drop: Drop;
  /** Column of the layers' results from which on it adds. */
  readonly start: number;
}

/** The adapters of layers that share their input. */
export function adapterGroups(linears: readonly Linear[], drops: readonly Drop[]): AdapterGroup[] {
  const groups: Member[][] = [];
  let start = 0;
  linears.forEach(({ adapter, outFeatures }, i) => {
    const member = adapter && { adapter, drop: drops[i]!, start };
    start += outFeatures;
    if (member === undefined) return;
    const last = groups.at(-1);
    if (last !== undefined && areAlike(last[0]!, member)) last.push(member);
    else groups.push([member]);
  });
  return groups.map((members) => new AdapterGroup(members, linears[0]!.base.dtype));
}

function areAlike(one: Member, other: Member): boolean {
  return (
    one.adapter.a.dtype === other.adapter.a.dtype &&
    one.drop?.probability === other.drop?.probability
  );
}

export class AdapterGroup {
  private readonly a: readonly Tensor[];
  private readonly b: readonly Tensor[];
  private readonly starts: readonly number[];
  private readonly scaling: readonly number[];
  private readonly dropped: Dropped | null;
  private readonly dtype: DType;
  /** Whether it computes in another dtype than the layers. */
  private readonly converts: boolean;

  constructor(members: readonly Member[], base: DType) {
    this.a = members.map(({ adapter }) => adapter.a);
    this.b = members.map(({ adapter }) => adapter.b);
    this.starts = members.map(({ start }) => start);
    this.scaling = members.map(({ adapter }) => adapter.scaling);
    this.dropped = droppedBy(members);
    this.dtype = this.a[0]!.dtype;
    this.converts = this.dtype !== base;
  }

  /** The matrix A of one adapter that drops nothing and computes as its layer does. */
  get plain(): Tensor | null {
    return this.a.length === 1 && this.dropped === null && !this.converts ? this.a[0]! : null;
  }

  /** `z_i = drop_i(x) A_iᵀ`: (N, R) */
  product(xNI: Tensor): Tensor {
    const { a, dropped } = this;
    return scope(() => {
      const x = this.converted(xNI);
      return dropped === null
        ? project(
            x,
            a,
            a.map(() => null),
          )
        : droppedProduct(x, a, ...dropped);
    });
  }

  /** `y += s z Bᵀ`, in place, each in its columns. */
  addTo(yNO: Tensor, zNR: Tensor): void {
    yNO.addLowRank_(zNR, this.b, this.starts, this.scaling);
  }

  /** `dz = s g B`: (N, R) */
  backward(gNO: Tensor): Tensor {
    return lowRankBackward(gNO, this.b, this.starts, this.scaling);
  }

  /** `dx += Σ drop_i(dz_i A_i)`, in place. */
  addInput(dxNI: Tensor, dzNR: Tensor): void {
    const { a, dropped, converts, dtype } = this;
    if (dropped === null) dxNI.projectBackwardAdd_(dzNR, a);
    else if (!converts) dxNI.addDropped_(dzNR, a, ...dropped);
    else {
      scope(() => {
        const sum = zeros(dxNI.shape, { dtype, device: dxNI.device });
        dxNI.add_(sum.addDropped_(dzNR, a, ...dropped));
      });
    }
  }

  /** `dA_i = dz_iᵀ drop_i(x)` and `dB_i = s g_iᵀ z_i`. */
  parameters(
    { x, g, z, dz }: { x: Tensor; g: Tensor; z: Tensor; dz: Tensor },
    gradients: ParameterGradients,
  ): void {
    const { a, b, starts, scaling, dropped } = this;
    if (b.some(({ requiresGrad }) => requiresGrad)) {
      lowRankGradients(g, z, b, starts, scaling).forEach((each, i) => {
        gradients.add(b[i]!, each);
      });
    }
    if (!a.some(({ requiresGrad }) => requiresGrad)) return;
    const given = this.converted(x);
    if (dropped === null) {
      gradients.addProduct(a, dz, given);
      return;
    }
    const ranks = a.map(({ shape }) => shape[0]!);
    droppedGradients(dz, given, ranks, ...dropped)
      .splitWithSizes(ranks)
      .forEach((each, i) => {
        gradients.add(a[i]!, each);
      });
  }

  private converted(x: Tensor): Tensor {
    return this.converts ? x.to(this.dtype) : x;
  }
}

/** What the operators that drop on the way are told. */
type Dropped = readonly [
  probability: number,
  records: Tensor,
  indices: Tensor,
  key: readonly [number, number],
  layers: readonly number[],
];

function droppedBy(members: readonly Member[]): Dropped | null {
  const drops = members.flatMap(({ drop }) => drop ?? []);
  const [first] = drops;
  if (first === undefined) return null;
  const { probability, places, key } = first;
  return [probability, places.records, places.indices, key, drops.map(({ layer }) => layer)];
}
