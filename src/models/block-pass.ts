/**
 * One way through a decoder block, forward or backward: each of its tensors is kept from before, or computed when it is first asked for.
 * The letters are those of trained-block.ts.
 */
import type {
  AddedPair,
  Attended,
  Drop,
  Fp8Rows,
  Gated,
  Projection,
  ProjectionRest,
  QueriesKeysValues,
} from '../nn/index.js';
import { type Tensor, tensorsIn, zeros } from '../torch/index.js';
import type { DecoderBlock } from './decoder.js';
import type { ByHandCall, TrainingInputs } from './segment.js';

/** A block, and its products. */
export interface BlockLayers {
  readonly block: DecoderBlock;
  readonly qkv: Projection;
  readonly out: Projection;
  readonly gateUp: Projection;
  readonly gated: Gated;
  readonly down: Projection;
}

/** Tensors between forward and backward: what a level keeps is there from the beginning, the rest once it was computed. */
export interface BlockTensors {
  n?: Tensor | undefined;
  /** 1 / rms of x, and of h */
  nScale?: Tensor | undefined;
  mScale?: Tensor | undefined;
  /** (N, (H + 2 G) D), turned by position */
  qkv?: Tensor | undefined;
  a?: Attended | undefined;
  h?: Tensor | undefined;
  m?: Tensor | undefined;
  /** gate and up side by side (N, 2 F) */
  gateUp?: Tensor | undefined;
  qkvRest?: ProjectionRest | undefined;
  outRest?: ProjectionRest | undefined;
  gateUpRest?: ProjectionRest | undefined;
  downRest?: ProjectionRest | undefined;
}

interface PassOptions {
  /** What stays after its use. */
  readonly keeps: ReadonlySet<keyof BlockTensors>;
  /** Whether layers without a backward by hand keep their graphs. */
  readonly records: boolean;
  /** What is there from before; what is freed of it is forgotten there too. @default nothing */
  readonly before?: BlockTensors;
}

export class BlockPass {
  readonly xNC: Tensor;
  readonly records: boolean;
  private readonly inputs: TrainingInputs;
  private readonly positions: Tensor | undefined;
  private readonly keeps: ReadonlySet<keyof BlockTensors>;
  private readonly before: BlockTensors;
  readonly kept: BlockTensors;
  /** n and m in fp8, from the norm until the product has read them. */
  private readonly rows: { n?: Fp8Rows | undefined; m?: Fp8Rows | undefined } = {};
  /** In the order in which the layers of decoder.ts take their masks. */
  readonly drops: Readonly<Record<'qkv' | 'out' | 'gateUp' | 'down', readonly Drop[]>>;

  constructor(
    private readonly layers: BlockLayers,
    { x, inputs, masks, wanted }: ByHandCall,
    { keeps, records, before = {} }: PassOptions,
  ) {
    this.inputs = inputs;
    this.positions = wanted;
    this.keeps = keeps;
    this.records = records;
    this.before = before;
    this.xNC = x.flatten(0, 1);
    this.kept = { ...before };
    const qkv = layers.qkv.drops(masks);
    if (wanted !== undefined) masks?.narrow(wanted);
    this.drops = {
      qkv,
      out: layers.out.drops(masks),
      gateUp: layers.gateUp.drops(masks),
      down: layers.down.drops(masks),
    };
  }

  n(): Tensor {
    return this.kept.n ?? this.norm('n', this.xNC, null);
  }

  /** Queries, keys and values by heads, in one buffer. */
  heads(): QueriesKeysValues {
    const { headDim: D, q, k } = this.layers.block.attention;
    const [H, G] = [q.outFeatures / D, k.outFeatures / D];
    if (this.kept.qkv === undefined) {
      const n = this.n();
      const options = { records: this.records, rows: this.rows.n };
      const { output, rest } = this.layers.qkv.forward(n, this.drops.qkv, options);
      this.done('n');
      this.freeRows('n');
      const { cos, sin } = this.inputs.rotation;
      output.view([-1, H + 2 * G, D]).rotary_(cos, sin, H + G);
      this.kept.qkv = output;
      this.kept.qkvRest = rest;
    }
    const all = this.kept.qkv.view([-1, H + 2 * G, D]);
    return all.splitWithSizes([H, G, G], 1) as [Tensor, Tensor, Tensor];
  }

  a(): Attended {
    if (this.kept.a === undefined) {
      this.kept.a = this.inputs.attention.forward(this.heads());
      this.done('qkv');
    }
    return this.kept.a;
  }

  h(): Tensor {
    if (this.kept.h === undefined) {
      const { records } = this;
      const a = this.wanted(this.a().output.flatten(1));
      const { output, rest } = this.layers.out.forward(a, this.drops.out, { records });
      this.done('a');
      this.norm('m', output, this.wanted(this.xNC));
      this.kept.h = output;
      this.kept.outRest = rest;
    }
    return this.kept.h;
  }

  m(): Tensor {
    const h = this.h();
    return this.kept.m ?? this.norm('m', h, null);
  }

  gateUp(): Tensor {
    if (this.kept.gateUp === undefined) {
      const { gateUp, gated } = this.layers;
      const m = this.m();
      const options = {
        records: this.records,
        leavesApart: gated.adds && gateUp.leavesApart,
        rows: this.rows.m,
      };
      const { output, rest } = gateUp.forward(m, this.drops.gateUp, options);
      this.done('m');
      this.freeRows('m');
      this.kept.gateUp = output;
      this.kept.gateUpRest = rest;
    }
    return this.kept.gateUp;
  }

  /** Adds `other` to x in place and normalises it; where a product in fp8 is to read that, it is quantised in the same pass. */
  private norm(name: 'n' | 'm', x: Tensor, other: Tensor | null): Tensor {
    const { kept, rows, layers } = this;
    const [{ weight, eps }, next, product] =
      name === 'n'
        ? ([layers.block.attentionNorm, layers.qkv, kept.qkv] as const)
        : ([layers.block.mlpNorm, layers.gateUp, kept.gateUp] as const);
    const quantises = next.readsFp8 && product === undefined;
    const [normal, scale, ...codes] = quantises
      ? x.addRmsNormFp8_(other, weight, eps)
      : x.addRmsNorm_(other, weight, eps);
    kept[name] = normal;
    kept[`${name}Scale`] = scale;
    rows[name] = codes.length === 2 ? codes : undefined;
    return normal;
  }

  private freeRows(name: 'n' | 'm'): void {
    for (const tensor of this.rows[name] ?? []) tensor.dispose();
    this.rows[name] = undefined;
  }

  /** What adapters still have to add to gate and up. */
  addedToGateUp(): AddedPair | null {
    const { gateUp, gated } = this.layers;
    return gated.adds ? gateUp.added(this.kept.gateUpRest!) : null;
  }

  /** Of all rows those that go on after attention. */
  wanted(rows: Tensor): Tensor {
    return this.positions === undefined ? rows : rows.indexSelect(0, this.positions);
  }

  /** The gradient of all rows, for that of those that went on. */
  spread(gradient: Tensor): Tensor {
    if (this.positions === undefined) return gradient;
    const { dtype, device } = gradient;
    const all = zeros([this.xNC.shape[0]!, gradient.shape[1]!], { dtype, device });
    return all.indexCopy_(0, this.positions, gradient);
  }

  /** 1 / rms of x, or of h. */
  scaleOf(norm: 'n' | 'm'): Tensor {
    const scale = `${norm}Scale` as const;
    if (this.kept[scale] === undefined) this[norm]();
    return this.kept[scale]!;
  }

  /** A tensor has been used: it goes unless it is to stay. */
  done(name: keyof BlockTensors): void {
    if (!this.keeps.has(name)) this.free(name);
  }

  free(...names: (keyof BlockTensors)[]): void {
    for (const name of names) {
      for (const tensor of tensorsIn(this.kept[name])) tensor.dispose();
      this.kept[name] = undefined;
      this.before[name] = undefined;
    }
  }

  /** What is to stay. */
  remains(): BlockTensors {
    const names = Object.keys(this.kept) as (keyof BlockTensors)[];
    this.free(...names.filter((name) => !this.keeps.has(name)));
    return this.kept;
  }
}
