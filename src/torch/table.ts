/**
 * The operators in use: name, overloads, one line of documentation.
 *
 * This table is written by hand; `npm run generate` makes the typed methods and functions of `operators.generated.ts` from it and
 * from libtorch's schemas. Overloads joined by `|` become one method that takes a tensor or a number; `as` names a method
 * whose overload would clash with another; `nullable` marks results that may be missing. The schemas are ATen's
 * (`aten/src/ATen/native/native_functions.yaml` in PyTorch) and those of our own operators (`native/operators.cc`).
 */

export interface OperatorRow {
  /** Name and overloads: `add.Tensor|Scalar`, `neg`; with its namespace where that is not ATen's: `patina::overwrite_`. */
  readonly operator: string;
  /** One line: what it computes. */
  readonly doc: string;
  /** Name in TypeScript where it is not the operator's own in camel case. */
  readonly as?: string;
  /** Tensors among several results may be missing: they are typed `Tensor | null`. */
  readonly nullable?: boolean;
}

const row = (
  operator: string,
  doc: string,
  options: Omit<OperatorRow, 'operator' | 'doc'> = {},
): OperatorRow => ({
  operator,
  doc,
  ...options,
});

/** Pointwise arithmetic and functions. */
const POINTWISE = [
  row('add.Tensor|Scalar', 'self + alpha * other.'),
  row('add_.Tensor|Scalar', 'Adds alpha * other in place.'),
  row('sub.Tensor|Scalar', 'self - alpha * other.'),
  row('sub_.Tensor|Scalar', 'Subtracts alpha * other in place.'),
  row('mul.Tensor|Scalar', 'self * other.'),
  row('div.Tensor|Scalar', 'self / other, true division.'),
  row('pow.Tensor_Tensor|Tensor_Scalar', 'self to the power of exponent.'),
  row('neg', '-self.'),
  row('abs', 'Absolute value.'),
  row('sqrt', 'Square root.'),
  row('square', 'self * self.'),
  row('exp', 'Exponential.'),
  row('log', 'Natural logarithm.'),
  row('sin', 'Sine.'),
  row('cos', 'Cosine.'),
  row('sigmoid', '1 / (1 + exp(-self)).'),
  row('sigmoid_', '1 / (1 + exp(-self)), in place.'),
  row('silu', 'self * sigmoid(self).'),
  row('gelu', "Gaussian error linear unit; approximate 'none' (erf) or 'tanh'."),
  row('clamp', 'Limits to [min, max].'),
  row('maximum', 'Larger of two, elementwise.'),
  row('isfinite', 'Whether neither NaN nor infinite.'),
  row('lt.Tensor|Scalar', 'self < other.'),
  row('le.Tensor|Scalar', 'self <= other.'),
  row('gt.Tensor|Scalar', 'self > other.'),
  row('ge.Tensor|Scalar', 'self >= other.'),
  row('logical_not', 'Boolean not.'),
  row('logical_and', 'Boolean and.'),
  row('where.self', 'Elements of self where the condition holds, else of other.'),
  row('masked_fill.Scalar', 'value where the mask holds, else self.'),
];

/** Sums, extrema, norms, softmax. */
const REDUCTIONS = [
  row('sum.dim_IntList', 'Sum over dimensions (null: all).'),
  row('mean.dim', 'Mean over dimensions (null: all).'),
  row('amax', 'Largest element over dimensions ([]: all).'),
  row('amin', 'Smallest element over dimensions ([]: all).'),
  row('max', 'Largest element of all.'),
  row('argmax', 'Where the largest element is.'),
  row('cumsum', 'Running sum along a dimension.'),
  row('var.correction', 'Variance over dimensions.'),
  row('softmax.int', 'exp(self) / sum(exp(self)) along a dimension.'),
  row('linalg_vector_norm', 'Vector norm of order ord over dimensions.'),
  row('topk', 'k largest (or smallest) elements along a dimension, and where.'),
  row('sort', 'Sorted elements along a dimension, and where they were.'),
];

/** Matrix products. */
const PRODUCTS = [
  row('matmul', 'Matrix product, batched and broadcast.'),
  row('linear', 'input @ weight.T + bias.'),
];

/** Shapes, views and indexing. Their results' shapes never depend on values. */
const SHAPES = [
  row('view', 'The same data in another shape.'),
  row('view.dtype', 'The same bytes as another dtype.', { as: 'viewAs' }),
  row('reshape', 'The same elements in another shape, copied if need be.'),
  row('flatten.using_ints', 'Merges dimensions.'),
  row('transpose.int', 'Swaps two dimensions.'),
  row('permute', 'Orders the dimensions anew.'),
  row('expand', 'Repeats dimensions of length 1 without copying.'),
  row('contiguous', 'Dense in memory, copied if need be.'),
  row('unsqueeze', 'Inserts a dimension of length 1.'),
  row('squeeze.dim', 'Drops a dimension of length 1.'),
  row('as_strided', 'A view by size, stride and offset.'),
  row('cat', 'Joins tensors along a dimension.'),
  row('stack', 'Joins tensors along a new dimension.'),
  row('split_with_sizes', 'Parts of given lengths along a dimension.'),
  row(
    'set_.source_Tensor_storage_offset',
    'Becomes a view of the memory of another tensor, with a version count of its own.',
    {
      as: 'setStorage_',
    },
  ),
  row('narrow', 'A range of a dimension.'),
  row('slice.Tensor', 'A range of a dimension, with a step.'),
  row('select.int', 'One index of a dimension.'),
  row('triu', 'Upper triangle, zeros elsewhere.'),
  row('index_select', 'Rows of a dimension by index.'),
  row('index_copy', 'self with rows of a dimension replaced by index.'),
  row('index_copy_', 'Replaces rows of a dimension by index, in place.'),
  row('scatter.src|value', 'self with elements replaced along a dimension by index.'),
  row('scatter_.src|value', 'Replaces elements along a dimension by index, in place.'),
];

/** Layers with kernels of their own. */
const LAYERS = [
  row('embedding', 'Rows of weight by index.'),
  row('native_layer_norm', 'layer_norm, with mean and 1 / standard deviation.'),
  row('_fused_rms_norm', 'x / sqrt(mean(x^2) + eps) * weight, with 1 / sqrt(mean(x^2) + eps).'),
  row('convolution', 'Convolution of any dimension.'),
  row(
    'upsample_bilinear2d',
    'Images (N, C, H, W) in another size, interpolated between their pixels.',
  ),
  row(
    'cross_entropy_loss',
    'Negative log likelihood of class indices; reduction 0 none, 1 mean, 2 sum.',
  ),
  row('_scaled_dot_product_flash_attention_for_cpu', 'Attention on CPU: output and log-sum-exp.'),
  row('_scaled_dot_product_cudnn_attention', 'Attention by cuDNN.', { nullable: true }),
  row('_scaled_dot_product_efficient_attention', 'Attention by CUTLASS, any dtype, with a bias.', {
    nullable: true,
  }),
  row('_flash_attention_forward', 'FlashAttention over packed sequences.', { nullable: true }),
];

/** Backwards that are called by hand, and what a decoder block computes between its products (`native/block_operators.cc`). */
const BY_HAND = [
  row('_fused_rms_norm_backward', 'Gradients of input and weight; output_mask says which.', {
    nullable: true,
  }),
  row(
    '_scaled_dot_product_flash_attention_for_cpu_backward',
    'Gradients of queries, keys, values.',
  ),
  row('_flash_attention_backward', 'Gradients of queries, keys, values over packed sequences.'),
  row('patina::cudnn_attention_backward', 'Gradients of queries, keys, values, without bias.'),
  row(
    'patina::add_rms_norm_',
    'Adds other in place; the root mean square norm of the sum, and 1 / sqrt(mean(self^2) + eps).',
  ),
  row(
    'patina::rms_norm_backward_',
    "Turns the gradient of a norm into that of its input, plus other's elements, in place.",
  ),
  row('patina::rotary_', 'Turns the first heads of (positions, all heads, head size) in place.'),
  row(
    'patina::rotary_backward',
    'Gradients of queries and keys turned back, and of values, in one buffer.',
  ),
  row(
    'patina::side_by_side',
    'Matrices that follow on each other in memory as one; an empty list where they do not.',
  ),
  row('patina::project', 'Products of linear layers that share their input, side by side.'),
  row('patina::project_add_', 'Adds them in place.'),
  row('patina::project_backward', 'The gradient of their input.'),
  row('patina::project_backward_add_', 'Adds it in place.'),
  row(
    'patina::add_low_rank_',
    'Adds the low-rank products of adapters to the columns that are theirs.',
  ),
  row('patina::low_rank_backward', 'The gradient of the small factors of these products.'),
  row('patina::low_rank_gradients', 'Gradients of the matrices B of adapters.'),
  row(
    'patina::product_into_',
    'a^T b, written to a tensor or added to it, which may be of another type.',
  ),
  row(
    'patina::dropped_product',
    'Low-rank products of adapters, each with its input dropped its own way, side by side.',
  ),
  row('patina::dropped_gradients', 'Gradients of their matrices A, one above the other.'),
  row('patina::add_dropped_', 'Adds the dropped gradients of the input that adapters give.'),
  row(
    'patina::swiglu_low_rank',
    'silu(gate + s z b^T) * (up + s z b^T), of gate and up side by side.',
  ),
  row(
    'patina::swiglu_low_rank_backward_',
    'Turns gate and up into their gradients and the gradient of the product, to which dz a is added, into the product.',
  ),
  row(
    'patina::cross_entropy_',
    'Losses of rows of logits; with a factor the logits become their gradient times it, in place.',
  ),
  row('patina::swiglu', 'silu(gate) * up, of gate and up side by side.'),
  row(
    'patina::swiglu_backward_',
    'Turns gate and up into their gradients and the gradient of the product into the product, in place.',
  ),
];

/** Weights in 4-bit NormalFloat (Dettmers et al. 2023), in blocks of 64. */
const NF4 = [
  row(
    'patina::nf4_quantise',
    'Codes of 4 bits, two a byte, and the largest magnitude of each block.',
  ),
  row(
    'patina::nf4_quantise_scales',
    'Scales in bytes, the largest difference from the mean in each 256 of them, and that mean.',
  ),
  row('patina::nf4_dequantise_', 'Overwritten with what codes and scales stand for.'),
  row(
    'patina::nf4_linear',
    'self W^T + bias, W made dense for this product and again for its backward.',
  ),
];

/** Products of which both sides are in 8 bits (Micikevicius et al. 2022), rows with scales of their own. */
const FP8 = [
  row(
    'patina::quantise_rows_fp8',
    'Codes of 8 bits and a scale of each row, of self with each channel times its factor.',
  ),
  row(
    'patina::add_rms_norm_fp8_',
    'add_rms_norm_, and codes and scales of the rows that it gives, in one pass.',
  ),
  row('patina::swiglu_fp8', 'swiglu, and codes and scales of the rows that it gives, in one pass.'),
  row('patina::fp8_transpose', 'Codes of matrices one above the other, in the other layout.'),
  row('patina::fp8_product', 'self other^T of codes, times the scales of the rows of both.'),
  row('patina::fp8_project', 'y = x W^T + b of layers that share their input, all in codes.'),
  row('patina::fp8_project_backward', 'g W, g times the scales of W quantised on the way.'),
  row('patina::fp8_linear', 'self W^T + bias, both quantised, and so is the gradient backward.'),
];

/** Making tensors, copying, filling, drawing. */
const CREATION = [
  row('empty.memory_format', 'Uninitialised.'),
  row('zeros', 'All 0.'),
  row('ones', 'All 1.'),
  row('full', 'All of one value.'),
  row('arange.start_step', 'start, start + step, ... below end.'),
  row('randn.generator', 'Drawn from the normal distribution.'),
  row('empty_like', 'Uninitialised, shaped like self.'),
  row('zeros_like', 'All 0, shaped like self.'),
  row('full_like', 'All of one value, shaped like self.'),
  row('clone', 'A copy.'),
  row('detach', 'The same data without history.'),
  row('copy_', 'Copies from another tensor, converting dtype and device.'),
  row(
    'patina::overwrite_',
    "Copies values without moving autograd's version counter, to refill freed storage with what it held.",
    { as: 'overwrite' },
  ),
  row('fill_.Scalar', 'Fills with a value.'),
  row('zero_', 'Fills with 0.'),
  row('_to_copy', 'A copy with another dtype, device or layout.'),
  row('pin_memory', 'A copy in page-locked memory.'),
  row('normal_', 'Fills from the normal distribution.'),
  row('uniform_', 'Fills evenly from [from, to).'),
  row('multinomial', 'Indices drawn by weight.'),
  row(
    'patina::dropout',
    'Zeroes elements with probability p and divides the rest by 1 - p, by key, layer, record, index in the record and channel.',
  ),
  row(
    'patina::round_stochastic_',
    'Rounds fp32 into bf16 at random, by key and index of the element, the first of which is from.',
  ),
];

/** Many tensors at once, and the optimizer. */
const MANY = [
  row('_foreach_add_.List|Scalar', 'Adds to each tensor in place.'),
  row('_foreach_copy_', 'Copies each tensor.'),
  row('_foreach_norm.Scalar', 'Norm of each tensor.'),
  row(
    'patina::adamw_',
    'One AdamW update of many tensors in one pass, gated on the device by found_inf, with gradients in any type; weights are written to rounded too where those are others. What is kept in bf16 is rounded at random where there are keys, by element, the first of which is first.',
  ),
  row(
    'patina::adamw_int8_',
    'The same with moments in the dynamic 8-bit type; keys are of bf16 weights alone.',
  ),
  row(
    'patina::dynamic_quantise',
    'Codes of the dynamic 8-bit type, and the largest magnitude of each 256 elements, of fp32.',
  ),
  row('patina::dynamic_dequantise', 'What they stand for, in fp32.'),
];

export const OPERATORS: readonly OperatorRow[] = [
  ...POINTWISE,
  ...REDUCTIONS,
  ...PRODUCTS,
  ...SHAPES,
  ...LAYERS,
  ...BY_HAND,
  ...NF4,
  ...FP8,
  ...CREATION,
  ...MANY,
];
