/**
 * A ghost run plans a real one only if meta tensors record the very graph that the device records: the same autograd nodes, and
 * saved tensors of the same dtypes and shapes. Compared with the CPU, and with the GPU where there is one.
 */

import { describe, expect, test } from 'vitest';
import {
  _flashAttentionForward,
  _fusedRmsNorm,
  _scaledDotProductCudnnAttention,
  _scaledDotProductEfficientAttention,
  _scaledDotProductFlashAttentionForCpu,
  convolution,
  cudaAvailable,
  embedding,
  grad,
  graph,
  isFloating,
  nativeLayerNorm,
  scope,
  tensor,
  tensorsIn,
  type Device,
  type DType,
  type Tensor,
} from './index.js';
import {
  CUDA_ONLY,
  maker,
  NO_DERIVATIVE,
  NOT_ON,
  SAMPLES,
  type Maker,
  type Sample,
} from './testing.js';

const show = (t: Tensor | null): string =>
  t === null ? 'none' : `${t.dtype}[${t.shape.join(', ')}]`;

/** The graph and the gradients of a sample, whose floating inputs are leaves. */
function recorded(sample: Sample, device: Device): unknown {
  return scope(() => {
    const leaves: Tensor[] = [];
    const plain = maker(device);
    const make = Object.assign(
      (shape: readonly number[], dtype: DType = 'float32', below?: number): Tensor => {
        const made = plain(shape, dtype, below);
        if (!isFloating(dtype) || dtype.startsWith('float8')) return made;
        leaves.push(made.requiresGrad_());
        return made;
      },
      { device },
    ) satisfies Maker;
    const outputs = [...tensorsIn(sample(make))].filter((output) => output.requiresGrad);
    if (outputs.length === 0) return null;
    const nodes = outputs.map((output) =>
      graph(output).map(({ name, saved }) => ({
        name,
        saved: saved.map(({ dtype = 'other', shape }) => `${dtype}[${shape.join(', ')}]`),
      })),
    );
    // One output at a time: an operator may give a gradient for some of them only.
    const gradients = outputs
      .slice(0, 1)
      .map((output) => grad([output], leaves, [output.detach().fullLike(1)]).map(show));
    return { outputs: outputs.map(show), nodes, gradients };
  });
}

const heads = (
  make: Maker,
  [B, H, T, D]: readonly [number, number, number, number],
  dtype: DType,
): Tensor => make([B, T, H, D], dtype).transpose(1, 2);

/** Queries (2, 4, T, D), keys and values (2, `groups`, S, D). */
const qkv = (make: Maker, dtype: DType, T = 24, S = T, groups = 4): [Tensor, Tensor, Tensor] => [
  heads(make, [2, 4, T, 32], dtype),
  heads(make, [2, groups, S, 32], dtype),
  heads(make, [2, groups, S, 32], dtype),
];

const packed = (make: Maker, groups = 4): [Tensor, Tensor, Tensor, Tensor, Tensor] => {
  const starts = tensor([0, 5, 12, 32], { dtype: 'int32', device: make.device });
  return [
    make([32, 4, 64], 'bfloat16'),
    make([32, groups, 64], 'bfloat16'),
    make([32, groups, 64], 'bfloat16'),
    starts,
    starts,
  ];
};

const conv = (make: Maker, bias: boolean, stride: number[], padding: number[]): Tensor =>
  convolution(
    make([2, 3, 9, 7]),
    make([4, 3, 3, 2]),
    bias ? make([4]) : null,
    stride,
    padding,
    [1, 1],
    false,
    [0, 0],
    1,
  );

/** What is called by name, in odd shapes and with every kind of option. */
const KERNELS: Readonly<Record<string, Sample>> = {
  'rms norm': (make) => _fusedRmsNorm(make([2, 5, 7]), [7], make([7]), 1e-6)[0],
  'rms norm without weight': (make) => _fusedRmsNorm(make([2, 7]), [7], null, 1e-6)[0],
  'rms norm in bf16': (make) =>
    _fusedRmsNorm(make([3, 64], 'bfloat16'), [64], make([64], 'bfloat16'), 1e-6)[0],
  'layer norm': (make) => nativeLayerNorm(make([2, 5, 7]), [7], make([7]), make([7]), 1e-5)[0],
  'layer norm over two dimensions': (make) =>
    nativeLayerNorm(make([2, 5, 7]), [5, 7], make([5, 7]), null, 1e-5)[0],
  'layer norm without weight': (make) => nativeLayerNorm(make([5, 7]), [7], null, null, 1e-5)[0],
  'convolution with bias': (make) => conv(make, true, [2, 1], [1, 0]),
  'convolution without bias': (make) => conv(make, false, [3, 2], [0, 0]),
  embedding: (make) => embedding(make([9, 5]), make([2, 3], 'int64', 9)),
  'bilinear interpolation, channels last': (make) =>
    make([1, 9, 7, 3]).permute([0, 3, 1, 2]).upsampleBilinear2d([6, 5], false),
  'index select': (make) => make([5, 3]).indexSelect(0, make([4], 'int64', 5)),
};

const CPU_KERNELS: Readonly<Record<string, Sample>> = {
  'attention, causal': (make) =>
    _scaledDotProductFlashAttentionForCpu(...qkv(make, 'float32'), 0, true)[0],
  'attention with a mask': (make) => {
    const mask = tensor(new Float32Array(24 * 17), { device: make.device }).view([24, 17]);
    return _scaledDotProductFlashAttentionForCpu(...qkv(make, 'float32', 24, 17), 0, false, {
      attnMask: mask,
      scale: 0.5,
    })[0];
  },
  'attention, grouped heads, bf16': (make) =>
    _scaledDotProductFlashAttentionForCpu(...qkv(make, 'bfloat16', 24, 24, 2), 0, true)[0],
};

const CUDA_KERNELS: Readonly<Record<string, Sample>> = {
  'cudnn attention, causal': (make) =>
    _scaledDotProductCudnnAttention(...qkv(make, 'bfloat16'), null, true, 0, true)[0],
  'cudnn attention, grouped heads': (make) =>
    _scaledDotProductCudnnAttention(
      ...qkv(make, 'bfloat16', 24, 24, 2),
      null,
      true,
      0,
      true,
      false,
      {
        scale: 0.5,
      },
    )[0],
  'efficient attention, fp32': (make) =>
    _scaledDotProductEfficientAttention(...qkv(make, 'float32'), null, true, 0, true)[0],
  'efficient attention with a bias': (make) =>
    _scaledDotProductEfficientAttention(
      ...qkv(make, 'float32'),
      make([2, 4, 24, 24]),
      true,
      0,
      false,
    )[0],
  'flash attention over packed sequences': (make) =>
    _flashAttentionForward(...packed(make, 2), 20, 20, 0, true, false)[0],
  'flash attention over rows': (make) => {
    const one = (): Tensor => make([2, 24, 4, 64], 'bfloat16');
    return _flashAttentionForward(one(), one(), one(), null, null, 24, 24, 0, true, false)[0];
  },
};

/** Without those in place, which cannot write to leaves. */
const differentiable = Object.entries(SAMPLES).filter(
  ([name]) => !name.endsWith('_') && !NO_DERIVATIVE.has(name),
);

const CASES: readonly (readonly [Device, readonly (readonly [string, Sample])[]])[] = [
  [
    'cpu',
    [
      ...Object.entries(KERNELS),
      ...Object.entries(CPU_KERNELS),
      ...differentiable.filter(([name]) => !CUDA_ONLY.has(name)),
    ],
  ],
  [
    'cuda:0',
    [
      ...Object.entries(KERNELS),
      ...Object.entries(CUDA_KERNELS),
      ...differentiable.filter(([name]) => !NOT_ON['cuda:0']!.has(name) && !NOT_ON.meta!.has(name)),
    ],
  ],
];

describe.each(CASES.filter(([device]) => device === 'cpu' || cudaAvailable()))(
  'meta records what %s records',
  (device, samples) => {
    test.each(samples)('%s', (_, sample) => {
      expect(recorded(sample, 'meta')).toEqual(recorded(sample, device));
    });
  },
);

test.each(Object.entries(CUDA_KERNELS))('%s records on meta', (_, sample) => {
  const { gradients } = recorded(sample, 'meta') as { gradients: string[][] };
  expect(gradients[0]!.every((gradient) => gradient !== 'none')).toBe(true);
});
