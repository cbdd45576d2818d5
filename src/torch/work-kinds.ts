/** What kind of work a kernel, a copy or an operator does, told by its name. */

/** In the order in which they are shown. */
export const WORK_KINDS = [
  'products',
  'attention',
  'adapters',
  'norms',
  'loss',
  'elementwise',
  'optimizer',
  'copies',
  'communication',
  'other',
] as const;

/**
 * `adapters` are LoRA's products with dropout inside, which wait for memory, not for tensor cores; `elementwise` is all that reads
 * and writes its tensors once: sums, gathers and moves on the device too; `copies` are those between host and device.
 */
export type WorkKind = (typeof WORK_KINDS)[number];

/** What any of these words, anywhere in a name, says of it; the first row that fits counts. */
type Table = readonly (readonly [WorkKind, RegExp])[];

/** Kernels and copies, as CUPTI names them: cuBLAS, cuDNN, FlashAttention, ATen, NCCL, and `native/cuda/kernels`. */
const KERNELS: Table = [
  ['communication', /nccl|memcpy ptop/i],
  ['copies', /^memcpy (?:htod|dtoh)/i],
  // Before products: these are built from CUTLASS's templates.
  [
    'attention',
    /flash_?(?:fwd|bwd|attn)|flash::|fmha|sdpa|attention|compute_dot_do_o|convert_dq_to_16bits/i,
  ],
  ['adapters', /^dropped_(?:product|gradients)|^add_dropped|^sum_parts/],
  ['norms', /(?:rms|layer)_?norm|GammaBeta|RowwiseMoments|ComputeInternalGradients/i],
  ['loss', /cross_entropy|softmax|nll_loss/i],
  ['optimizer', /^adamw|multi_tensor_apply|fused_?adam|^round_stochastic/i],
  [
    'products',
    /gemm|gemv|nvjet|xmma|cutlass|cublas|split_?k|wgmma|implicit_convolve|cudnn.*(?:conv|fprop|dgrad|wgrad)|conv\dd/i,
  ],
  [
    'elementwise',
    /^memcpy dtod|^memset|at::native|elementwise|reduce|swiglu|rotary|dropout|nf4|fp8|cub::|nchwToNhwc|nhwcToNchw/i,
  ],
];

/** Operators of ATen, c10d and our own, which stand in for kernels on the CPU. */
const OPERATORS: Table = [
  ['communication', /^(?:c10d|gloo|nccl)::?/],
  ['attention', /attention/],
  ['adapters', /^patina::(?:dropped_|add_dropped_)/],
  ['norms', /(?:rms|layer)_norm/],
  ['loss', /cross_entropy|softmax|nll_loss/],
  ['optimizer', /adamw|round_stochastic/],
  [
    'products',
    /^aten::(?:(?:add|sparse_|_scaled_)?mm|addmm_|mv|addmv|dot|vdot|bmm|baddbmm|baddbmm_|matmul|linear|.*conv.*)$|^mkldnn/,
  ],
  ['elementwise', /^aten::(?!empty|new_empty|resize|set_)|^patina::/],
];

/** @param name as a trace has it, demangled or not */
export function kindOfKernel(name: string): WorkKind {
  return find(KERNELS, name);
}

/** @param name with its namespace: `aten::mm` */
export function kindOfOperator(name: string): WorkKind {
  return find(OPERATORS, name);
}

function find(table: Table, name: string): WorkKind {
  return table.find(([, words]) => words.test(name))?.[0] ?? 'other';
}

/**
 * Floating-point operations of a matrix product by the shapes of its arguments, 2·n·k·m for (n, k) times (k, m); 0 for any other
 * operator. Only those that others are made of count, so that none counts twice.
 */
export function productOperations(
  name: string,
  shapes: readonly (readonly number[])[] = [],
): number {
  const first = PRODUCTS.get(name);
  if (first === undefined) return 0;
  const [a, b] = [shapes[first], shapes[first + 1]];
  if (a === undefined || b === undefined || b.length === 0) return 0;
  return 2 * a.reduce((product, size) => product * size, 1) * b.at(-1)!;
}

/** Where the two matrices stand among the arguments of a product. */
const PRODUCTS = new Map([
  ['aten::mm', 0],
  ['aten::_scaled_mm', 0],
  ['aten::bmm', 0],
  ['aten::addmm', 1],
  ['aten::addmm_', 1],
  ['aten::baddbmm', 1],
  ['aten::baddbmm_', 1],
]);

/**
 * Products in bf16 that a card does in a second at best, as its maker says: dense, in teraflops; `undefined` for one that is not
 * listed.
 *
 * @param card as the driver names it: `NVIDIA H100 80GB HBM3`
 */
export function cardTeraflops(card: string): number | undefined {
  return CARDS.find(([words]) => words.test(card))?.[1];
}

const CARDS: readonly (readonly [RegExp, number])[] = [
  // The slower kinds of a name stand before it.
  [/H100 PCIe/, 756],
  [/H[12]00 NVL/, 835],
  [/H100|H200|GH200/, 989],
  [/A100/, 312],
  [/RTX 4090(?! D| Laptop)/, 165],
  [/L40S/, 362],
];
