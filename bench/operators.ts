/**
 * `node dist/bench/operators.js [--device cuda] [--json]`: our own operators beside libtorch's that do the same work: milliseconds of a call,
 * and the bandwidth of memory that reading the input and writing the result once would be.
 */

import { parseArgs } from 'node:util';
import {
  _fusedRmsNorm,
  _fusedRmsNormBackward,
  adamw_,
  arange,
  cat,
  droppedGradients,
  droppedProduct,
  empty,
  full,
  grad,
  ones,
  randn,
  rotaryBackward,
  scope,
  synchronize,
  type Device,
  type Tensor,
} from '../src/torch/index.js';
import { dequantiseNf4, nf4Bytes, quantiseNf4 } from '../src/nn/index.js';
import { runBench } from './command.js';

const { values } = parseArgs({
  options: {
    device: { type: 'string', default: 'cpu' },
    json: { type: 'boolean', default: false },
  },
});
const device = values.device as Device;
const [rows, channels] = device === 'cpu' ? [1024, 1024] : [8192, 4096];
const CALLS = 20;

/** Milliseconds of one call, the best of three turns. */
function time(call: () => void): number {
  const turn = (): number => {
    synchronize(device);
    const start = performance.now();
    for (let i = 0; i < CALLS; i++) freed();
    synchronize(device);
    return (performance.now() - start) / CALLS;
  };
  // What a scope returns outlives it.
  const freed = (): void => {
    scope(() => {
      call();
    });
  };
  freed();
  return Math.min(turn(), turn(), turn());
}

interface Row {
  readonly name: string;
  readonly bytes: number;
  readonly own: number;
  readonly libtorch: number;
}

/** What a decoder block of Llama-3's proportions computes between its products, in bf16. */
function blockRows(): Row[] {
  const draw = (shape: number[]): Tensor => randn(shape, { device }).to('bfloat16');
  const [C, D, F] = [channels, 128, 3.5 * channels];
  const [H, G] = [C / D, C / D / 4];
  const [x, y, g, weight] = [
    draw([rows, C]),
    draw([rows, C]),
    draw([rows, C]),
    ones([C], { device }),
  ];
  const w = weight.to('bfloat16');
  const [, rstd] = _fusedRmsNorm(x, [C], w, 1e-5);
  const heads = draw([rows, H + 2 * G, D]);
  const [q, k, v] = heads.splitWithSizes([H, G, G], 1).map((each) => each.contiguous()) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const [cos, sin] = [draw([rows, 1, D]), draw([rows, 1, D])];
  const turned = (z: Tensor): Tensor => {
    const swapped = cat([z.narrow(2, D / 2, D / 2).neg(), z.narrow(2, 0, D / 2)], 2);
    return z.mul(cos).add(swapped.mul(sin));
  };
  const [gateUp, product] = [draw([rows, 2 * F]), draw([rows, F])];
  const [gate, up] = [gateUp.narrow(1, 0, F), gateUp.narrow(1, F, F)];
  return [
    {
      name: 'residual and RMSNorm',
      bytes: 4 * x.bytes,
      own: time(() => x.addRmsNorm_(y, w, 1e-5)),
      libtorch: time(() => _fusedRmsNorm(x.add(y), [C], w, 1e-5)),
    },
    {
      name: 'its backward',
      bytes: 4 * x.bytes,
      own: time(() => g.rmsNormBackward_(x, w, rstd, y)),
      libtorch: time(() => _fusedRmsNormBackward(g, x, [C], rstd, w, [true, false])[0]!.add(y)),
    },
    {
      name: 'rotary positions',
      bytes: 2 * (q.bytes + k.bytes),
      own: time(() => heads.rotary_(cos, sin, H + G)),
      libtorch: time(() => [turned(q), turned(k)]),
    },
    {
      name: 'their backward, in one buffer',
      bytes: 2 * heads.bytes,
      own: time(() => rotaryBackward(q, k, v, cos, sin)),
      libtorch: time(() => cat([turned(q), turned(k), v], 1)),
    },
    {
      name: 'SwiGLU',
      bytes: 3 * product.bytes,
      own: time(() => gateUp.swiglu()),
      libtorch: time(() => gate.silu().mul(up)),
    },
    {
      name: 'its backward, and the product again',
      bytes: 6 * product.bytes,
      own: time(() => {
        gateUp.swigluBackward_(product);
      }),
      libtorch: time(() => {
        const [sigmoid, act] = [gate.sigmoid(), gate.silu()];
        return [
          act.mul(up),
          product.mul(act),
          product.mul(up).mul(sigmoid.add(act.mul(sigmoid.neg().add(1)))),
        ];
      }),
    },
  ];
}

/** The low-rank pieces of LoRA r 16 with dropout on the same block: of queries, keys and values, and of gate and up. */
function lowRankRows(): Row[] {
  const draw = (shape: number[]): Tensor => randn(shape, { device }).to('bfloat16');
  const [C, F, R, p] = [channels, 3.5 * channels, 16, 0.05];
  const x = draw([rows, C]);
  const layers = [0, 1, 2];
  const a = layers.map(() => draw([R, C]));
  const dz = draw([rows, layers.length * R]);
  const parts = dz.splitWithSizes(
    layers.map(() => R),
    1,
  );
  const places = arange(0, rows, 1, { dtype: 'int64', device });
  const how = [p, places, places, KEY, layers] as const;
  const drop = (of: Tensor): Tensor =>
    of.mul(ones(of.shape, { device }).uniform_(0, 1).ge(p)).mul(1 / (1 - p));
  const [gateUp, product] = [draw([rows, 2 * F]), draw([rows, F])];
  const [zGate, zUp, dzDown] = [draw([rows, R]), draw([rows, R]), draw([rows, R])];
  const [bGate, bUp, aDown] = [draw([F, R]), draw([F, R]), draw([R, F])];
  const low = [zGate, zUp, bGate, bUp, 2, 2] as const;
  /** Adds to gate and up what is added on the way. */
  const added = (): Tensor =>
    gateUp.addLowRank_(zGate, [bGate], [0], [2]).addLowRank_(zUp, [bUp], [F], [2]);
  return [
    {
      name: 'low-rank products of a dropped input',
      bytes: x.bytes + dz.bytes,
      own: time(() => droppedProduct(x, a, ...how)),
      libtorch: time(() => a.map((each) => drop(x).matmul(each.transpose(0, 1)))),
    },
    {
      name: 'gradients of their matrices',
      bytes: x.bytes + dz.bytes,
      own: time(() => droppedGradients(dz, x, [R, R, R], ...how)),
      libtorch: time(() => parts.map((each) => each.transpose(0, 1).matmul(drop(x)))),
    },
    {
      name: 'their part of the gradient of the input',
      bytes: 2 * x.bytes + dz.bytes,
      own: time(() => x.addDropped_(dz, a, ...how)),
      libtorch: time(() => {
        parts.forEach((each, i) => x.add_(drop(each.matmul(a[i]!))));
      }),
    },
    {
      name: 'SwiGLU, adapters added (libtorch: before)',
      bytes: gateUp.bytes + product.bytes,
      own: time(() => gateUp.swigluLowRank(...low)),
      libtorch: time(() => added().swiglu()),
    },
    {
      name: 'its backward, adapters added (as above)',
      bytes: 2 * (gateUp.bytes + product.bytes),
      own: time(() => {
        gateUp.swigluLowRankBackward_(product, ...low, dzDown, aDown);
      }),
      libtorch: time(() => {
        product.projectBackwardAdd_(dzDown, [aDown]);
        added().swigluBackward_(product);
      }),
    },
  ];
}

/** Losses and the gradient of a chunk of logits. */
function headRow(): Row {
  const logits = randn([rows / 4, 32_064], { device }).to('bfloat16');
  const targets = arange(0, rows / 4, 1, { dtype: 'int64', device });
  const factor = ones([], { device });
  return {
    name: 'cross entropy and its gradient',
    bytes: 3 * logits.bytes,
    own: time(() => logits.crossEntropy_(targets, factor)),
    libtorch: time(() => {
      const leaf = logits.detach().requiresGrad_();
      const losses = leaf.to('float32').crossEntropyLoss(targets, null, 0);
      grad([losses], [leaf], [factor.expand(losses.shape)]);
    }),
  };
}

/** An update of what is kept in bf16, rounded at random; where libtorch's stands, the same to nearest. */
function adamwRow(): Row {
  const [weights, gradients, averages, squares] = Array.from({ length: 4 }, () => [
    randn([rows * channels], { device })
      .abs()
      .to('bfloat16'),
  ]) as [[Tensor], [Tensor], [Tensor], [Tensor]];
  const steps = [full([], 10, { device })];
  const settings = { lr: 1e-4, beta1: 0.9, beta2: 0.999, weightDecay: 0, eps: 1e-8 };
  const update = (keys: readonly number[]): number =>
    time(() =>
      adamw_(weights, gradients, averages, squares, weights, steps, { ...settings, keys }),
    );
  return {
    name: 'AdamW at random (libtorch: ours to nearest)',
    bytes: 7 * weights[0].bytes,
    own: update([...KEY, ...KEY, ...KEY]),
    libtorch: update([]),
  };
}

/** A weight made dense for a product, by libtorch with a table of the pairs of values that bytes stand for. */
function nf4Row(doubleQuantised: boolean): Row {
  const parts = quantiseNf4(randn([rows, channels], { device }), { doubleQuantised });
  const weight = empty([rows, channels], { dtype: 'bfloat16', device });
  const pairs = randn([256, 2], { device });
  const scales = randn([(rows * channels) / 64, 1], { device });
  return {
    name: `NF4 to bf16${doubleQuantised ? ', scales in 8 bits' : ''}`,
    bytes: nf4Bytes(weight.numel, { doubleQuantised }) + weight.bytes,
    own: time(() => dequantiseNf4(parts, weight)),
    libtorch: time(() => {
      const values = pairs.indexSelect(0, parts.packed.view([-1]).to('int32'));
      weight.copy_(values.view([-1, 64]).mul(scales).view(weight.shape));
    }),
  };
}

const KEY = [1, 2] as const;
function measured(): Row[] {
  return scope(() => {
    const places = arange(0, rows, 1, { dtype: 'int64', device });
    const dropouts = (['bfloat16', 'float32'] as const).map((dtype) => {
      const x = randn([rows, channels], { device }).to(dtype);
      return {
        name: `dropout of ${dtype}`,
        bytes: 2 * x.bytes,
        own: time(() => x.dropout(0.1, places, places, KEY, 0)),
        libtorch: time(() => {
          const kept = ones(x.shape, { device }).uniform_(0, 1).ge(0.1);
          x.mul(kept).mul(1 / 0.9);
        }),
      };
    });
    return [
      ...dropouts,
      adamwRow(),
      ...blockRows(),
      ...lowRankRows(),
      headRow(),
      nf4Row(false),
      nf4Row(true),
    ];
  });
}

await runBench(() => {
  const results = measured();
  if (values.json) {
    process.stdout.write(`${JSON.stringify({ device, rows, channels, results })}\n`);
  } else {
    process.stdout.write(`${rows} x ${channels} elements on ${device}\n`);
    for (const { name, bytes, own, libtorch } of results) {
      const cell = (ms: number): string =>
        `${ms.toFixed(3).padStart(10)} ms ${(bytes / ms / 1e6).toFixed(0).padStart(6)} GB/s`;
      process.stdout.write(`${name.padEnd(44)}${cell(own)}  libtorch ${cell(libtorch)}\n`);
    }
  }
});
