/** For tests: a call of every operator of the table, on inputs that a device provides. */

import * as torch from './index.js';
import type { Device, DType, Tensor } from './index.js';

/** Makes inputs on the device under test. */
export interface Maker {
  readonly device: Device;
  /** 0.1, 0.2, ... in the shape and dtype; integers from 0, below `below`, for integral dtypes. */
  (shape: readonly number[], dtype?: DType, below?: number): Tensor;
}

export type Sample = (make: Maker) => unknown;

export function maker(device: Device): Maker {
  const make = (shape: readonly number[], dtype: DType = 'float32', below = 2): Tensor => {
    const count = shape.reduce((product, size) => product * size, 1);
    const values = Array.from({ length: count }, (_, i) =>
      torch.isFloating(dtype) ? ((i % 20) + 1) / 10 : i % below,
    );
    const flat = torch.tensor(values, { dtype: 'float64' });
    return flat.to(dtype).view(shape).to(device);
  };
  return Object.assign(make, { device });
}

const unary =
  (name: keyof Tensor & string): Sample =>
  (make) =>
    (make([2, 3])[name] as () => Tensor)();

/** With a tensor and with a number. */
const binary =
  (name: keyof Tensor & string, dtype: DType = 'float32'): Sample =>
  (make) => {
    const call = (other: Tensor | number): Tensor => {
      const self = make([2, 3], dtype);
      return (self[name] as (this: Tensor, other: Tensor | number) => Tensor).call(self, other);
    };
    return [call(make([3], dtype)), call(2)];
  };

const index = (make: Maker): Tensor => make([2], 'int64');

/** bf16 queries, keys and values (B, H, T, D), lying in memory as (B, T, H, D). */
const qkv = (make: Maker, dtype: DType = 'bfloat16'): [Tensor, Tensor, Tensor] => {
  const one = (): Tensor => make([2, 16, 4, 64], dtype).transpose(1, 2);
  return [one(), one(), one()];
};

/** Two sequences of 12 and 20 packed tokens, 4 heads of 64: (tokens, H, D). */
const packed = (make: Maker): [Tensor, Tensor, Tensor, Tensor] => {
  const one = (): Tensor => make([32, 4, 64], 'bfloat16');
  return [one(), one(), one(), torch.tensor([0, 12, 32], { dtype: 'int32', device: make.device })];
};

export const SAMPLES: Readonly<Record<string, Sample>> = {
  ...Object.fromEntries(
    (['add', 'sub', 'mul', 'div', 'remainder', 'pow'] as const).map((name) => [name, binary(name)]),
  ),
  ...Object.fromEntries(
    (['add_', 'sub_', 'mul_', 'div_'] as const).map((name) => [name, binary(name)]),
  ),
  ...Object.fromEntries(
    (['eq', 'ne', 'lt', 'le', 'gt', 'ge'] as const).map((name) => [name, binary(name)]),
  ),
  ...Object.fromEntries(
    (['bitwiseAnd', 'bitwiseOr', 'bitwiseXor'] as const).map((name) => [
      name,
      binary(name, 'int32'),
    ]),
  ),
  ...Object.fromEntries(
    (
      [
        'neg',
        'abs',
        'sign',
        'exp',
        'expm1',
        'log',
        'log1p',
        'log2',
        'sqrt',
        'sqrt_',
        'rsqrt',
        'reciprocal',
        'square',
        'sin',
        'cos',
        'tanh',
        'sigmoid',
        'erf',
        'relu',
        'silu',
        'gelu',
        'floor',
        'ceil',
        'round',
        'trunc',
        'isfinite',
        'isnan',
        'isinf',
        'logicalNot',
        'max',
        'min',
        'argmax',
        'argmin',
        'all',
        'any',
        'prod',
        't',
        'contiguous',
        'flatten',
        'emptyLike',
        'zerosLike',
        'onesLike',
        'clone',
        'detach',
        'zero_',
        'sort',
        'argsort',
        'tril',
        'triu',
        'unbind',
        'normal_',
        'uniform_',
        'bernoulli_',
      ] as const
    ).map((name) => [name, unary(name)]),
  ),
  rsub: (make) => make([2]).rsub(1),
  divRounded: (make) => [
    make([2]).divRounded(make([2]), { roundingMode: 'floor' }),
    make([2]).divRounded(2, { roundingMode: 'trunc' }),
  ],
  siluBackward: (make) => torch.siluBackward(make([2]), make([2])),
  geluBackward: (make) => torch.geluBackward(make([2]), make([2]), { approximate: 'tanh' }),
  clamp: (make) => make([2, 3]).clamp(0, 1),
  clamp_: (make) => make([2, 3]).clamp_(0, 1),
  maximum: (make) => make([2, 3]).maximum(make([3])),
  minimum: (make) => make([2, 3]).minimum(make([3])),
  lerp: (make) => [make([2]).lerp(make([2]), make([2])), make([2]).lerp(make([2]), 0.5)],
  lerp_: (make) => [make([2]).lerp_(make([2]), make([2])), make([2]).lerp_(make([2]), 0.5)],
  addcmul: (make) => make([2]).addcmul(make([2]), make([2]), { value: 0.5 }),
  addcmul_: (make) => make([2]).addcmul_(make([2]), make([2])),
  addcdiv_: (make) => make([2]).addcdiv_(make([2]), make([2])),
  nanToNum: (make) => make([2]).nanToNum(0),
  logicalAnd: (make) => make([2], 'bool').logicalAnd(make([2], 'bool')),
  logicalOr: (make) => make([2], 'bool').logicalOr(make([2], 'bool')),
  bitwiseLeftShift: (make) => make([2], 'int32').bitwiseLeftShift(1),
  bitwiseRightShift: (make) => make([2], 'int32').bitwiseRightShift(1),
  where: (make) => torch.where(make([2], 'bool'), make([3, 2]), make([2])),
  maskedFill: (make) => make([3, 2]).maskedFill(make([2], 'bool'), -Infinity),
  sum: (make) => [make([2, 3]).sum([1], true), make([2, 3], 'int32').sum(null)],
  mean: (make) => make([2, 3]).mean([0]),
  amax: (make) => make([2, 3]).amax([1]),
  amin: (make) => make([2, 3]).amin([]),
  maxDim: (make) => make([2, 3]).maxDim(1),
  cumsum: (make) => make([2, 3]).cumsum(1, { dtype: 'float64' }),
  var: (make) => make([2, 3]).var([1], { correction: 1 }),
  logsumexp: (make) => make([2, 3]).logsumexp([1]),
  softmax: (make) => make([2, 3]).softmax(-1),
  logSoftmax: (make) => make([2, 3]).logSoftmax(-1, 'float64'),
  linalgVectorNorm: (make) => make([2, 3]).linalgVectorNorm(2, null, false, { dtype: 'float64' }),
  topk: (make) => make([2, 3]).topk(2),
  sortStable: (make) => make([2, 3]).sortStable({ stable: true, dim: 0 }),
  matmul: (make) => make([2, 3, 4]).matmul(make([4, 5])),
  mm: (make) => make([2, 3]).mm(make([3, 4])),
  bmm: (make) => make([2, 3, 4]).bmm(make([2, 4, 5])),
  addmm: (make) => make([4]).addmm(make([2, 3]), make([3, 4]), { beta: 0.5 }),
  addmm_: (make) => make([2, 4]).addmm_(make([2, 3]), make([3, 4])),
  outer: (make) => make([2]).outer(make([3])),
  linear: (make) => torch.linear(make([2, 3]), make([4, 3]), make([4])),
  _scaledMm: (make) =>
    make([32, 64], 'float8_e4m3fn')._scaledMm(
      make([32, 64], 'float8_e4m3fn').t(),
      make([]),
      make([]),
      null,
      null,
      'bfloat16',
    ),
  view: (make) => make([2, 3]).view([3, -1]),
  viewAs: (make) => make([2, 4]).viewAs('uint8'),
  reshape: (make) => make([2, 3]).t().reshape([6]),
  transpose: (make) => make([2, 3, 4]).transpose(0, -1),
  permute: (make) => make([2, 3, 4]).permute([2, 0, 1]),
  expand: (make) => make([2, 1]).expand([2, 3]),
  unsqueeze: (make) => make([2]).unsqueeze(0),
  squeeze: (make) => make([2, 1]).squeeze(1),
  asStrided: (make) => make([6]).asStrided([2, 2], [2, 1], 1),
  cat: (make) => torch.cat([make([2, 3]), make([1, 3])]),
  stack: (make) => torch.stack([make([2]), make([2])], 1),
  split: (make) => make([5]).split(2),
  splitWithSizes: (make) => make([5]).splitWithSizes([1, 4]),
  chunk: (make) => make([5]).chunk(2),
  narrow: (make) => make([5]).narrow(0, 1, 3),
  slice: (make) => make([5]).slice(0, 1, null, 2),
  select: (make) => make([5, 2]).select(0, -1),
  repeat: (make) => make([2]).repeat([3, 2]),
  repeatInterleave: (make) => make([2, 3]).repeatInterleave(2, 1),
  flip: (make) => make([2, 3]).flip([0]),
  roll: (make) => make([2, 3]).roll([1], [0]),
  indexSelect: (make) => make([3, 4]).indexSelect(0, index(make)),
  indexCopy: (make) => make([3, 4]).indexCopy(0, index(make), make([2, 4])),
  indexCopy_: (make) => make([3, 4]).indexCopy_(0, index(make), make([2, 4])),
  indexAdd: (make) => make([3, 4]).indexAdd(0, index(make), make([2, 4]), { alpha: 2 }),
  indexAdd_: (make) => make([3, 4]).indexAdd_(0, index(make), make([2, 4])),
  index: (make) => make([3, 4]).index([null, index(make)]),
  indexPut_: (make) => make([3, 4]).indexPut_([index(make), null], make([2, 4]), true),
  gather: (make) => make([3, 4]).gather(0, make([2, 4], 'int64')),
  scatter: (make) => [
    make([3, 4]).scatter(0, make([2, 4], 'int64'), make([2, 4])),
    make([3, 4]).scatter(0, make([2, 4], 'int64'), 7),
  ],
  scatter_: (make) => [
    make([3, 4]).scatter_(0, make([2, 4], 'int64'), make([2, 4])),
    make([3, 4]).scatter_(0, make([2, 4], 'int64'), 7),
  ],
  scatterAdd_: (make) => make([3, 4]).scatterAdd_(0, make([2, 4], 'int64'), make([2, 4])),
  embedding: (make) => torch.embedding(make([5, 4]), make([2, 3], 'int64')),
  embeddingDenseBackward: (make) =>
    torch.embeddingDenseBackward(make([2, 3, 4]), make([2, 3], 'int64'), 5, -1, false),
  layerNorm: (make) => torch.layerNorm(make([2, 3, 4]), [4], make([4]), make([4])),
  nativeLayerNorm: (make) => torch.nativeLayerNorm(make([2, 3, 4]), [4], make([4]), null, 1e-5),
  _fusedRmsNorm: (make) => torch._fusedRmsNorm(make([2, 3, 4]), [4], make([4]), null),
  _fusedRmsNormBackward: (make) =>
    torch._fusedRmsNormBackward(make([2, 4]), make([2, 4]), [4], make([2, 1]), make([4]), [
      true,
      false,
    ]),
  convolution: (make) =>
    torch.convolution(
      make([2, 3, 8, 8]),
      make([4, 3, 2, 2]),
      make([4]),
      [2, 2],
      [1, 1],
      [1, 1],
      false,
      [0, 0],
      1,
    ),
  crossEntropyLoss: (make) => [
    make([3, 4]).crossEntropyLoss(make([3], 'int64')),
    make([3, 4]).crossEntropyLoss(make([3], 'int64'), null, 0),
  ],
  nllLoss: (make) => make([3, 4]).nllLoss(make([3], 'int64'), null, 2),
  _scaledDotProductFlashAttentionForCpu: (make) =>
    torch._scaledDotProductFlashAttentionForCpu(...qkv(make, 'float32'), 0, true),
  _scaledDotProductCudnnAttention: (make) =>
    torch._scaledDotProductCudnnAttention(...qkv(make), null, true, 0, true),
  _scaledDotProductFlashAttention: (make) =>
    torch._scaledDotProductFlashAttention(...qkv(make), 0, true),
  _scaledDotProductEfficientAttention: (make) =>
    torch._scaledDotProductEfficientAttention(...qkv(make, 'float32'), null, true, 0, true),
  _flashAttentionForward: (make) => {
    const [q, k, v, starts] = packed(make);
    return torch._flashAttentionForward(q, k, v, starts, starts, 20, 20, 0, true, false);
  },
  _flashAttentionBackward: (make) => {
    const [q, k, v, starts] = packed(make);
    const [out, lse, rng, unused] = torch._flashAttentionForward(
      q,
      k,
      v,
      starts,
      starts,
      20,
      20,
      0,
      true,
      false,
    );
    return torch._flashAttentionBackward(
      torch.ones(out!.shape, { dtype: 'bfloat16', device: make.device }),
      q,
      k,
      v,
      out!,
      lse!,
      starts,
      starts,
      20,
      20,
      0,
      true,
      rng!,
      unused!,
    );
  },
  _cudnnAttentionForward: (make) => {
    const [q, k, v, starts] = packed(make);
    return torch._cudnnAttentionForward(
      q,
      k,
      v,
      null,
      starts,
      starts,
      20,
      20,
      true,
      0,
      true,
      false,
    );
  },
  empty: ({ device }) => torch.empty([2, 3], { dtype: 'int8', device, memoryFormat: 'contiguous' }),
  emptyStrided: ({ device }) => torch.emptyStrided([2, 3], [1, 2], { device, layout: 'strided' }),
  zeros: ({ device }) => torch.zeros([2], { device }),
  ones: ({ device }) => torch.ones([2], { device, dtype: 'bool' }),
  full: ({ device }) => [torch.full([2], 1.5, { device }), torch.full([2], 3, { device })],
  eye: ({ device }) => torch.eye(3, { device }),
  arange: ({ device }) => [torch.arange(0, 5, 2, { device }), torch.arange(0, 1, 0.25, { device })],
  linspace: ({ device }) => torch.linspace(0, 1, 5, { device }),
  randn: ({ device }) => torch.randn([2], { device }),
  rand: ({ device }) => torch.rand([2], { device, dtype: 'float64' }),
  randint: ({ device }) => torch.randint(0, 9, [2], { device }),
  randperm: ({ device }) => torch.randperm(4, { device }),
  fullLike: (make) => make([2]).fullLike(7),
  copy_: (make) => make([2]).copy_(make([2], 'int32')),
  overwrite: (make) => make([2, 3]).overwrite(make([3])),
  fill_: (make) => make([2]).fill_(7),
  _toCopy: (make) => make([2])._toCopy({ dtype: 'float16' }),
  pinMemory: () => torch.ones([2]).pinMemory(),
  random_: (make) => make([2], 'int64').random_(0, 5),
  multinomial: (make) => make([4]).multinomial(2),
  _foreachAdd_: (make) => {
    const list = [make([2]), make([3])];
    torch._foreachAdd_(list, [make([2]), make([3])], { alpha: 2 });
    torch._foreachAdd_(list, 1);
    return list;
  },
  _foreachAddScalars_: (make) => {
    const list = [make([2]), make([3])];
    torch._foreachAddScalars_(list, [1, 2.5]);
    return list;
  },
  _foreachMul_: (make) => {
    const list = [make([2]), make([3])];
    torch._foreachMul_(list, make([]));
    torch._foreachMul_(list, 2);
    return list;
  },
  _foreachMulScalars_: (make) => {
    const list = [make([2]), make([3])];
    torch._foreachMulScalars_(list, [1, 2.5]);
    return list;
  },
  _foreachZero_: (make) => {
    const list = [make([2]), make([3])];
    torch._foreachZero_(list);
    return list;
  },
  _foreachCopy_: (make) => {
    const list = [make([2]), make([3])];
    torch._foreachCopy_(list, [make([2], 'float64'), make([3], 'float64')]);
    return list;
  },
  _foreachNorm: (make) => torch._foreachNorm([make([2]), make([3])], 2, 'float64'),
  _fusedAdamw_: (make) => {
    const list = (): Tensor[] => [make([2]), make([3])];
    const steps = [make([]), make([])];
    const options = {
      beta1: 0.9,
      beta2: 0.99,
      weightDecay: 0.1,
      eps: 1e-8,
      amsgrad: false,
      maximize: false,
    };
    const parameters = list();
    torch._fusedAdamw_(parameters, list(), list(), list(), [], steps, { ...options, lr: 0.1 });
    torch._fusedAdamw_(parameters, list(), list(), list(), [], steps, {
      ...options,
      lr: make([]),
      foundInf: make([]),
    });
    return parameters;
  },
  _ampForeachNonFiniteCheckAndUnscale_: (make) => {
    const list = [make([2]), make([3])];
    torch._ampForeachNonFiniteCheckAndUnscale_(list, make([1]), make([1]));
    return list;
  },
  _ampUpdateScale_: (make) =>
    make([1])._ampUpdateScale_(make([1], 'int32'), make([1]), 2, 0.5, 2000),
};

/** Operators whose kernels exist for CUDA alone. */
export const CUDA_ONLY = new Set([
  '_scaledDotProductCudnnAttention',
  '_scaledDotProductFlashAttention',
  '_scaledDotProductEfficientAttention',
  '_flashAttentionForward',
  '_flashAttentionBackward',
  '_cudnnAttentionForward',
  'pinMemory',
]);
/** Operators that have no meaning there. */
export const NOT_ON: Readonly<Partial<Record<Device, ReadonlySet<string>>>> = {
  meta: new Set(['pinMemory']),
  'cuda:0': new Set(['_scaledDotProductFlashAttentionForCpu']),
};
