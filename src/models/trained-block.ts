/**
 * A decoder block while it trains: what decoder.ts computes, with a backward written by hand over fused operators, so that what is kept
 * for it stands in one place, and buffers are overwritten as soon as nobody reads them any more.
 *
 * ```
 * n = norm(x)    q, k, v = rotate(n Wqkvᵀ)    a = attention(q, k, v)    h = x + a Woᵀ
 * m = norm(h)    gate, up = m Wguᵀ            p = act(gate) ⊙ up        y = h + p Wdᵀ
 * ```
 *
 * B: rows, T: positions, N = B · T, C: hidden size, H: query heads, G: key and value heads, D: head size, F: intermediate size.
 */
import { type Gated, gated, ParameterGradients, Projection, type RMSNorm } from '../nn/index.js';
import {
  _fusedRmsNormBackward,
  dtypeBytes,
  rotaryBackward,
  scope,
  type Tensor,
} from '../torch/index.js';
import { type BlockLayers, BlockPass, type BlockTensors } from './block-pass.js';
import type { DecoderBlock } from './decoder.js';
import type { BackwardCall, ByHand, ForwardCall, Level, SegmentGradient } from './segment.js';

const ATTENTION = ['a', 'outRest', 'h', 'downRest'] as const;
const PRODUCTS = [
  ...ATTENTION,
  'nScale',
  'qkv',
  'qkvRest',
  'mScale',
  'gateUp',
  'gateUpRest',
] as const;

/** What each level keeps beside x. The product p is never kept: the backward of the activation gives it again. */
const KEEPS: Readonly<Record<Level, ReadonlySet<keyof BlockTensors>>> = {
  keep: new Set([...PRODUCTS, 'n', 'm']),
  products: new Set(PRODUCTS),
  // What is left of products that are computed again comes with them.
  attention: new Set(ATTENTION),
  recompute: new Set(),
};

export class TrainedBlock implements BlockLayers, ByHand {
  readonly qkv: Projection;
  readonly out: Projection;
  readonly gateUp: Projection;
  readonly down: Projection;
  readonly gated: Gated;

  constructor(readonly block: DecoderBlock) {
    const { attention, mlp } = block;
    this.qkv = new Projection([attention.q, attention.k, attention.v]);
    this.out = new Projection([attention.out]);
    this.gateUp = new Projection([mlp.gate, mlp.up]);
    this.down = new Projection([mlp.down]);
    this.gated = gated(mlp.act);
  }

  laySideBySide(): void {
    for (const projection of [this.qkv, this.gateUp]) projection.laySideBySide();
  }

  keptBytes(level: Level): number {
    const { attention, attentionNorm, mlp } = this.block;
    const { q, k, headDim, out } = attention;
    const C = attentionNorm.size;
    const one = dtypeBytes(q.base.dtype);
    const statistic = q.base.dtype === 'float64' ? 8 : 4;
    const bytes: Record<keyof BlockTensors, number> = {
      n: C * one,
      m: C * one,
      h: C * one,
      nScale: statistic,
      mScale: statistic,
      qkv: (q.outFeatures + 2 * k.outFeatures) * one,
      a: out.inFeatures * one + (q.outFeatures / headDim) * statistic,
      gateUp: 2 * mlp.up.outFeatures * one,
      qkvRest: this.qkv.lowRankBytes,
      outRest: this.out.lowRankBytes,
      gateUpRest: this.gateUp.lowRankBytes,
      downRest: this.down.lowRankBytes,
    };
    return [...this.keeps(level)].reduce((sum, name) => sum + bytes[name], 0);
  }

  /** Norms alone are for the gradients of the parameters after them. */
  private keeps(level: Level): ReadonlySet<keyof BlockTensors> {
    const names = new Set(KEEPS[level]);
    if (!this.qkv.trains) names.delete('n');
    if (!this.gateUp.trains) names.delete('m');
    return names;
  }

  forward(call: ForwardCall): { output: Tensor; kept: BlockTensors } {
    const { x, level, wanted } = call;
    return scope(() => {
      const keeps = this.keeps(level);
      const pass = new BlockPass(this, call, { keeps, records: level === 'keep' });
      const [gateUp, added] = [pass.gateUp(), pass.addedToGateUp()];
      const [p, rows] = this.down.readsFp8
        ? this.gated.forwardFp8(gateUp, added)
        : [this.gated.forward(gateUp, added)];
      pass.done('gateUp');
      const hNC = pass.h();
      const sumNC = keeps.has('h') ? hNC.clone() : hNC;
      const { output, rest } = this.down.forward(p, pass.drops.down, {
        ...{ target: sumNC, rows, records: pass.records },
      });
      pass.kept.downRest = rest;
      const shaped = wanted === undefined ? output.view(x.shape) : output.unsqueeze(0);
      return { output: shaped, kept: pass.remains() };
    });
  }

  backward(call: BackwardCall): SegmentGradient {
    const { x, upstream, inputs, wantsInput, places } = call;
    const before: BlockTensors = call.kept;
    const { attentionNorm, mlpNorm } = this.block;
    // From the bottom up: which gradients anyone asks for.
    const wantsN = wantsInput || attentionNorm.weight.requiresGrad;
    const wantsA = wantsN || this.qkv.trains;
    const wantsH = wantsA || this.out.trains;
    const wantsM = wantsH || mlpNorm.weight.requiresGrad;
    const own = new ParameterGradients(places);
    return scope(() => {
      // Norms that were not kept are computed where they are read: they are cheap, and memory is highest here.
      const pass = new BlockPass(this, call, {
        keeps: before.n === undefined ? KEEPS.products : KEEPS.keep,
        records: true,
        before,
      });
      const { drops } = pass;
      const gyNC = upstream.flatten(0, 1);

      // y = h + p Wdᵀ, p = act(gate) ⊙ up
      const gateUp = pass.gateUp();
      const down = this.down.backward(gyNC, drops.down, pass.kept.downRest);
      const added = pass.addedToGateUp();
      const apart = added && down.apart;
      const p = down.input(() => this.gated.forward(gateUp, added), apart !== null);
      this.gated.backward_(gateUp, p, added, apart); // gate and up have become their gradients, the gradient of p is p
      if (this.down.trains) down.parameters(p, own);
      p.dispose();

      // gate, up = m Wguᵀ
      const widened = this.gateUp.backward(gateUp, drops.gateUp, pass.kept.gateUpRest);
      const gm = wantsM ? widened.input(() => pass.m()) : null;
      if (this.gateUp.trains) widened.parameters(pass.m(), own);
      pass.free('gateUp', 'm');
      if (gm === null) return { input: null, parameters: own.apart };

      // m = norm(h)
      const hNC = pass.h();
      const mScale = pass.scaleOf('m');
      if (mlpNorm.weight.requiresGrad) own.add(mlpNorm.weight, weightOf(mlpNorm, gm, hNC, mScale));
      if (!wantsH) return { input: null, parameters: own.apart };
      const gh = gm.rmsNormBackward_(hNC, mlpNorm.weight, mScale, gyNC);
      pass.free('h');

      // h = x + a Woᵀ
      const { output: aNHD } = pass.a();
      const a = (): Tensor => pass.wanted(aNHD.flatten(1));
      const out = this.out.backward(gh, drops.out, pass.kept.outRest);
      const gOut = wantsA ? out.input(a) : null;
      if (this.out.trains) out.parameters(a(), own);
      if (gOut === null) return { input: null, parameters: own.apart };

      // a = attention(q, k, v): rows that nobody wanted have a gradient as keys and values alone
      const ga = pass.spread(gOut);
      const turned = inputs.attention.backward(ga.view(aNHD.shape), pass.heads(), pass.a());
      ga.dispose();
      pass.free('qkv', 'a');

      // q, k, v = rotate(n Wqkvᵀ)
      const { cos, sin } = inputs.rotation;
      const gqkv = rotaryBackward(...turned, cos, sin).flatten(1);
      for (const each of turned) each.dispose();
      const projected = this.qkv.backward(gqkv, drops.qkv, pass.kept.qkvRest);
      const gn = wantsN ? projected.input(() => pass.n()) : null;
      if (this.qkv.trains) projected.parameters(pass.n(), own);
      if (gn === null) return { input: null, parameters: own.apart };

      // n = norm(x)
      const { xNC } = pass;
      const nScale = pass.scaleOf('n');
      if (attentionNorm.weight.requiresGrad) {
        own.add(attentionNorm.weight, weightOf(attentionNorm, gn, xNC, nScale));
      }
      const gx = gn.rmsNormBackward_(xNC, attentionNorm.weight, nScale, pass.spread(gh));
      return { input: wantsInput ? gx.view(x.shape) : null, parameters: own.apart };
    });
  }
}

/** The gradient of a norm's weight. */
function weightOf({ size, weight }: RMSNorm, g: Tensor, x: Tensor, scale: Tensor): Tensor {
  return _fusedRmsNormBackward(g, x, [size], scale, weight, [false, true])[1]!;
}
