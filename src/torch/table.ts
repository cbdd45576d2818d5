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
  row('rsub.Scalar', 'other - alpha * self.'),
  row('mul.Tensor|Scalar', 'self * other.'),
  row('mul_.Tensor|Scalar', 'Multiplies in place.'),
  row('div.Tensor|Scalar', 'self / other, true division.'),
  row('div_.Tensor|Scalar', 'Divides in place.'),
  row('div.Tensor_mode|Scalar_mode', "self / other, rounded ('floor' or 'trunc').", {
    as: 'divRounded',
  }),
  row('remainder.Tensor|Scalar', 'Remainder with the sign of the divisor.'),
  row('pow.Tensor_Tensor|Tensor_Scalar', 'self to the power of exponent.'),
  row('neg', '-self.'),
  row('abs', 'Absolute value.'),
  row('sign', 'Sign: -1, 0 or 1.'),
  row('exp', 'e to the power of self.'),
  row('expm1', 'exp(self) - 1, exact near 0.'),
  row('log', 'Natural logarithm.'),
  row('log1p', 'log(1 + self), exact near 0.'),
  row('log2', 'Logarithm to base 2.'),
  row('sqrt', 'Square root.'),
  row('sqrt_', 'Square root in place.'),
  row('rsqrt', '1 / sqrt(self).'),
  row('reciprocal', '1 / self.'),
  row('square', 'self * self.'),
  row('sin', 'Sine.'),
  row('cos', 'Cosine.'),
  row('tanh', 'Hyperbolic tangent.'),
  row('sigmoid', '1 / (1 + exp(-self)).'),
  row('erf', 'Error function.'),
  row('relu', 'max(self, 0).'),
  row('silu', 'self * sigmoid(self).'),
  row('silu_backward', 'Gradient of silu.'),
  row('gelu', "Gaussian error linear unit; approximate 'none' (erf) or 'tanh'."),
  row('gelu_backward', 'Gradient of gelu.'),
  row('floor', 'Largest integer not above.'),
  row('ceil', 'Smallest integer not below.'),
  row('round', 'Nearest integer, halves to even.'),
  row('trunc', 'Integer part.'),
  row('clamp', 'Limits to [min, max].'),
  row('clamp_', 'Limits to [min, max] in place.'),
  row('maximum', 'Larger of two, elementwise.'),
  row('minimum', 'Smaller of two, elementwise.'),
  row('lerp.Tensor|Scalar', 'self + weight * (end - self).'),
  row('lerp_.Tensor|Scalar', 'Moves towards end by weight, in place.'),
  row('addcmul', 'self + value * tensor1 * tensor2.'),
  row('addcmul_', 'Adds value * tensor1 * tensor2 in place.'),
  row('addcdiv_', 'Adds value * tensor1 / tensor2 in place.'),
  row('nan_to_num', 'Replaces NaN and infinities.'),
  row('isfinite', 'Whether neither NaN nor infinite.'),
  row('isnan', 'Whether NaN.'),
  row('isinf', 'Whether infinite.'),
  row('eq.Tensor|Scalar', 'self == other.'),
  row('ne.Tensor|Scalar', 'self != other.'),
  row('lt.Tensor|Scalar', 'self < other.'),
  row('le.Tensor|Scalar', 'self <= other.'),
  row('gt.Tensor|Scalar', 'self > other.'),
  row('ge.Tensor|Scalar', 'self >= other.'),
  row('logical_not', 'Boolean not.'),
  row('logical_and', 'Boolean and.'),
  row('logical_or', 'Boolean or.'),
  row('bitwise_and.Tensor|Scalar', 'Bits in both.'),
  row('bitwise_or.Tensor|Scalar', 'Bits in either.'),
  row('bitwise_xor.Tensor|Scalar', 'Bits in exactly one.'),
  row('bitwise_left_shift.Tensor_Scalar', 'Bits moved left.'),
  row('bitwise_right_shift.Tensor_Scalar', 'Bits moved right, keeping the sign.'),
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
  row('min', 'Smallest element of all.'),
  row('max.dim', 'Largest elements along a dimension, and where.', { as: 'maxDim' }),
  row('argmax', 'Where the largest element is.'),
  row('argmin', 'Where the smallest element is.'),
  row('all', 'Whether all elements hold.'),
  row('any', 'Whether any element holds.'),
  row('prod', 'Product of all elements.'),
  row('cumsum', 'Running sum along a dimension.'),
  row('var.correction', 'Variance over dimensions.'),
  row('logsumexp', 'log(sum(exp(self))) over dimensions.'),
  row('softmax.int', 'exp(self) / sum(exp(self)) along a dimension.'),
  row('log_softmax.int', 'log(softmax(self)) along a dimension.'),
  row('linalg_vector_norm', 'Vector norm of order ord over dimensions.'),
  row('topk', 'k largest (or smallest) elements along a dimension, and where.'),
  row('sort', 'Sorted elements along a dimension, and where they were.'),
  row('sort.stable', 'Stable sort along a dimension.', { as: 'sortStable' }),
  row('argsort', 'Order that sorts a dimension.'),
];

/** Matrix products. */
const PRODUCTS = [
  row('matmul', 'Matrix product, batched and broadcast.'),
  row('mm', 'Matrix product of two matrices.'),
  row('bmm', 'Matrix products of two batches.'),
  row('addmm', 'beta * self + alpha * mat1 @ mat2.'),
  row('addmm_', 'Adds alpha * mat1 @ mat2 to beta * self in place.'),
  row('outer', 'Outer product of two vectors.'),
  row('linear', 'input @ weight.T + bias.'),
  row('_scaled_mm', 'Product of two fp8 matrices with scales.'),
];

/** Shapes, views and indexing. Results never depend on values, except in `index` with a boolean mask. */
const SHAPES = [
  row('view', 'The same data in another shape.'),
  row('view.dtype', 'The same bytes as another dtype.', { as: 'viewAs' }),
  row('reshape', 'The same elements in another shape, copied if need be.'),
  row('flatten.using_ints', 'Merges dimensions.'),
  row('transpose.int', 'Swaps two dimensions.'),
  row('t', 'Swaps the dimensions of a matrix.'),
  row('permute', 'Orders the dimensions anew.'),
  row('expand', 'Repeats dimensions of length 1 without copying.'),
  row('contiguous', 'Dense in memory, copied if need be.'),
  row('unsqueeze', 'Inserts a dimension of length 1.'),
  row('squeeze.dim', 'Drops a dimension of length 1.'),
  row('as_strided', 'A view by size, stride and offset.'),
  row('cat', 'Joins tensors along a dimension.'),
  row('stack', 'Joins tensors along a new dimension.'),
  row('split.Tensor', 'Parts of a given length along a dimension.'),
  row('split_with_sizes', 'Parts of given lengths along a dimension.'),
  row('chunk', 'A number of parts along a dimension.'),
  row('unbind.int', 'Slices along a dimension.'),
  row('narrow', 'A range of a dimension.'),
  row('slice.Tensor', 'A range of a dimension, with a step.'),
  row('select.int', 'One index of a dimension.'),
  row('repeat', 'Copies along dimensions.'),
  row('repeat_interleave.self_int', 'Repeats each element along a dimension.'),
  row('flip', 'Reverses dimensions.'),
  row('roll', 'Rotates dimensions.'),
  row('tril', 'Lower triangle, zeros elsewhere.'),
  row('triu', 'Upper triangle, zeros elsewhere.'),
  row('index_select', 'Rows of a dimension by index.'),
  row('index_copy', 'self with rows of a dimension replaced by index.'),
  row('index_copy_', 'Replaces rows of a dimension by index, in place.'),
  row('index_add', 'self with rows added by index.'),
  row('index_add_', 'Adds rows by index, in place.'),
  row('index.Tensor', 'Elements by one index tensor per dimension (null: all).'),
  row('index_put_', 'Writes elements by one index tensor per dimension.'),
  row('gather', 'Elements along a dimension by index.'),
  row('scatter.src|value', 'self with elements replaced along a dimension by index.'),
  row('scatter_.src|value', 'Replaces elements along a dimension by index, in place.'),
  row('scatter_add_', 'Adds elements along a dimension by index, in place.'),
];

/** Layers with kernels of their own. */
const LAYERS = [
  row('embedding', 'Rows of weight by index.'),
  row('embedding_dense_backward', 'Gradient of embedding: rows summed by index.'),
  row('layer_norm', '(x - mean) / sqrt(variance + eps) * weight + bias over the last dimensions.'),
  row('native_layer_norm', 'layer_norm, with mean and 1 / standard deviation.'),
  row('_fused_rms_norm', 'x / sqrt(mean(x^2) + eps) * weight, with 1 / sqrt(mean(x^2) + eps).'),
  row('_fused_rms_norm_backward', 'Gradients of _fused_rms_norm for input and weight.', {
    nullable: true,
  }),
  row('convolution', 'Convolution of any dimension.'),
  row(
    'cross_entropy_loss',
    'Negative log likelihood of class indices; reduction 0 none, 1 mean, 2 sum.',
  ),
  row('nll_loss', 'Negative of the chosen log probabilities; reduction 0 none, 1 mean, 2 sum.'),
  row('_scaled_dot_product_flash_attention_for_cpu', 'Attention on CPU: output and log-sum-exp.'),
  row('_scaled_dot_product_cudnn_attention', 'Attention by cuDNN.', { nullable: true }),
  row('_scaled_dot_product_flash_attention', 'Attention by FlashAttention.', { nullable: true }),
  row('_scaled_dot_product_efficient_attention', 'Attention by CUTLASS, any dtype, with a bias.', {
    nullable: true,
  }),
  row('_flash_attention_forward', 'FlashAttention over packed sequences.', { nullable: true }),
  row('_flash_attention_backward', 'Gradients of _flash_attention_forward.'),
  row('_cudnn_attention_forward', 'cuDNN attention over packed sequences.', { nullable: true }),
];

/** Making tensors, copying, filling, drawing. */
const CREATION = [
  row('empty.memory_format', 'Uninitialised.'),
  row('empty_strided', 'Uninitialised, with given strides.'),
  row('zeros', 'All 0.'),
  row('ones', 'All 1.'),
  row('full', 'All of one value.'),
  row('eye', 'Identity matrix.'),
  row('arange.start_step', 'start, start + step, ... below end.'),
  row('linspace', 'Evenly spaced from start to end.'),
  row('randn.generator', 'Drawn from the normal distribution.'),
  row('rand.generator', 'Drawn evenly from [0, 1).'),
  row('randint.low_generator', 'Integers drawn evenly from [low, high).'),
  row('randperm.generator', 'A permutation of 0 .. n - 1.'),
  row('empty_like', 'Uninitialised, shaped like self.'),
  row('zeros_like', 'All 0, shaped like self.'),
  row('ones_like', 'All 1, shaped like self.'),
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
  row('bernoulli_.float', 'Fills with 1 at probability p, else 0.'),
  row('random_.from', 'Fills with integers from [from, to).'),
  row('multinomial', 'Indices drawn by weight.'),
];

/** Many tensors at once, and the optimizer. */
const MANY = [
  row('_foreach_add_.List|Scalar', 'Adds to each tensor in place.'),
  row('_foreach_add_.ScalarList', 'Adds a number of its own to each tensor in place.', {
    as: '_foreachAddScalars_',
  }),
  row('_foreach_mul_.Tensor|Scalar', 'Multiplies each tensor in place.'),
  row('_foreach_mul_.ScalarList', 'Multiplies each tensor by a number of its own in place.', {
    as: '_foreachMulScalars_',
  }),
  row('_foreach_zero_', 'Fills each tensor with 0.'),
  row('_foreach_copy_', 'Copies each tensor.'),
  row('_foreach_norm.Scalar', 'Norm of each tensor.'),
  row(
    '_fused_adamw_|tensor_lr',
    'One AdamW update of many tensors; found_inf gates it on the device.',
  ),
  row(
    '_amp_foreach_non_finite_check_and_unscale_',
    'Multiplies by inv_scale and sets found_inf where something is not finite.',
  ),
  row('_amp_update_scale_', 'Grows or backs off a loss scale.'),
];

export const OPERATORS: readonly OperatorRow[] = [
  ...POINTWISE,
  ...REDUCTIONS,
  ...PRODUCTS,
  ...SHAPES,
  ...LAYERS,
  ...CREATION,
  ...MANY,
];
