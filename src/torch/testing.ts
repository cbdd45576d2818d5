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
    (['add', 'sub', 'mul', 'div', 'pow', 'add_', 'sub_', 'lt', 'le', 'gt', 'ge'] as const).map(
      (name) => [name, binary(name)],
    ),
  ),
  ...Object.fromEntries(
    (
      [
        'neg',
        'abs',
        'sqrt',
        'exp',
        'log',
        'square',
        'sin',
        'cos',
        'sigmoid',
        'sigmoid_',
        'silu',
        'gelu',
        'isfinite',
        'logicalNot',
        'max',
        'argmax',
        'contiguous',
        'flatten',
        'emptyLike',
        'zerosLike',
        'clone',
        'detach',
        'zero_',
        'sort',
        'triu',
        'normal_',
        'uniform_',
      ] as const
    ).map((name) => [name, unary(name)]),
  ),
  clamp: (make) => make([2, 3]).clamp(0, 1),
  maximum: (make) => make([2, 3]).maximum(make([3])),
  logicalAnd: (make) => make([2], 'bool').logicalAnd(make([2], 'bool')),
  where: (make) => torch.where(make([2], 'bool'), make([3, 2]), make([2])),
  maskedFill: (make) => make([3, 2]).maskedFill(make([2], 'bool'), -Infinity),
  sum: (make) => [make([2, 3]).sum([1], true), make([2, 3], 'int32').sum(null)],
  mean: (make) => make([2, 3]).mean([0]),
  amax: (make) => make([2, 3]).amax([1]),
  amin: (make) => make([2, 3]).amin([]),
  cumsum: (make) => make([2, 3]).cumsum(1, { dtype: 'float64' }),
  var: (make) => make([2, 3]).var([1], { correction: 1 }),
  softmax: (make) => make([2, 3]).softmax(-1),
  linalgVectorNorm: (make) => make([2, 3]).linalgVectorNorm(2, null, false, { dtype: 'float64' }),
  topk: (make) => make([2, 3]).topk(2),
  matmul: (make) => make([2, 3, 4]).matmul(make([4, 5])),
  linear: (make) => torch.linear(make([2, 3]), make([4, 3]), make([4])),
  view: (make) => make([2, 3]).view([3, -1]),
  viewAs: (make) => make([2, 4]).viewAs('uint8'),
  reshape: (make) => make([2, 3]).transpose(0, 1).reshape([6]),
  transpose: (make) => make([2, 3, 4]).transpose(0, -1),
  permute: (make) => make([2, 3, 4]).permute([2, 0, 1]),
  expand: (make) => make([2, 1]).expand([2, 3]),
  unsqueeze: (make) => make([2]).unsqueeze(0),
  squeeze: (make) => make([2, 1]).squeeze(1),
  asStrided: (make) => make([6]).asStrided([2, 2], [2, 1], 1),
  cat: (make) => torch.cat([make([2, 3]), make([1, 3])]),
  stack: (make) => torch.stack([make([2]), make([2])], 1),
  splitWithSizes: (make) => make([5]).splitWithSizes([1, 4]),
  setStorage_: (make) => make([2]).setStorage_(make([5]), 1, [2], [2]),
  narrow: (make) => make([5]).narrow(0, 1, 3),
  slice: (make) => make([5]).slice(0, 1, null, 2),
  select: (make) => make([5, 2]).select(0, -1),
  indexSelect: (make) => make([3, 4]).indexSelect(0, index(make)),
  indexCopy: (make) => make([3, 4]).indexCopy(0, index(make), make([2, 4])),
  indexCopy_: (make) => make([3, 4]).indexCopy_(0, index(make), make([2, 4])),
  scatter: (make) => [
    make([3, 4]).scatter(0, make([2, 4], 'int64'), make([2, 4])),
    make([3, 4]).scatter(0, make([2, 4], 'int64'), 7),
  ],
  scatter_: (make) => [
    make([3, 4]).scatter_(0, make([2, 4], 'int64'), make([2, 4])),
    make([3, 4]).scatter_(0, make([2, 4], 'int64'), 7),
  ],
  embedding: (make) => torch.embedding(make([5, 4]), make([2, 3], 'int64')),
  nativeLayerNorm: (make) => torch.nativeLayerNorm(make([2, 3, 4]), [4], make([4]), null, 1e-5),
  _fusedRmsNorm: (make) => torch._fusedRmsNorm(make([2, 3, 4]), [4], make([4]), null),
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
  upsampleBilinear2d: (make) => make([1, 2, 6, 5]).upsampleBilinear2d([4, 3], false),
  crossEntropyLoss: (make) => [
    make([3, 4]).crossEntropyLoss(make([3], 'int64')),
    make([3, 4]).crossEntropyLoss(make([3], 'int64'), null, 0),
  ],
  _scaledDotProductFlashAttentionForCpu: (make) =>
    torch._scaledDotProductFlashAttentionForCpu(...qkv(make, 'float32'), 0, true),
  _scaledDotProductCudnnAttention: (make) =>
    torch._scaledDotProductCudnnAttention(...qkv(make), null, true, 0, true),
  _scaledDotProductEfficientAttention: (make) =>
    torch._scaledDotProductEfficientAttention(...qkv(make, 'float32'), null, true, 0, true),
  _flashAttentionForward: (make) => {
    const [q, k, v, starts] = packed(make);
    return torch._flashAttentionForward(q, k, v, starts, starts, 20, 20, 0, true, false);
  },
  _fusedRmsNormBackward: (make) =>
    torch._fusedRmsNormBackward(make([2, 4]), make([2, 4]), [4], make([2, 1]), make([4]), [
      true,
      true,
    ]),
  _scaledDotProductFlashAttentionForCpuBackward: (make) => {
    const [q, k, v] = qkv(make, 'float32');
    const [out, lse] = torch._scaledDotProductFlashAttentionForCpu(q, k, v, 0, true);
    const upstream = make([2, 16, 4, 64]).transpose(1, 2);
    return torch._scaledDotProductFlashAttentionForCpuBackward(
      upstream,
      q,
      k,
      v,
      out,
      lse,
      0,
      true,
    );
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
      make([32, 4, 64], 'bfloat16'),
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
  cudnnAttentionBackward: (make) => {
    const given = qkv(make);
    const [out, lse, , , , , seed, offset] = torch._scaledDotProductCudnnAttention(
      ...given,
      null,
      true,
      0,
      true,
    );
    const upstream = make([2, 16, 4, 64], 'bfloat16').transpose(1, 2);
    return torch.cudnnAttentionBackward(upstream, ...given, out!, lse!, seed!, offset!, true);
  },
  addRmsNorm_: (make) => [
    make([2, 4]).addRmsNorm_(null, make([4]), 1e-5),
    make([2, 4]).addRmsNorm_(make([2, 4]), make([4]), 1e-5),
  ],
  rmsNormBackward_: (make) =>
    make([2, 4]).rmsNormBackward_(make([2, 4]), make([4]), make([2, 1]), make([2, 4])),
  rotary_: (make) => make([3, 5, 4]).rotary_(make([3, 1, 4]), make([3, 1, 4]), 4),
  rotaryBackward: (make) =>
    torch.rotaryBackward(
      make([3, 3, 4]),
      make([3, 1, 4]),
      make([3, 1, 4]),
      make([3, 4]),
      make([3, 4]),
    ),
  crossEntropy_: (make) => {
    const logits = make([2, 6]);
    const targets = make([2], 'int64');
    return [logits.crossEntropy_(targets, make([])), logits];
  },
  sideBySide: (make) => {
    const whole = make([5, 3]);
    return torch.sideBySide([whole.narrow(0, 0, 2), whole.narrow(0, 2, 3)]);
  },
  project: (make) => [
    torch.project(make([2, 2, 3]), [make([1, 3]), make([4, 3])], [make([1]), null]),
    torch.project(make([2, 3]), [make([4, 3])], [make([4])]),
  ],
  projectAdd_: (make) =>
    make([2, 5]).projectAdd_(make([2, 3]), [make([1, 3]), make([4, 3])], [null, make([4])]),
  projectBackward: (make) => torch.projectBackward(make([2, 5]), [make([1, 3]), make([4, 3])]),
  projectBackwardAdd_: (make) =>
    make([2, 3]).projectBackwardAdd_(make([2, 5]), [make([1, 3]), make([4, 3])]),
  addLowRank_: (make) =>
    make([2, 6]).addLowRank_(make([2, 3]), [make([1, 2]), make([4, 1])], [0, 2], [1, 0.5]),
  lowRankBackward: (make) =>
    torch.lowRankBackward(make([2, 6]), [make([1, 2]), make([4, 1])], [0, 2], [1, 0.5]),
  lowRankGradients: (make) =>
    torch.lowRankGradients(
      make([2, 6]),
      make([2, 3]),
      [make([1, 2]), make([4, 1])],
      [0, 2],
      [1, 0.5],
    ),
  productInto_: (make) => make([3, 2]).productInto_(make([4, 3]), make([4, 2]), true),
  droppedProduct: (make) =>
    torch.droppedProduct(make([2, 3]), [make([1, 3]), make([2, 3])], 0.5, ...places(make), [1, 2]),
  droppedGradients: (make) =>
    torch.droppedGradients(make([2, 3]), make([2, 3]), [1, 2], 0.5, ...places(make), [1, 2]),
  addDropped_: (make) =>
    make([2, 3]).addDropped_(make([2, 1]), [make([1, 3])], 0.5, ...places(make), [1]),
  swigluLowRank: (make) => make([2, 6]).swigluLowRank(...lowGate(make)),
  swigluLowRankBackward_: (make) => {
    const [both, gradient] = [make([2, 6]), make([2, 3])];
    both.swigluLowRankBackward_(gradient, ...lowGate(make), make([2, 2]), make([2, 3]));
    both.swigluLowRankBackward_(gradient, ...lowGate(make), null, null);
    return [both, gradient];
  },
  nf4Quantise: (make) => make([3, 5]).nf4Quantise(make([16])),
  nf4QuantiseScales: (make) => torch.nf4QuantiseScales(make([300]), make([256])),
  nf4Dequantise_: (make) => [
    make([2, 65]).nf4Dequantise_(...nf4(make), null, null, null),
    make([2, 65]).nf4Dequantise_(...nf4(make, 'uint8'), make([1]), make([256]), make([1])),
  ],
  nf4Linear: (make) => [
    make([3, 65]).nf4Linear(2, null, ...nf4(make), null, null, null),
    make([65]).nf4Linear(
      ...([2, make([2])] as const),
      ...nf4(make, 'uint8'),
      ...([make([1]), make([256]), make([1])] as const),
    ),
  ],
  quantiseRowsFp8: (make) => [
    make([2, 5]).quantiseRowsFp8(null, 'float8_e4m3fn'),
    make([2, 5]).quantiseRowsFp8(make([5]), 'float8_e5m2'),
  ],
  addRmsNormFp8_: (make) => [
    make([2, 4]).addRmsNormFp8_(null, make([4]), 1e-5),
    make([2, 4]).addRmsNormFp8_(make([2, 4]), make([4]), 1e-5),
  ],
  swigluFp8: (make) => make([2, 6]).swigluFp8(),
  fp8Transpose: (make) => torch.fp8Transpose([fp8(make, 2)[0], fp8(make, 3)[0]]),
  fp8Product: (make) => {
    const [[a, aScales], [b, bScales]] = [fp8(make, 2), fp8(make, 3)];
    return [
      a.fp8Product(b, aScales, bScales, 'float32'),
      a.fp8Product(b, aScales, null, 'bfloat16'),
    ];
  },
  fp8Project: (make) => {
    const [[x, xScales], [one, oneScales], [two, twoScales]] = [
      ...([fp8(make, 4), fp8(make, 2), fp8(make, 3)] as const),
    ] as const;
    const matrices = [[one, two], [oneScales, twoScales], [null, make([3])], 'float32'] as const;
    return torch.fp8Project(x, xScales, ...matrices);
  },
  fp8ProjectBackward: (make) => {
    const [one, two] = [fp8(make, 2), fp8(make, 3)];
    const matrices = [
      [one[0], two[0]],
      [one[1], two[1]],
    ] as const;
    return torch.fp8ProjectBackward(make([4, 5]), ...matrices, 'float8_e4m3fn');
  },
  fp8Linear: (make) => [
    make([2, 4, 6]).fp8Linear(null, ...fp8(make, 3)),
    make([6]).fp8Linear(make([3]), ...fp8(make, 3)),
  ],
  swiglu: (make) => make([2, 6]).swiglu(),
  swigluBackward_: (make) => {
    const [both, gradient] = [make([2, 6]), make([2, 3])];
    both.swigluBackward_(gradient);
    return [both, gradient];
  },
  empty: ({ device }) => torch.empty([2, 3], { dtype: 'int8', device, memoryFormat: 'contiguous' }),
  zeros: ({ device }) => torch.zeros([2], { device }),
  ones: ({ device }) => torch.ones([2], { device, dtype: 'bool' }),
  full: ({ device }) => [torch.full([2], 1.5, { device }), torch.full([2], 3, { device })],
  arange: ({ device }) => [torch.arange(0, 5, 2, { device }), torch.arange(0, 1, 0.25, { device })],
  randn: ({ device }) => torch.randn([2], { device }),
  fullLike: (make) => make([2]).fullLike(7),
  copy_: (make) => make([2]).copy_(make([2], 'int32')),
  overwrite: (make) => make([2, 3]).overwrite(make([3])),
  fill_: (make) => make([2]).fill_(7),
  _toCopy: (make) => make([2])._toCopy({ dtype: 'float16' }),
  pinMemory: () => torch.ones([2]).pinMemory(),
  dropout: (make) =>
    make([2, 3, 5]).dropout(0.5, make([2], 'int64'), make([2], 'int64'), [1, 2], 3),
  roundStochastic_: (make) => make([2, 3], 'bfloat16').roundStochastic_(make([2, 3]), [1, 2], 5),
  multinomial: (make) => make([4]).multinomial(2),
  _foreachAdd_: (make) => {
    const list = [make([2]), make([3])];
    torch._foreachAdd_(list, [make([2]), make([3])], { alpha: 2 });
    torch._foreachAdd_(list, 1);
    return list;
  },
  _foreachCopy_: (make) => {
    const list = [make([2]), make([3])];
    torch._foreachCopy_(list, [make([2], 'float64'), make([3], 'float64')]);
    return list;
  },
  _foreachNorm: (make) => torch._foreachNorm([make([2]), make([3])], 2, 'float64'),
  adamw_: (make) => {
    const list = (dtype?: DType): Tensor[] => [make([2], dtype), make([3], dtype)];
    const options = { lr: 0.1, beta1: 0.9, beta2: 0.99, weightDecay: 0.1, eps: 1e-8 };
    const [parameters, rounded, steps] = [list(), list('float16'), [make([]), make([])]];
    const gradients = list('bfloat16');
    torch.adamw_(parameters, gradients, list(), list(), rounded, steps, options);
    torch.adamw_(parameters, list(), list(), list(), parameters, steps, {
      ...options,
      gradScale: make([]),
      foundInf: make([]),
    });
    const [weights, moments] = [list('bfloat16'), [list('bfloat16'), list('bfloat16')] as const];
    torch.adamw_(weights, gradients, ...moments, weights, steps, {
      ...options,
      keys: [1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12],
      first: [0, 256],
    });
    return [parameters, rounded, weights, moments.flat()];
  },
  adamwInt8_: (make) => {
    const list = (dtype?: DType): Tensor[] => [make([2], dtype), make([300], dtype)];
    const scales = (): Tensor[] => [make([1]), make([2])];
    const options = { lr: 0.1, beta1: 0.9, beta2: 0.99, weightDecay: 0.1, eps: 1e-8 };
    const run = (type: DType, rounded: Tensor[] | null, more: object): Tensor[] => {
      const self = list(type);
      const moments = [list('uint8'), scales(), list('uint8'), scales()] as const;
      const steps = [make([]), make([])];
      torch.adamwInt8_(self, list('bfloat16'), ...moments, rounded ?? self, steps, {
        ...options,
        ...more,
      });
      return [...self, ...(rounded ?? []), ...moments.flat()];
    };
    return [
      run('float32', list('float16'), { gradScale: make([]), foundInf: make([]) }),
      run('bfloat16', null, { keys: [1, 2, 3, 4], first: [0, 256] }),
    ];
  },
  dynamicQuantise: (make) => make([3, 100]).dynamicQuantise(true),
  dynamicDequantise: (make) => make([3, 100], 'uint8', 256).dynamicDequantise(make([2]), false),
};

/** Records and indices of two rows, and a key. */
function places(make: Maker): [Tensor, Tensor, [number, number]] {
  return [make([2], 'int64'), make([2], 'int64'), [1, 2]];
}

/** Codes, scales and values of a matrix (2, 65) in NF4. */
function nf4(make: Maker, scales: DType = 'float32'): [Tensor, Tensor, Tensor] {
  return [make([65, 1], 'uint8', 256), make([3], scales, 256), make([16])];
}

/** Codes and scales of rows of 6 channels. */
function fp8(make: Maker, rows: number): [Tensor, Tensor] {
  return [make([rows, 6], 'float8_e4m3fn'), make([rows, 1])];
}

/** What is added to gate and up (2, 6). */
function lowGate(make: Maker): [Tensor, Tensor, Tensor, Tensor, number, number] {
  return [make([2, 1]), make([2, 2]), make([3, 1]), make([3, 2]), 0.5, 2];
}

/** Operators whose kernels exist for CUDA alone. */
export const CUDA_ONLY = new Set([
  '_scaledDotProductCudnnAttention',
  '_scaledDotProductEfficientAttention',
  '_flashAttentionForward',
  '_flashAttentionBackward',
  'cudnnAttentionBackward',
  'pinMemory',
]);
/** Operators that autograd does not differentiate: backwards, and those whose caller writes their backward. */
export const NO_DERIVATIVE = new Set([
  'dynamicQuantise',
  'dynamicDequantise',
  '_fusedRmsNormBackward',
  'crossEntropy_',
  'droppedProduct',
  'droppedGradients',
  'addDropped_',
  'swigluLowRank',
  '_scaledDotProductFlashAttentionForCpuBackward',
  '_flashAttentionBackward',
  'cudnnAttentionBackward',
  'rotaryBackward',
  'swiglu',
  'nf4Quantise',
  'nf4QuantiseScales',
  'quantiseRowsFp8',
  'swigluFp8',
  'fp8Transpose',
  'fp8Product',
  'fp8Project',
  'fp8ProjectBackward',
]);
/** Operators that have no meaning there. */
export const NOT_ON: Readonly<Partial<Record<Device, ReadonlySet<string>>>> = {
  meta: new Set(['pinMemory']),
  'cuda:0': new Set([
    '_scaledDotProductFlashAttentionForCpu',
    '_scaledDotProductFlashAttentionForCpuBackward',
  ]),
};
