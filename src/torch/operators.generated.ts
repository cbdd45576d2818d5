/** Made by `npm run generate` from `table.ts` and libtorch's schemas. Do not edit. */

/* eslint-disable */
import {
  B,
  booleanArgument,
  call,
  callTensor,
  declare,
  deviceArgument,
  dtypeArgument,
  formatArgument,
  generatorArgument,
  layoutArgument,
  numberArgument,
  optionalBoolean,
  optionalFloat,
  optionalHandle,
  optionalInteger,
  optionalTensorAt,
  putBools,
  putNumbers,
  putScalar,
  putTensors,
  stringArgument,
  tensorAt,
  tensorList,
  type Layout,
  type MemoryFormat,
  type Scalar,
} from './door.js';
import type { DType } from './dtype.js';
import type { Device } from './native.js';
import type { RandomGenerator } from './random.js';
import type { Tensor } from './tensor.js';

const ADD_TENSOR = declare('add.Tensor', ['self:Tensor', 'other:Tensor', 'alpha:Scalar']);
const ADD_SCALAR = declare('add.Scalar', ['self:Tensor', 'other:Scalar', 'alpha:Scalar']);
const ADD__TENSOR = declare('add_.Tensor', ['self:Tensor', 'other:Tensor', 'alpha:Scalar'], true);
const ADD__SCALAR = declare('add_.Scalar', ['self:Tensor', 'other:Scalar', 'alpha:Scalar'], true);
const SUB_TENSOR = declare('sub.Tensor', ['self:Tensor', 'other:Tensor', 'alpha:Scalar']);
const SUB_SCALAR = declare('sub.Scalar', ['self:Tensor', 'other:Scalar', 'alpha:Scalar']);
const SUB__TENSOR = declare('sub_.Tensor', ['self:Tensor', 'other:Tensor', 'alpha:Scalar'], true);
const SUB__SCALAR = declare('sub_.Scalar', ['self:Tensor', 'other:Scalar', 'alpha:Scalar'], true);
const MUL_TENSOR = declare('mul.Tensor', ['self:Tensor', 'other:Tensor']);
const MUL_SCALAR = declare('mul.Scalar', ['self:Tensor', 'other:Scalar']);
const DIV_TENSOR = declare('div.Tensor', ['self:Tensor', 'other:Tensor']);
const DIV_SCALAR = declare('div.Scalar', ['self:Tensor', 'other:Scalar']);
const POW_TENSOR_TENSOR = declare('pow.Tensor_Tensor', ['self:Tensor', 'exponent:Tensor']);
const POW_TENSOR_SCALAR = declare('pow.Tensor_Scalar', ['self:Tensor', 'exponent:Scalar']);
const NEG = declare('neg', ['self:Tensor']);
const ABS = declare('abs', ['self:Tensor']);
const SQRT = declare('sqrt', ['self:Tensor']);
const SQUARE = declare('square', ['self:Tensor']);
const EXP = declare('exp', ['self:Tensor']);
const LOG = declare('log', ['self:Tensor']);
const SIN = declare('sin', ['self:Tensor']);
const COS = declare('cos', ['self:Tensor']);
const SIGMOID = declare('sigmoid', ['self:Tensor']);
const SIGMOID_ = declare('sigmoid_', ['self:Tensor'], true);
const SILU = declare('silu', ['self:Tensor']);
const GELU = declare('gelu', ['self:Tensor', 'approximate:str']);
const CLAMP = declare('clamp', ['self:Tensor', 'min:Scalar?', 'max:Scalar?']);
const MAXIMUM = declare('maximum', ['self:Tensor', 'other:Tensor']);
const ISFINITE = declare('isfinite', ['self:Tensor']);
const LT_TENSOR = declare('lt.Tensor', ['self:Tensor', 'other:Tensor']);
const LT_SCALAR = declare('lt.Scalar', ['self:Tensor', 'other:Scalar']);
const LE_TENSOR = declare('le.Tensor', ['self:Tensor', 'other:Tensor']);
const LE_SCALAR = declare('le.Scalar', ['self:Tensor', 'other:Scalar']);
const GT_TENSOR = declare('gt.Tensor', ['self:Tensor', 'other:Tensor']);
const GT_SCALAR = declare('gt.Scalar', ['self:Tensor', 'other:Scalar']);
const GE_TENSOR = declare('ge.Tensor', ['self:Tensor', 'other:Tensor']);
const GE_SCALAR = declare('ge.Scalar', ['self:Tensor', 'other:Scalar']);
const LOGICAL_NOT = declare('logical_not', ['self:Tensor']);
const LOGICAL_AND = declare('logical_and', ['self:Tensor', 'other:Tensor']);
const WHERE_SELF = declare('where.self', ['condition:Tensor', 'self:Tensor', 'other:Tensor']);
const MASKED_FILL_SCALAR = declare('masked_fill.Scalar', ['self:Tensor', 'mask:Tensor', 'value:Scalar']);
const SUM_DIM_INTLIST = declare('sum.dim_IntList', ['self:Tensor', 'dim:int[]?', 'keepdim:bool', 'dtype:ScalarType?']);
const MEAN_DIM = declare('mean.dim', ['self:Tensor', 'dim:int[]?', 'keepdim:bool', 'dtype:ScalarType?']);
const AMAX = declare('amax', ['self:Tensor', 'dim:int[1]', 'keepdim:bool']);
const AMIN = declare('amin', ['self:Tensor', 'dim:int[1]', 'keepdim:bool']);
const MAX = declare('max', ['self:Tensor']);
const ARGMAX = declare('argmax', ['self:Tensor', 'dim:int?', 'keepdim:bool']);
const CUMSUM = declare('cumsum', ['self:Tensor', 'dim:int', 'dtype:ScalarType?']);
const VAR_CORRECTION = declare('var.correction', ['self:Tensor', 'dim:int[]?', 'correction:Scalar?', 'keepdim:bool']);
const SOFTMAX_INT = declare('softmax.int', ['self:Tensor', 'dim:int', 'dtype:ScalarType?']);
const LINALG_VECTOR_NORM = declare('linalg_vector_norm', ['self:Tensor', 'ord:Scalar', 'dim:int[]?', 'keepdim:bool', 'dtype:ScalarType?']);
const TOPK = declare('topk', ['self:Tensor', 'k:int', 'dim:int', 'largest:bool', 'sorted:bool']);
const SORT = declare('sort', ['self:Tensor', 'dim:int', 'descending:bool']);
const MATMUL = declare('matmul', ['self:Tensor', 'other:Tensor']);
const LINEAR = declare('linear', ['input:Tensor', 'weight:Tensor', 'bias:Tensor?']);
const VIEW = declare('view', ['self:Tensor', 'size:int[]']);
const VIEW_DTYPE = declare('view.dtype', ['self:Tensor', 'dtype:ScalarType']);
const RESHAPE = declare('reshape', ['self:Tensor', 'shape:int[]']);
const FLATTEN_USING_INTS = declare('flatten.using_ints', ['self:Tensor', 'start_dim:int', 'end_dim:int']);
const TRANSPOSE_INT = declare('transpose.int', ['self:Tensor', 'dim0:int', 'dim1:int']);
const PERMUTE = declare('permute', ['self:Tensor', 'dims:int[]']);
const EXPAND = declare('expand', ['self:Tensor', 'size:int[]', 'implicit:bool']);
const CONTIGUOUS = declare('contiguous', ['self:Tensor', 'memory_format:MemoryFormat']);
const UNSQUEEZE = declare('unsqueeze', ['self:Tensor', 'dim:int']);
const SQUEEZE_DIM = declare('squeeze.dim', ['self:Tensor', 'dim:int']);
const AS_STRIDED = declare('as_strided', ['self:Tensor', 'size:int[]', 'stride:int[]', 'storage_offset:int?']);
const CAT = declare('cat', ['tensors:Tensor[]', 'dim:int']);
const STACK = declare('stack', ['tensors:Tensor[]', 'dim:int']);
const SPLIT_WITH_SIZES = declare('split_with_sizes', ['self:Tensor', 'split_sizes:int[]', 'dim:int']);
const SET__SOURCE_TENSOR_STORAGE_OFFSET = declare('set_.source_Tensor_storage_offset', ['self:Tensor', 'source:Tensor', 'storage_offset:int', 'size:int[]', 'stride:int[]'], true);
const NARROW = declare('narrow', ['self:Tensor', 'dim:int', 'start:int', 'length:int']);
const SLICE_TENSOR = declare('slice.Tensor', ['self:Tensor', 'dim:int', 'start:int?', 'end:int?', 'step:int']);
const SELECT_INT = declare('select.int', ['self:Tensor', 'dim:int', 'index:int']);
const TRIU = declare('triu', ['self:Tensor', 'diagonal:int']);
const INDEX_SELECT = declare('index_select', ['self:Tensor', 'dim:int', 'index:Tensor']);
const INDEX_COPY = declare('index_copy', ['self:Tensor', 'dim:int', 'index:Tensor', 'source:Tensor']);
const INDEX_COPY_ = declare('index_copy_', ['self:Tensor', 'dim:int', 'index:Tensor', 'source:Tensor'], true);
const SCATTER_SRC = declare('scatter.src', ['self:Tensor', 'dim:int', 'index:Tensor', 'src:Tensor']);
const SCATTER_VALUE = declare('scatter.value', ['self:Tensor', 'dim:int', 'index:Tensor', 'value:Scalar']);
const SCATTER__SRC = declare('scatter_.src', ['self:Tensor', 'dim:int', 'index:Tensor', 'src:Tensor'], true);
const SCATTER__VALUE = declare('scatter_.value', ['self:Tensor', 'dim:int', 'index:Tensor', 'value:Scalar'], true);
const EMBEDDING = declare('embedding', ['weight:Tensor', 'indices:Tensor', 'padding_idx:int', 'scale_grad_by_freq:bool', 'sparse:bool']);
const NATIVE_LAYER_NORM = declare('native_layer_norm', ['input:Tensor', 'normalized_shape:int[]', 'weight:Tensor?', 'bias:Tensor?', 'eps:float']);
const _FUSED_RMS_NORM = declare('_fused_rms_norm', ['input:Tensor', 'normalized_shape:int[]', 'weight:Tensor?', 'eps:float?']);
const CONVOLUTION = declare('convolution', ['input:Tensor', 'weight:Tensor', 'bias:Tensor?', 'stride:int[]', 'padding:int[]', 'dilation:int[]', 'transposed:bool', 'output_padding:int[]', 'groups:int']);
const UPSAMPLE_BILINEAR2D = declare('upsample_bilinear2d', ['self:Tensor', 'output_size:int[2]', 'align_corners:bool', 'scales_h:float?', 'scales_w:float?']);
const CROSS_ENTROPY_LOSS = declare('cross_entropy_loss', ['self:Tensor', 'target:Tensor', 'weight:Tensor?', 'reduction:int', 'ignore_index:int', 'label_smoothing:float']);
const _SCALED_DOT_PRODUCT_FLASH_ATTENTION_FOR_CPU = declare('_scaled_dot_product_flash_attention_for_cpu', ['query:Tensor', 'key:Tensor', 'value:Tensor', 'dropout_p:float', 'is_causal:bool', 'attn_mask:Tensor?', 'scale:float?']);
const _SCALED_DOT_PRODUCT_CUDNN_ATTENTION = declare('_scaled_dot_product_cudnn_attention', ['query:Tensor', 'key:Tensor', 'value:Tensor', 'attn_bias:Tensor?', 'compute_log_sumexp:bool', 'dropout_p:float', 'is_causal:bool', 'return_debug_mask:bool', 'scale:float?']);
const _SCALED_DOT_PRODUCT_EFFICIENT_ATTENTION = declare('_scaled_dot_product_efficient_attention', ['query:Tensor', 'key:Tensor', 'value:Tensor', 'attn_bias:Tensor?', 'compute_log_sumexp:bool', 'dropout_p:float', 'is_causal:bool', 'scale:float?']);
const _FLASH_ATTENTION_FORWARD = declare('_flash_attention_forward', ['query:Tensor', 'key:Tensor', 'value:Tensor', 'cum_seq_q:Tensor?', 'cum_seq_k:Tensor?', 'max_q:int', 'max_k:int', 'dropout_p:float', 'is_causal:bool', 'return_debug_mask:bool', 'scale:float?', 'window_size_left:int?', 'window_size_right:int?', 'seqused_k:Tensor?', 'alibi_slopes:Tensor?']);
const _FUSED_RMS_NORM_BACKWARD = declare('_fused_rms_norm_backward', ['grad_out:Tensor', 'input:Tensor', 'normalized_shape:int[]', 'rstd:Tensor', 'weight:Tensor?', 'output_mask:bool[2]']);
const _SCALED_DOT_PRODUCT_FLASH_ATTENTION_FOR_CPU_BACKWARD = declare('_scaled_dot_product_flash_attention_for_cpu_backward', ['grad_out:Tensor', 'query:Tensor', 'key:Tensor', 'value:Tensor', 'out:Tensor', 'logsumexp:Tensor', 'dropout_p:float', 'is_causal:bool', 'attn_mask:Tensor?', 'scale:float?']);
const _FLASH_ATTENTION_BACKWARD = declare('_flash_attention_backward', ['grad_out:Tensor', 'query:Tensor', 'key:Tensor', 'value:Tensor', 'out:Tensor', 'logsumexp:Tensor', 'cum_seq_q:Tensor', 'cum_seq_k:Tensor', 'max_q:int', 'max_k:int', 'dropout_p:float', 'is_causal:bool', 'rng_state:Tensor', 'unused:Tensor', 'scale:float?', 'window_size_left:int?', 'window_size_right:int?']);
const PATINA__CUDNN_ATTENTION_BACKWARD = declare('patina::cudnn_attention_backward', ['grad:Tensor', 'q:Tensor', 'k:Tensor', 'v:Tensor', 'out:Tensor', 'lse:Tensor', 'seed:Tensor', 'offset:Tensor', 'causal:bool', 'scale:float?']);
const PATINA__ADD_RMS_NORM_ = declare('patina::add_rms_norm_', ['self:Tensor', 'other:Tensor?', 'weight:Tensor', 'eps:float']);
const PATINA__RMS_NORM_BACKWARD_ = declare('patina::rms_norm_backward_', ['self:Tensor', 'x:Tensor', 'weight:Tensor', 'rstd:Tensor', 'other:Tensor?'], true);
const PATINA__ROTARY_ = declare('patina::rotary_', ['self:Tensor', 'cos:Tensor', 'sin:Tensor', 'heads:int'], true);
const PATINA__ROTARY_BACKWARD = declare('patina::rotary_backward', ['q:Tensor', 'k:Tensor', 'v:Tensor', 'cos:Tensor', 'sin:Tensor']);
const PATINA__SIDE_BY_SIDE = declare('patina::side_by_side', ['parts:Tensor[]']);
const PATINA__PROJECT = declare('patina::project', ['x:Tensor', 'weights:Tensor[]', 'biases:Tensor?[]']);
const PATINA__PROJECT_ADD_ = declare('patina::project_add_', ['self:Tensor', 'x:Tensor', 'weights:Tensor[]', 'biases:Tensor?[]'], true);
const PATINA__PROJECT_BACKWARD = declare('patina::project_backward', ['g:Tensor', 'weights:Tensor[]']);
const PATINA__PROJECT_BACKWARD_ADD_ = declare('patina::project_backward_add_', ['self:Tensor', 'g:Tensor', 'weights:Tensor[]'], true);
const PATINA__ADD_LOW_RANK_ = declare('patina::add_low_rank_', ['self:Tensor', 'z:Tensor', 'b:Tensor[]', 'starts:int[]', 'scaling:float[]'], true);
const PATINA__LOW_RANK_BACKWARD = declare('patina::low_rank_backward', ['g:Tensor', 'b:Tensor[]', 'starts:int[]', 'scaling:float[]']);
const PATINA__LOW_RANK_GRADIENTS = declare('patina::low_rank_gradients', ['g:Tensor', 'z:Tensor', 'b:Tensor[]', 'starts:int[]', 'scaling:float[]']);
const PATINA__PRODUCT_INTO_ = declare('patina::product_into_', ['self:Tensor', 'a:Tensor', 'b:Tensor', 'adds:bool'], true);
const PATINA__DROPPED_PRODUCT = declare('patina::dropped_product', ['x:Tensor', 'a:Tensor[]', 'p:float', 'records:Tensor', 'indices:Tensor', 'key:int[]', 'layers:int[]']);
const PATINA__DROPPED_GRADIENTS = declare('patina::dropped_gradients', ['dz:Tensor', 'x:Tensor', 'ranks:int[]', 'p:float', 'records:Tensor', 'indices:Tensor', 'key:int[]', 'layers:int[]']);
const PATINA__ADD_DROPPED_ = declare('patina::add_dropped_', ['self:Tensor', 'dz:Tensor', 'a:Tensor[]', 'p:float', 'records:Tensor', 'indices:Tensor', 'key:int[]', 'layers:int[]'], true);
const PATINA__SWIGLU_LOW_RANK = declare('patina::swiglu_low_rank', ['self:Tensor', 'z_gate:Tensor', 'z_up:Tensor', 'b_gate:Tensor', 'b_up:Tensor', 'scale_gate:float', 'scale_up:float']);
const PATINA__SWIGLU_LOW_RANK_BACKWARD_ = declare('patina::swiglu_low_rank_backward_', ['self:Tensor', 'grad:Tensor', 'z_gate:Tensor', 'z_up:Tensor', 'b_gate:Tensor', 'b_up:Tensor', 'scale_gate:float', 'scale_up:float', 'dz:Tensor?', 'a:Tensor?']);
const PATINA__CROSS_ENTROPY_ = declare('patina::cross_entropy_', ['self:Tensor', 'targets:Tensor', 'factor:Tensor?']);
const PATINA__SWIGLU = declare('patina::swiglu', ['self:Tensor']);
const PATINA__SWIGLU_BACKWARD_ = declare('patina::swiglu_backward_', ['self:Tensor', 'grad:Tensor']);
const PATINA__NF4_QUANTISE = declare('patina::nf4_quantise', ['self:Tensor', 'code:Tensor']);
const PATINA__NF4_QUANTISE_SCALES = declare('patina::nf4_quantise_scales', ['absmax:Tensor', 'code:Tensor']);
const PATINA__NF4_DEQUANTISE_ = declare('patina::nf4_dequantise_', ['self:Tensor', 'packed:Tensor', 'absmax:Tensor', 'code:Tensor', 'nested:Tensor?', 'nested_code:Tensor?', 'offset:Tensor?', 'type:ScalarType?'], true);
const PATINA__NF4_LINEAR = declare('patina::nf4_linear', ['self:Tensor', 'out_features:int', 'bias:Tensor?', 'packed:Tensor', 'absmax:Tensor', 'code:Tensor', 'nested:Tensor?', 'nested_code:Tensor?', 'offset:Tensor?', 'type:ScalarType?']);
const PATINA__QUANTISE_ROWS_FP8 = declare('patina::quantise_rows_fp8', ['self:Tensor', 'factors:Tensor?', 'type:ScalarType']);
const PATINA__ADD_RMS_NORM_FP8_ = declare('patina::add_rms_norm_fp8_', ['self:Tensor', 'other:Tensor?', 'weight:Tensor', 'eps:float']);
const PATINA__SWIGLU_FP8 = declare('patina::swiglu_fp8', ['self:Tensor']);
const PATINA__FP8_TRANSPOSE = declare('patina::fp8_transpose', ['codes:Tensor[]']);
const PATINA__FP8_PRODUCT = declare('patina::fp8_product', ['self:Tensor', 'other:Tensor', 'scales:Tensor', 'other_scales:Tensor?', 'type:ScalarType']);
const PATINA__FP8_PROJECT = declare('patina::fp8_project', ['x:Tensor', 'x_scales:Tensor', 'codes:Tensor[]', 'scales:Tensor[]', 'biases:Tensor?[]', 'type:ScalarType']);
const PATINA__FP8_PROJECT_BACKWARD = declare('patina::fp8_project_backward', ['g:Tensor', 'codes:Tensor[]', 'scales:Tensor[]', 'type:ScalarType']);
const PATINA__FP8_LINEAR = declare('patina::fp8_linear', ['self:Tensor', 'bias:Tensor?', 'codes:Tensor', 'scales:Tensor']);
const EMPTY_MEMORY_FORMAT = declare('empty.memory_format', ['size:int[]', 'dtype:ScalarType?', 'layout:Layout?', 'device:Device?', 'pin_memory:bool?', 'memory_format:MemoryFormat?']);
const ZEROS = declare('zeros', ['size:int[]', 'dtype:ScalarType?', 'layout:Layout?', 'device:Device?', 'pin_memory:bool?']);
const ONES = declare('ones', ['size:int[]', 'dtype:ScalarType?', 'layout:Layout?', 'device:Device?', 'pin_memory:bool?']);
const FULL = declare('full', ['size:int[]', 'fill_value:Scalar', 'dtype:ScalarType?', 'layout:Layout?', 'device:Device?', 'pin_memory:bool?']);
const ARANGE_START_STEP = declare('arange.start_step', ['start:Scalar', 'end:Scalar', 'step:Scalar', 'dtype:ScalarType?', 'layout:Layout?', 'device:Device?', 'pin_memory:bool?']);
const RANDN_GENERATOR = declare('randn.generator', ['size:int[]', 'generator:Generator?', 'dtype:ScalarType?', 'layout:Layout?', 'device:Device?', 'pin_memory:bool?']);
const EMPTY_LIKE = declare('empty_like', ['self:Tensor', 'dtype:ScalarType?', 'layout:Layout?', 'device:Device?', 'pin_memory:bool?', 'memory_format:MemoryFormat?']);
const ZEROS_LIKE = declare('zeros_like', ['self:Tensor', 'dtype:ScalarType?', 'layout:Layout?', 'device:Device?', 'pin_memory:bool?', 'memory_format:MemoryFormat?']);
const FULL_LIKE = declare('full_like', ['self:Tensor', 'fill_value:Scalar', 'dtype:ScalarType?', 'layout:Layout?', 'device:Device?', 'pin_memory:bool?', 'memory_format:MemoryFormat?']);
const CLONE = declare('clone', ['self:Tensor', 'memory_format:MemoryFormat?']);
const DETACH = declare('detach', ['self:Tensor']);
const COPY_ = declare('copy_', ['self:Tensor', 'src:Tensor', 'non_blocking:bool'], true);
const PATINA__OVERWRITE_ = declare('patina::overwrite_', ['self:Tensor', 'source:Tensor'], true);
const FILL__SCALAR = declare('fill_.Scalar', ['self:Tensor', 'value:Scalar'], true);
const ZERO_ = declare('zero_', ['self:Tensor'], true);
const _TO_COPY = declare('_to_copy', ['self:Tensor', 'dtype:ScalarType?', 'layout:Layout?', 'device:Device?', 'pin_memory:bool?', 'non_blocking:bool', 'memory_format:MemoryFormat?']);
const PIN_MEMORY = declare('pin_memory', ['self:Tensor', 'device:Device?']);
const NORMAL_ = declare('normal_', ['self:Tensor', 'mean:float', 'std:float', 'generator:Generator?'], true);
const UNIFORM_ = declare('uniform_', ['self:Tensor', 'from:float', 'to:float', 'generator:Generator?'], true);
const MULTINOMIAL = declare('multinomial', ['self:Tensor', 'num_samples:int', 'replacement:bool', 'generator:Generator?']);
const PATINA__DROPOUT = declare('patina::dropout', ['self:Tensor', 'p:float', 'records:Tensor', 'indices:Tensor', 'key:int[]', 'layer:int']);
const PATINA__ROUND_STOCHASTIC_ = declare('patina::round_stochastic_', ['self:Tensor', 'source:Tensor', 'key:int[]', 'from:int'], true);
const _FOREACH_ADD__LIST = declare('_foreach_add_.List', ['self:Tensor[]', 'other:Tensor[]', 'alpha:Scalar']);
const _FOREACH_ADD__SCALAR = declare('_foreach_add_.Scalar', ['self:Tensor[]', 'scalar:Scalar']);
const _FOREACH_COPY_ = declare('_foreach_copy_', ['self:Tensor[]', 'src:Tensor[]', 'non_blocking:bool']);
const _FOREACH_NORM_SCALAR = declare('_foreach_norm.Scalar', ['self:Tensor[]', 'ord:Scalar', 'dtype:ScalarType?']);
const PATINA__ADAMW_ = declare('patina::adamw_', ['self:Tensor[]', 'grads:Tensor[]', 'exp_avgs:Tensor[]', 'exp_avg_sqs:Tensor[]', 'rounded:Tensor[]', 'state_steps:Tensor[]', 'lr:float', 'beta1:float', 'beta2:float', 'weight_decay:float', 'eps:float', 'keys:int[]', 'first:int[]', 'grad_scale:Tensor?', 'found_inf:Tensor?']);
const PATINA__ADAMW_INT8_ = declare('patina::adamw_int8_', ['self:Tensor[]', 'grads:Tensor[]', 'exp_avgs:Tensor[]', 'exp_avg_absmax:Tensor[]', 'exp_avg_sqs:Tensor[]', 'exp_avg_sq_absmax:Tensor[]', 'rounded:Tensor[]', 'state_steps:Tensor[]', 'lr:float', 'beta1:float', 'beta2:float', 'weight_decay:float', 'eps:float', 'keys:int[]', 'first:int[]', 'grad_scale:Tensor?', 'found_inf:Tensor?']);
const PATINA__DYNAMIC_QUANTISE = declare('patina::dynamic_quantise', ['self:Tensor', 'signed:bool']);
const PATINA__DYNAMIC_DEQUANTISE = declare('patina::dynamic_dequantise', ['self:Tensor', 'absmax:Tensor', 'signed:bool']);

/** The operators whose first argument is the tensor itself. */
export abstract class TensorOperators {
  abstract handle: number;

  /**
   * self + alpha * other.
   *
   * `aten::add.Tensor(Tensor self, Tensor other, *, Scalar alpha=1)`
   * `aten::add.Scalar(Tensor self, Scalar other, Scalar alpha=1)`
   */
  add(other: Tensor | Scalar, { alpha = 1 }: { alpha?: Scalar | undefined } = {}): Tensor {
    if (typeof other === 'object') {
      B[0] = this.handle;
      B[1] = other?.handle;
      putScalar(2, alpha);
      return callTensor(ADD_TENSOR);
    }
    B[0] = this.handle;
    putScalar(1, other);
    putScalar(3, alpha);
    return callTensor(ADD_SCALAR);
  }

  /**
   * Adds alpha * other in place.
   *
   * `aten::add_.Tensor(Tensor self, Tensor other, *, Scalar alpha=1)`
   * `aten::add_.Scalar(Tensor self, Scalar other, Scalar alpha=1)`
   */
  add_(other: Tensor | Scalar, { alpha = 1 }: { alpha?: Scalar | undefined } = {}): this {
    if (typeof other === 'object') {
      B[0] = this.handle;
      B[1] = other?.handle;
      putScalar(2, alpha);
      call(ADD__TENSOR);
      return this;
    }
    B[0] = this.handle;
    putScalar(1, other);
    putScalar(3, alpha);
    call(ADD__SCALAR);
    return this;
  }

  /**
   * self - alpha * other.
   *
   * `aten::sub.Tensor(Tensor self, Tensor other, *, Scalar alpha=1)`
   * `aten::sub.Scalar(Tensor self, Scalar other, Scalar alpha=1)`
   */
  sub(other: Tensor | Scalar, { alpha = 1 }: { alpha?: Scalar | undefined } = {}): Tensor {
    if (typeof other === 'object') {
      B[0] = this.handle;
      B[1] = other?.handle;
      putScalar(2, alpha);
      return callTensor(SUB_TENSOR);
    }
    B[0] = this.handle;
    putScalar(1, other);
    putScalar(3, alpha);
    return callTensor(SUB_SCALAR);
  }

  /**
   * Subtracts alpha * other in place.
   *
   * `aten::sub_.Tensor(Tensor self, Tensor other, *, Scalar alpha=1)`
   * `aten::sub_.Scalar(Tensor self, Scalar other, Scalar alpha=1)`
   */
  sub_(other: Tensor | Scalar, { alpha = 1 }: { alpha?: Scalar | undefined } = {}): this {
    if (typeof other === 'object') {
      B[0] = this.handle;
      B[1] = other?.handle;
      putScalar(2, alpha);
      call(SUB__TENSOR);
      return this;
    }
    B[0] = this.handle;
    putScalar(1, other);
    putScalar(3, alpha);
    call(SUB__SCALAR);
    return this;
  }

  /**
   * self * other.
   *
   * `aten::mul.Tensor(Tensor self, Tensor other)`
   * `aten::mul.Scalar(Tensor self, Scalar other)`
   */
  mul(other: Tensor | Scalar): Tensor {
    if (typeof other === 'object') {
      B[0] = this.handle;
      B[1] = other?.handle;
      return callTensor(MUL_TENSOR);
    }
    B[0] = this.handle;
    putScalar(1, other);
    return callTensor(MUL_SCALAR);
  }

  /**
   * self / other, true division.
   *
   * `aten::div.Tensor(Tensor self, Tensor other)`
   * `aten::div.Scalar(Tensor self, Scalar other)`
   */
  div(other: Tensor | Scalar): Tensor {
    if (typeof other === 'object') {
      B[0] = this.handle;
      B[1] = other?.handle;
      return callTensor(DIV_TENSOR);
    }
    B[0] = this.handle;
    putScalar(1, other);
    return callTensor(DIV_SCALAR);
  }

  /**
   * self to the power of exponent.
   *
   * `aten::pow.Tensor_Tensor(Tensor self, Tensor exponent)`
   * `aten::pow.Tensor_Scalar(Tensor self, Scalar exponent)`
   */
  pow(exponent: Tensor | Scalar): Tensor {
    if (typeof exponent === 'object') {
      B[0] = this.handle;
      B[1] = exponent?.handle;
      return callTensor(POW_TENSOR_TENSOR);
    }
    B[0] = this.handle;
    putScalar(1, exponent);
    return callTensor(POW_TENSOR_SCALAR);
  }

  /**
   * -self.
   *
   * `aten::neg(Tensor self)`
   */
  neg(): Tensor {
    B[0] = this.handle;
    return callTensor(NEG);
  }

  /**
   * Absolute value.
   *
   * `aten::abs(Tensor self)`
   */
  abs(): Tensor {
    B[0] = this.handle;
    return callTensor(ABS);
  }

  /**
   * Square root.
   *
   * `aten::sqrt(Tensor self)`
   */
  sqrt(): Tensor {
    B[0] = this.handle;
    return callTensor(SQRT);
  }

  /**
   * self * self.
   *
   * `aten::square(Tensor self)`
   */
  square(): Tensor {
    B[0] = this.handle;
    return callTensor(SQUARE);
  }

  /**
   * Exponential.
   *
   * `aten::exp(Tensor self)`
   */
  exp(): Tensor {
    B[0] = this.handle;
    return callTensor(EXP);
  }

  /**
   * Natural logarithm.
   *
   * `aten::log(Tensor self)`
   */
  log(): Tensor {
    B[0] = this.handle;
    return callTensor(LOG);
  }

  /**
   * Sine.
   *
   * `aten::sin(Tensor self)`
   */
  sin(): Tensor {
    B[0] = this.handle;
    return callTensor(SIN);
  }

  /**
   * Cosine.
   *
   * `aten::cos(Tensor self)`
   */
  cos(): Tensor {
    B[0] = this.handle;
    return callTensor(COS);
  }

  /**
   * 1 / (1 + exp(-self)).
   *
   * `aten::sigmoid(Tensor self)`
   */
  sigmoid(): Tensor {
    B[0] = this.handle;
    return callTensor(SIGMOID);
  }

  /**
   * 1 / (1 + exp(-self)), in place.
   *
   * `aten::sigmoid_(Tensor self)`
   */
  sigmoid_(): this {
    B[0] = this.handle;
    call(SIGMOID_);
    return this;
  }

  /**
   * self * sigmoid(self).
   *
   * `aten::silu(Tensor self)`
   */
  silu(): Tensor {
    B[0] = this.handle;
    return callTensor(SILU);
  }

  /**
   * Gaussian error linear unit; approximate 'none' (erf) or 'tanh'.
   *
   * `aten::gelu(Tensor self, *, str approximate=none)`
   */
  gelu({ approximate = 'none' }: { approximate?: string | undefined } = {}): Tensor {
    B[0] = this.handle;
    B[1] = stringArgument(approximate);
    return callTensor(GELU);
  }

  /**
   * Limits to [min, max].
   *
   * `aten::clamp(Tensor self, Scalar? min=None, Scalar? max=None)`
   */
  clamp(min?: Scalar | null, max?: Scalar | null): Tensor {
    B[0] = this.handle;
    putScalar(1, min);
    putScalar(3, max);
    return callTensor(CLAMP);
  }

  /**
   * Larger of two, elementwise.
   *
   * `aten::maximum(Tensor self, Tensor other)`
   */
  maximum(other: Tensor): Tensor {
    B[0] = this.handle;
    B[1] = other?.handle;
    return callTensor(MAXIMUM);
  }

  /**
   * Whether neither NaN nor infinite.
   *
   * `aten::isfinite(Tensor self)`
   */
  isfinite(): Tensor {
    B[0] = this.handle;
    return callTensor(ISFINITE);
  }

  /**
   * self < other.
   *
   * `aten::lt.Tensor(Tensor self, Tensor other)`
   * `aten::lt.Scalar(Tensor self, Scalar other)`
   */
  lt(other: Tensor | Scalar): Tensor {
    if (typeof other === 'object') {
      B[0] = this.handle;
      B[1] = other?.handle;
      return callTensor(LT_TENSOR);
    }
    B[0] = this.handle;
    putScalar(1, other);
    return callTensor(LT_SCALAR);
  }

  /**
   * self <= other.
   *
   * `aten::le.Tensor(Tensor self, Tensor other)`
   * `aten::le.Scalar(Tensor self, Scalar other)`
   */
  le(other: Tensor | Scalar): Tensor {
    if (typeof other === 'object') {
      B[0] = this.handle;
      B[1] = other?.handle;
      return callTensor(LE_TENSOR);
    }
    B[0] = this.handle;
    putScalar(1, other);
    return callTensor(LE_SCALAR);
  }

  /**
   * self > other.
   *
   * `aten::gt.Tensor(Tensor self, Tensor other)`
   * `aten::gt.Scalar(Tensor self, Scalar other)`
   */
  gt(other: Tensor | Scalar): Tensor {
    if (typeof other === 'object') {
      B[0] = this.handle;
      B[1] = other?.handle;
      return callTensor(GT_TENSOR);
    }
    B[0] = this.handle;
    putScalar(1, other);
    return callTensor(GT_SCALAR);
  }

  /**
   * self >= other.
   *
   * `aten::ge.Tensor(Tensor self, Tensor other)`
   * `aten::ge.Scalar(Tensor self, Scalar other)`
   */
  ge(other: Tensor | Scalar): Tensor {
    if (typeof other === 'object') {
      B[0] = this.handle;
      B[1] = other?.handle;
      return callTensor(GE_TENSOR);
    }
    B[0] = this.handle;
    putScalar(1, other);
    return callTensor(GE_SCALAR);
  }

  /**
   * Boolean not.
   *
   * `aten::logical_not(Tensor self)`
   */
  logicalNot(): Tensor {
    B[0] = this.handle;
    return callTensor(LOGICAL_NOT);
  }

  /**
   * Boolean and.
   *
   * `aten::logical_and(Tensor self, Tensor other)`
   */
  logicalAnd(other: Tensor): Tensor {
    B[0] = this.handle;
    B[1] = other?.handle;
    return callTensor(LOGICAL_AND);
  }

  /**
   * value where the mask holds, else self.
   *
   * `aten::masked_fill.Scalar(Tensor self, Tensor mask, Scalar value)`
   */
  maskedFill(mask: Tensor, value: Scalar): Tensor {
    B[0] = this.handle;
    B[1] = mask?.handle;
    putScalar(2, value);
    return callTensor(MASKED_FILL_SCALAR);
  }

  /**
   * Sum over dimensions (null: all).
   *
   * `aten::sum.dim_IntList(Tensor self, int[]? dim, bool keepdim=False, *, ScalarType? dtype=None)`
   */
  sum(dim: readonly number[] | null, keepdim: boolean = false, { dtype }: { dtype?: DType | null | undefined } = {}): Tensor {
    B[0] = this.handle;
    let n = putNumbers(1, dim);
    B[n] = booleanArgument(keepdim);
    B[n + 1] = dtypeArgument(dtype);
    return callTensor(SUM_DIM_INTLIST);
  }

  /**
   * Mean over dimensions (null: all).
   *
   * `aten::mean.dim(Tensor self, int[]? dim, bool keepdim=False, *, ScalarType? dtype=None)`
   */
  mean(dim: readonly number[] | null, keepdim: boolean = false, { dtype }: { dtype?: DType | null | undefined } = {}): Tensor {
    B[0] = this.handle;
    let n = putNumbers(1, dim);
    B[n] = booleanArgument(keepdim);
    B[n + 1] = dtypeArgument(dtype);
    return callTensor(MEAN_DIM);
  }

  /**
   * Largest element over dimensions ([]: all).
   *
   * `aten::amax(Tensor self, int[1] dim=[], bool keepdim=False)`
   */
  amax(dim: readonly number[] = [], keepdim: boolean = false): Tensor {
    B[0] = this.handle;
    let n = putNumbers(1, dim);
    B[n] = booleanArgument(keepdim);
    return callTensor(AMAX);
  }

  /**
   * Smallest element over dimensions ([]: all).
   *
   * `aten::amin(Tensor self, int[1] dim=[], bool keepdim=False)`
   */
  amin(dim: readonly number[] = [], keepdim: boolean = false): Tensor {
    B[0] = this.handle;
    let n = putNumbers(1, dim);
    B[n] = booleanArgument(keepdim);
    return callTensor(AMIN);
  }

  /**
   * Largest element of all.
   *
   * `aten::max(Tensor self)`
   */
  max(): Tensor {
    B[0] = this.handle;
    return callTensor(MAX);
  }

  /**
   * Where the largest element is.
   *
   * `aten::argmax(Tensor self, int? dim=None, bool keepdim=False)`
   */
  argmax(dim?: number | null, keepdim: boolean = false): Tensor {
    B[0] = this.handle;
    B[1] = optionalInteger(dim);
    B[2] = booleanArgument(keepdim);
    return callTensor(ARGMAX);
  }

  /**
   * Running sum along a dimension.
   *
   * `aten::cumsum(Tensor self, int dim, *, ScalarType? dtype=None)`
   */
  cumsum(dim: number, { dtype }: { dtype?: DType | null | undefined } = {}): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(dim);
    B[2] = dtypeArgument(dtype);
    return callTensor(CUMSUM);
  }

  /**
   * Variance over dimensions.
   *
   * `aten::var.correction(Tensor self, int[]? dim=None, *, Scalar? correction=None, bool keepdim=False)`
   */
  var(dim?: readonly number[] | null, { correction, keepdim = false }: { correction?: Scalar | null | undefined; keepdim?: boolean | undefined } = {}): Tensor {
    B[0] = this.handle;
    let n = putNumbers(1, dim);
    putScalar(n, correction);
    B[n + 2] = booleanArgument(keepdim);
    return callTensor(VAR_CORRECTION);
  }

  /**
   * exp(self) / sum(exp(self)) along a dimension.
   *
   * `aten::softmax.int(Tensor self, int dim, ScalarType? dtype=None)`
   */
  softmax(dim: number, dtype?: DType | null): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(dim);
    B[2] = dtypeArgument(dtype);
    return callTensor(SOFTMAX_INT);
  }

  /**
   * Vector norm of order ord over dimensions.
   *
   * `aten::linalg_vector_norm(Tensor self, Scalar ord=2, int[]? dim=None, bool keepdim=False, *, ScalarType? dtype=None)`
   */
  linalgVectorNorm(ord: Scalar = 2, dim?: readonly number[] | null, keepdim: boolean = false, { dtype }: { dtype?: DType | null | undefined } = {}): Tensor {
    B[0] = this.handle;
    putScalar(1, ord);
    let n = putNumbers(3, dim);
    B[n] = booleanArgument(keepdim);
    B[n + 1] = dtypeArgument(dtype);
    return callTensor(LINALG_VECTOR_NORM);
  }

  /**
   * k largest (or smallest) elements along a dimension, and where.
   *
   * `aten::topk(Tensor self, int k, int dim=-1, bool largest=True, bool sorted=True)`
   */
  topk(k: number, dim: number = -1, largest: boolean = true, sorted: boolean = true): [Tensor, Tensor] {
    B[0] = this.handle;
    B[1] = numberArgument(k);
    B[2] = numberArgument(dim);
    B[3] = booleanArgument(largest);
    B[4] = booleanArgument(sorted);
    call(TOPK);
    return [tensorAt(0), tensorAt(1)];
  }

  /**
   * Sorted elements along a dimension, and where they were.
   *
   * `aten::sort(Tensor self, int dim=-1, bool descending=False)`
   */
  sort(dim: number = -1, descending: boolean = false): [Tensor, Tensor] {
    B[0] = this.handle;
    B[1] = numberArgument(dim);
    B[2] = booleanArgument(descending);
    call(SORT);
    return [tensorAt(0), tensorAt(1)];
  }

  /**
   * Matrix product, batched and broadcast.
   *
   * `aten::matmul(Tensor self, Tensor other)`
   */
  matmul(other: Tensor): Tensor {
    B[0] = this.handle;
    B[1] = other?.handle;
    return callTensor(MATMUL);
  }

  /**
   * The same data in another shape.
   *
   * `aten::view(Tensor self, int[] size)`
   */
  view(size: readonly number[]): Tensor {
    B[0] = this.handle;
    putNumbers(1, size);
    return callTensor(VIEW);
  }

  /**
   * The same bytes as another dtype.
   *
   * `aten::view.dtype(Tensor self, ScalarType dtype)`
   */
  viewAs(dtype: DType): Tensor {
    B[0] = this.handle;
    B[1] = dtypeArgument(dtype);
    return callTensor(VIEW_DTYPE);
  }

  /**
   * The same elements in another shape, copied if need be.
   *
   * `aten::reshape(Tensor self, int[] shape)`
   */
  reshape(shape: readonly number[]): Tensor {
    B[0] = this.handle;
    putNumbers(1, shape);
    return callTensor(RESHAPE);
  }

  /**
   * Merges dimensions.
   *
   * `aten::flatten.using_ints(Tensor self, int start_dim=0, int end_dim=-1)`
   */
  flatten(startDim: number = 0, endDim: number = -1): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(startDim);
    B[2] = numberArgument(endDim);
    return callTensor(FLATTEN_USING_INTS);
  }

  /**
   * Swaps two dimensions.
   *
   * `aten::transpose.int(Tensor self, int dim0, int dim1)`
   */
  transpose(dim0: number, dim1: number): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(dim0);
    B[2] = numberArgument(dim1);
    return callTensor(TRANSPOSE_INT);
  }

  /**
   * Orders the dimensions anew.
   *
   * `aten::permute(Tensor self, int[] dims)`
   */
  permute(dims: readonly number[]): Tensor {
    B[0] = this.handle;
    putNumbers(1, dims);
    return callTensor(PERMUTE);
  }

  /**
   * Repeats dimensions of length 1 without copying.
   *
   * `aten::expand(Tensor self, int[] size, *, bool implicit=False)`
   */
  expand(size: readonly number[], { implicit = false }: { implicit?: boolean | undefined } = {}): Tensor {
    B[0] = this.handle;
    let n = putNumbers(1, size);
    B[n] = booleanArgument(implicit);
    return callTensor(EXPAND);
  }

  /**
   * Dense in memory, copied if need be.
   *
   * `aten::contiguous(Tensor self, *, MemoryFormat memory_format=0)`
   */
  contiguous({ memoryFormat = 'contiguous' }: { memoryFormat?: MemoryFormat | undefined } = {}): Tensor {
    B[0] = this.handle;
    B[1] = formatArgument(memoryFormat);
    return callTensor(CONTIGUOUS);
  }

  /**
   * Inserts a dimension of length 1.
   *
   * `aten::unsqueeze(Tensor self, int dim)`
   */
  unsqueeze(dim: number): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(dim);
    return callTensor(UNSQUEEZE);
  }

  /**
   * Drops a dimension of length 1.
   *
   * `aten::squeeze.dim(Tensor self, int dim)`
   */
  squeeze(dim: number): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(dim);
    return callTensor(SQUEEZE_DIM);
  }

  /**
   * A view by size, stride and offset.
   *
   * `aten::as_strided(Tensor self, int[] size, int[] stride, int? storage_offset=None)`
   */
  asStrided(size: readonly number[], stride: readonly number[], storageOffset?: number | null): Tensor {
    B[0] = this.handle;
    let n = putNumbers(1, size);
    n = putNumbers(n, stride);
    B[n] = optionalInteger(storageOffset);
    return callTensor(AS_STRIDED);
  }

  /**
   * Parts of given lengths along a dimension.
   *
   * `aten::split_with_sizes(Tensor self, int[] split_sizes, int dim=0)`
   */
  splitWithSizes(splitSizes: readonly number[], dim: number = 0): Tensor[] {
    B[0] = this.handle;
    let n = putNumbers(1, splitSizes);
    B[n] = numberArgument(dim);
    call(SPLIT_WITH_SIZES);
    return tensorList();
  }

  /**
   * Becomes a view of the memory of another tensor, with a version count of its own.
   *
   * `aten::set_.source_Tensor_storage_offset(Tensor self, Tensor source, int storage_offset, int[] size, int[] stride=[])`
   */
  setStorage_(source: Tensor, storageOffset: number, size: readonly number[], stride: readonly number[] = []): this {
    B[0] = this.handle;
    B[1] = source?.handle;
    B[2] = numberArgument(storageOffset);
    let n = putNumbers(3, size);
    putNumbers(n, stride);
    call(SET__SOURCE_TENSOR_STORAGE_OFFSET);
    return this;
  }

  /**
   * A range of a dimension.
   *
   * `aten::narrow(Tensor self, int dim, int start, int length)`
   */
  narrow(dim: number, start: number, length: number): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(dim);
    B[2] = numberArgument(start);
    B[3] = numberArgument(length);
    return callTensor(NARROW);
  }

  /**
   * A range of a dimension, with a step.
   *
   * `aten::slice.Tensor(Tensor self, int dim=0, int? start=None, int? end=None, int step=1)`
   */
  slice(dim: number = 0, start?: number | null, end?: number | null, step: number = 1): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(dim);
    B[2] = optionalInteger(start);
    B[3] = optionalInteger(end);
    B[4] = numberArgument(step);
    return callTensor(SLICE_TENSOR);
  }

  /**
   * One index of a dimension.
   *
   * `aten::select.int(Tensor self, int dim, int index)`
   */
  select(dim: number, index: number): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(dim);
    B[2] = numberArgument(index);
    return callTensor(SELECT_INT);
  }

  /**
   * Upper triangle, zeros elsewhere.
   *
   * `aten::triu(Tensor self, int diagonal=0)`
   */
  triu(diagonal: number = 0): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(diagonal);
    return callTensor(TRIU);
  }

  /**
   * Rows of a dimension by index.
   *
   * `aten::index_select(Tensor self, int dim, Tensor index)`
   */
  indexSelect(dim: number, index: Tensor): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(dim);
    B[2] = index?.handle;
    return callTensor(INDEX_SELECT);
  }

  /**
   * self with rows of a dimension replaced by index.
   *
   * `aten::index_copy(Tensor self, int dim, Tensor index, Tensor source)`
   */
  indexCopy(dim: number, index: Tensor, source: Tensor): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(dim);
    B[2] = index?.handle;
    B[3] = source?.handle;
    return callTensor(INDEX_COPY);
  }

  /**
   * Replaces rows of a dimension by index, in place.
   *
   * `aten::index_copy_(Tensor self, int dim, Tensor index, Tensor source)`
   */
  indexCopy_(dim: number, index: Tensor, source: Tensor): this {
    B[0] = this.handle;
    B[1] = numberArgument(dim);
    B[2] = index?.handle;
    B[3] = source?.handle;
    call(INDEX_COPY_);
    return this;
  }

  /**
   * self with elements replaced along a dimension by index.
   *
   * `aten::scatter.src(Tensor self, int dim, Tensor index, Tensor src)`
   * `aten::scatter.value(Tensor self, int dim, Tensor index, Scalar value)`
   */
  scatter(dim: number, index: Tensor, src: Tensor | Scalar): Tensor {
    if (typeof src === 'object') {
      B[0] = this.handle;
      B[1] = numberArgument(dim);
      B[2] = index?.handle;
      B[3] = src?.handle;
      return callTensor(SCATTER_SRC);
    }
    B[0] = this.handle;
    B[1] = numberArgument(dim);
    B[2] = index?.handle;
    putScalar(3, src);
    return callTensor(SCATTER_VALUE);
  }

  /**
   * Replaces elements along a dimension by index, in place.
   *
   * `aten::scatter_.src(Tensor self, int dim, Tensor index, Tensor src)`
   * `aten::scatter_.value(Tensor self, int dim, Tensor index, Scalar value)`
   */
  scatter_(dim: number, index: Tensor, src: Tensor | Scalar): this {
    if (typeof src === 'object') {
      B[0] = this.handle;
      B[1] = numberArgument(dim);
      B[2] = index?.handle;
      B[3] = src?.handle;
      call(SCATTER__SRC);
      return this;
    }
    B[0] = this.handle;
    B[1] = numberArgument(dim);
    B[2] = index?.handle;
    putScalar(3, src);
    call(SCATTER__VALUE);
    return this;
  }

  /**
   * Images (N, C, H, W) in another size, interpolated between their pixels.
   *
   * `aten::upsample_bilinear2d(Tensor self, int[2] output_size, bool align_corners, float? scales_h=None, float? scales_w=None)`
   */
  upsampleBilinear2d(outputSize: readonly number[], alignCorners: boolean, scalesH?: number | null, scalesW?: number | null): Tensor {
    B[0] = this.handle;
    let n = putNumbers(1, outputSize);
    B[n] = booleanArgument(alignCorners);
    optionalFloat(n + 1, scalesH);
    optionalFloat(n + 3, scalesW);
    return callTensor(UPSAMPLE_BILINEAR2D);
  }

  /**
   * Negative log likelihood of class indices; reduction 0 none, 1 mean, 2 sum.
   *
   * `aten::cross_entropy_loss(Tensor self, Tensor target, Tensor? weight=None, int reduction=1, int ignore_index=-100, float label_smoothing=0.)`
   */
  crossEntropyLoss(target: Tensor, weight?: Tensor | null, reduction: number = 1, ignoreIndex: number = -100, labelSmoothing: number = 0): Tensor {
    B[0] = this.handle;
    B[1] = target?.handle;
    B[2] = optionalHandle(weight);
    B[3] = numberArgument(reduction);
    B[4] = numberArgument(ignoreIndex);
    B[5] = numberArgument(labelSmoothing);
    return callTensor(CROSS_ENTROPY_LOSS);
  }

  /**
   * Adds other in place; the root mean square norm of the sum, and 1 / sqrt(mean(self^2) + eps).
   *
   * `patina::add_rms_norm_(Tensor self, Tensor? other, Tensor weight, float eps)`
   */
  addRmsNorm_(other: Tensor | null, weight: Tensor, eps: number): [Tensor, Tensor] {
    B[0] = this.handle;
    B[1] = optionalHandle(other);
    B[2] = weight?.handle;
    B[3] = numberArgument(eps);
    call(PATINA__ADD_RMS_NORM_);
    return [tensorAt(0), tensorAt(1)];
  }

  /**
   * Turns the gradient of a norm into that of its input, plus other's elements, in place.
   *
   * `patina::rms_norm_backward_(Tensor self, Tensor x, Tensor weight, Tensor rstd, Tensor? other)`
   */
  rmsNormBackward_(x: Tensor, weight: Tensor, rstd: Tensor, other: Tensor | null): this {
    B[0] = this.handle;
    B[1] = x?.handle;
    B[2] = weight?.handle;
    B[3] = rstd?.handle;
    B[4] = optionalHandle(other);
    call(PATINA__RMS_NORM_BACKWARD_);
    return this;
  }

  /**
   * Turns the first heads of (positions, all heads, head size) in place.
   *
   * `patina::rotary_(Tensor self, Tensor cos, Tensor sin, int heads)`
   */
  rotary_(cos: Tensor, sin: Tensor, heads: number): this {
    B[0] = this.handle;
    B[1] = cos?.handle;
    B[2] = sin?.handle;
    B[3] = numberArgument(heads);
    call(PATINA__ROTARY_);
    return this;
  }

  /**
   * Adds them in place.
   *
   * `patina::project_add_(Tensor self, Tensor x, Tensor[] weights, Tensor?[] biases)`
   */
  projectAdd_(x: Tensor, weights: readonly Tensor[], biases: readonly (Tensor | null)[]): this {
    B[0] = this.handle;
    B[1] = x?.handle;
    let n = putTensors(2, weights);
    putTensors(n, biases);
    call(PATINA__PROJECT_ADD_);
    return this;
  }

  /**
   * Adds it in place.
   *
   * `patina::project_backward_add_(Tensor self, Tensor g, Tensor[] weights)`
   */
  projectBackwardAdd_(g: Tensor, weights: readonly Tensor[]): this {
    B[0] = this.handle;
    B[1] = g?.handle;
    putTensors(2, weights);
    call(PATINA__PROJECT_BACKWARD_ADD_);
    return this;
  }

  /**
   * Adds the low-rank products of adapters to the columns that are theirs.
   *
   * `patina::add_low_rank_(Tensor self, Tensor z, Tensor[] b, int[] starts, float[] scaling)`
   */
  addLowRank_(z: Tensor, b: readonly Tensor[], starts: readonly number[], scaling: readonly number[]): this {
    B[0] = this.handle;
    B[1] = z?.handle;
    let n = putTensors(2, b);
    n = putNumbers(n, starts);
    putNumbers(n, scaling);
    call(PATINA__ADD_LOW_RANK_);
    return this;
  }

  /**
   * a^T b, written to a tensor or added to it, which may be of another type.
   *
   * `patina::product_into_(Tensor self, Tensor a, Tensor b, bool adds)`
   */
  productInto_(a: Tensor, b: Tensor, adds: boolean): this {
    B[0] = this.handle;
    B[1] = a?.handle;
    B[2] = b?.handle;
    B[3] = booleanArgument(adds);
    call(PATINA__PRODUCT_INTO_);
    return this;
  }

  /**
   * Adds the dropped gradients of the input that adapters give.
   *
   * `patina::add_dropped_(Tensor self, Tensor dz, Tensor[] a, float p, Tensor records, Tensor indices, int[] key, int[] layers)`
   */
  addDropped_(dz: Tensor, a: readonly Tensor[], p: number, records: Tensor, indices: Tensor, key: readonly number[], layers: readonly number[]): this {
    B[0] = this.handle;
    B[1] = dz?.handle;
    let n = putTensors(2, a);
    B[n] = numberArgument(p);
    B[n + 1] = records?.handle;
    B[n + 2] = indices?.handle;
    n = putNumbers(n + 3, key);
    putNumbers(n, layers);
    call(PATINA__ADD_DROPPED_);
    return this;
  }

  /**
   * silu(gate + s z b^T) * (up + s z b^T), of gate and up side by side.
   *
   * `patina::swiglu_low_rank(Tensor self, Tensor z_gate, Tensor z_up, Tensor b_gate, Tensor b_up, float scale_gate, float scale_up)`
   */
  swigluLowRank(zGate: Tensor, zUp: Tensor, bGate: Tensor, bUp: Tensor, scaleGate: number, scaleUp: number): Tensor {
    B[0] = this.handle;
    B[1] = zGate?.handle;
    B[2] = zUp?.handle;
    B[3] = bGate?.handle;
    B[4] = bUp?.handle;
    B[5] = numberArgument(scaleGate);
    B[6] = numberArgument(scaleUp);
    return callTensor(PATINA__SWIGLU_LOW_RANK);
  }

  /**
   * Turns gate and up into their gradients and the gradient of the product, to which dz a is added, into the product.
   *
   * `patina::swiglu_low_rank_backward_(Tensor self, Tensor grad, Tensor z_gate, Tensor z_up, Tensor b_gate, Tensor b_up, float scale_gate, float scale_up, Tensor? dz, Tensor? a)`
   */
  swigluLowRankBackward_(grad: Tensor, zGate: Tensor, zUp: Tensor, bGate: Tensor, bUp: Tensor, scaleGate: number, scaleUp: number, dz: Tensor | null, a: Tensor | null): void {
    B[0] = this.handle;
    B[1] = grad?.handle;
    B[2] = zGate?.handle;
    B[3] = zUp?.handle;
    B[4] = bGate?.handle;
    B[5] = bUp?.handle;
    B[6] = numberArgument(scaleGate);
    B[7] = numberArgument(scaleUp);
    B[8] = optionalHandle(dz);
    B[9] = optionalHandle(a);
    call(PATINA__SWIGLU_LOW_RANK_BACKWARD_);
  }

  /**
   * Losses of rows of logits; with a factor the logits become their gradient times it, in place.
   *
   * `patina::cross_entropy_(Tensor self, Tensor targets, Tensor? factor)`
   */
  crossEntropy_(targets: Tensor, factor: Tensor | null): Tensor {
    B[0] = this.handle;
    B[1] = targets?.handle;
    B[2] = optionalHandle(factor);
    return callTensor(PATINA__CROSS_ENTROPY_);
  }

  /**
   * silu(gate) * up, of gate and up side by side.
   *
   * `patina::swiglu(Tensor self)`
   */
  swiglu(): Tensor {
    B[0] = this.handle;
    return callTensor(PATINA__SWIGLU);
  }

  /**
   * Turns gate and up into their gradients and the gradient of the product into the product, in place.
   *
   * `patina::swiglu_backward_(Tensor self, Tensor grad)`
   */
  swigluBackward_(grad: Tensor): void {
    B[0] = this.handle;
    B[1] = grad?.handle;
    call(PATINA__SWIGLU_BACKWARD_);
  }

  /**
   * Codes of 4 bits, two a byte, and the largest magnitude of each block.
   *
   * `patina::nf4_quantise(Tensor self, Tensor code)`
   */
  nf4Quantise(code: Tensor): [Tensor, Tensor] {
    B[0] = this.handle;
    B[1] = code?.handle;
    call(PATINA__NF4_QUANTISE);
    return [tensorAt(0), tensorAt(1)];
  }

  /**
   * Overwritten with what codes and scales stand for.
   *
   * `patina::nf4_dequantise_(Tensor self, Tensor packed, Tensor absmax, Tensor code, Tensor? nested, Tensor? nested_code, Tensor? offset, *, ScalarType? type=None)`
   */
  nf4Dequantise_(packed: Tensor, absmax: Tensor, code: Tensor, nested: Tensor | null, nestedCode: Tensor | null, offset: Tensor | null, { type }: { type?: DType | null | undefined } = {}): this {
    B[0] = this.handle;
    B[1] = packed?.handle;
    B[2] = absmax?.handle;
    B[3] = code?.handle;
    B[4] = optionalHandle(nested);
    B[5] = optionalHandle(nestedCode);
    B[6] = optionalHandle(offset);
    B[7] = dtypeArgument(type);
    call(PATINA__NF4_DEQUANTISE_);
    return this;
  }

  /**
   * self W^T + bias, W made dense for this product and again for its backward.
   *
   * `patina::nf4_linear(Tensor self, int out_features, Tensor? bias, Tensor packed, Tensor absmax, Tensor code, Tensor? nested, Tensor? nested_code, Tensor? offset, *, ScalarType? type=None)`
   */
  nf4Linear(outFeatures: number, bias: Tensor | null, packed: Tensor, absmax: Tensor, code: Tensor, nested: Tensor | null, nestedCode: Tensor | null, offset: Tensor | null, { type }: { type?: DType | null | undefined } = {}): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(outFeatures);
    B[2] = optionalHandle(bias);
    B[3] = packed?.handle;
    B[4] = absmax?.handle;
    B[5] = code?.handle;
    B[6] = optionalHandle(nested);
    B[7] = optionalHandle(nestedCode);
    B[8] = optionalHandle(offset);
    B[9] = dtypeArgument(type);
    return callTensor(PATINA__NF4_LINEAR);
  }

  /**
   * Codes of 8 bits and a scale of each row, of self with each channel times its factor.
   *
   * `patina::quantise_rows_fp8(Tensor self, Tensor? factors, ScalarType type)`
   */
  quantiseRowsFp8(factors: Tensor | null, type: DType): [Tensor, Tensor] {
    B[0] = this.handle;
    B[1] = optionalHandle(factors);
    B[2] = dtypeArgument(type);
    call(PATINA__QUANTISE_ROWS_FP8);
    return [tensorAt(0), tensorAt(1)];
  }

  /**
   * add_rms_norm_, and codes and scales of the rows that it gives, in one pass.
   *
   * `patina::add_rms_norm_fp8_(Tensor self, Tensor? other, Tensor weight, float eps)`
   */
  addRmsNormFp8_(other: Tensor | null, weight: Tensor, eps: number): [Tensor, Tensor, Tensor, Tensor] {
    B[0] = this.handle;
    B[1] = optionalHandle(other);
    B[2] = weight?.handle;
    B[3] = numberArgument(eps);
    call(PATINA__ADD_RMS_NORM_FP8_);
    return [tensorAt(0), tensorAt(1), tensorAt(2), tensorAt(3)];
  }

  /**
   * swiglu, and codes and scales of the rows that it gives, in one pass.
   *
   * `patina::swiglu_fp8(Tensor self)`
   */
  swigluFp8(): [Tensor, Tensor, Tensor] {
    B[0] = this.handle;
    call(PATINA__SWIGLU_FP8);
    return [tensorAt(0), tensorAt(1), tensorAt(2)];
  }

  /**
   * self other^T of codes, times the scales of the rows of both.
   *
   * `patina::fp8_product(Tensor self, Tensor other, Tensor scales, Tensor? other_scales, ScalarType type)`
   */
  fp8Product(other: Tensor, scales: Tensor, otherScales: Tensor | null, type: DType): Tensor {
    B[0] = this.handle;
    B[1] = other?.handle;
    B[2] = scales?.handle;
    B[3] = optionalHandle(otherScales);
    B[4] = dtypeArgument(type);
    return callTensor(PATINA__FP8_PRODUCT);
  }

  /**
   * self W^T + bias, both quantised, and so is the gradient backward.
   *
   * `patina::fp8_linear(Tensor self, Tensor? bias, Tensor codes, Tensor scales)`
   */
  fp8Linear(bias: Tensor | null, codes: Tensor, scales: Tensor): Tensor {
    B[0] = this.handle;
    B[1] = optionalHandle(bias);
    B[2] = codes?.handle;
    B[3] = scales?.handle;
    return callTensor(PATINA__FP8_LINEAR);
  }

  /**
   * Uninitialised, shaped like self.
   *
   * `aten::empty_like(Tensor self, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None, MemoryFormat? memory_format=None)`
   */
  emptyLike({ dtype, layout, device, pinMemory, memoryFormat }: { dtype?: DType | null | undefined; layout?: Layout | null | undefined; device?: Device | null | undefined; pinMemory?: boolean | null | undefined; memoryFormat?: MemoryFormat | null | undefined } = {}): Tensor {
    B[0] = this.handle;
    B[1] = dtypeArgument(dtype);
    B[2] = layoutArgument(layout);
    B[3] = deviceArgument(device);
    B[4] = optionalBoolean(pinMemory);
    B[5] = formatArgument(memoryFormat);
    return callTensor(EMPTY_LIKE);
  }

  /**
   * All 0, shaped like self.
   *
   * `aten::zeros_like(Tensor self, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None, MemoryFormat? memory_format=None)`
   */
  zerosLike({ dtype, layout, device, pinMemory, memoryFormat }: { dtype?: DType | null | undefined; layout?: Layout | null | undefined; device?: Device | null | undefined; pinMemory?: boolean | null | undefined; memoryFormat?: MemoryFormat | null | undefined } = {}): Tensor {
    B[0] = this.handle;
    B[1] = dtypeArgument(dtype);
    B[2] = layoutArgument(layout);
    B[3] = deviceArgument(device);
    B[4] = optionalBoolean(pinMemory);
    B[5] = formatArgument(memoryFormat);
    return callTensor(ZEROS_LIKE);
  }

  /**
   * All of one value, shaped like self.
   *
   * `aten::full_like(Tensor self, Scalar fill_value, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None, MemoryFormat? memory_format=None)`
   */
  fullLike(fillValue: Scalar, { dtype, layout, device, pinMemory, memoryFormat }: { dtype?: DType | null | undefined; layout?: Layout | null | undefined; device?: Device | null | undefined; pinMemory?: boolean | null | undefined; memoryFormat?: MemoryFormat | null | undefined } = {}): Tensor {
    B[0] = this.handle;
    putScalar(1, fillValue);
    B[3] = dtypeArgument(dtype);
    B[4] = layoutArgument(layout);
    B[5] = deviceArgument(device);
    B[6] = optionalBoolean(pinMemory);
    B[7] = formatArgument(memoryFormat);
    return callTensor(FULL_LIKE);
  }

  /**
   * A copy.
   *
   * `aten::clone(Tensor self, *, MemoryFormat? memory_format=None)`
   */
  clone({ memoryFormat }: { memoryFormat?: MemoryFormat | null | undefined } = {}): Tensor {
    B[0] = this.handle;
    B[1] = formatArgument(memoryFormat);
    return callTensor(CLONE);
  }

  /**
   * The same data without history.
   *
   * `aten::detach(Tensor self)`
   */
  detach(): Tensor {
    B[0] = this.handle;
    return callTensor(DETACH);
  }

  /**
   * Copies from another tensor, converting dtype and device.
   *
   * `aten::copy_(Tensor self, Tensor src, bool non_blocking=False)`
   */
  copy_(src: Tensor, nonBlocking: boolean = false): this {
    B[0] = this.handle;
    B[1] = src?.handle;
    B[2] = booleanArgument(nonBlocking);
    call(COPY_);
    return this;
  }

  /**
   * Copies values without moving autograd's version counter, to refill freed storage with what it held.
   *
   * `patina::overwrite_(Tensor self, Tensor source)`
   */
  overwrite(source: Tensor): this {
    B[0] = this.handle;
    B[1] = source?.handle;
    call(PATINA__OVERWRITE_);
    return this;
  }

  /**
   * Fills with a value.
   *
   * `aten::fill_.Scalar(Tensor self, Scalar value)`
   */
  fill_(value: Scalar): this {
    B[0] = this.handle;
    putScalar(1, value);
    call(FILL__SCALAR);
    return this;
  }

  /**
   * Fills with 0.
   *
   * `aten::zero_(Tensor self)`
   */
  zero_(): this {
    B[0] = this.handle;
    call(ZERO_);
    return this;
  }

  /**
   * A copy with another dtype, device or layout.
   *
   * `aten::_to_copy(Tensor self, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None, bool non_blocking=False, MemoryFormat? memory_format=None)`
   */
  _toCopy({ dtype, layout, device, pinMemory, nonBlocking = false, memoryFormat }: { dtype?: DType | null | undefined; layout?: Layout | null | undefined; device?: Device | null | undefined; pinMemory?: boolean | null | undefined; nonBlocking?: boolean | undefined; memoryFormat?: MemoryFormat | null | undefined } = {}): Tensor {
    B[0] = this.handle;
    B[1] = dtypeArgument(dtype);
    B[2] = layoutArgument(layout);
    B[3] = deviceArgument(device);
    B[4] = optionalBoolean(pinMemory);
    B[5] = booleanArgument(nonBlocking);
    B[6] = formatArgument(memoryFormat);
    return callTensor(_TO_COPY);
  }

  /**
   * A copy in page-locked memory.
   *
   * `aten::pin_memory(Tensor self, Device? device=None)`
   */
  pinMemory(device?: Device | null): Tensor {
    B[0] = this.handle;
    B[1] = deviceArgument(device);
    return callTensor(PIN_MEMORY);
  }

  /**
   * Fills from the normal distribution.
   *
   * `aten::normal_(Tensor self, float mean=0., float std=1., *, Generator? generator=None)`
   */
  normal_(mean: number = 0, std: number = 1, { generator }: { generator?: RandomGenerator | null | undefined } = {}): this {
    B[0] = this.handle;
    B[1] = numberArgument(mean);
    B[2] = numberArgument(std);
    B[3] = generatorArgument(generator);
    call(NORMAL_);
    return this;
  }

  /**
   * Fills evenly from [from, to).
   *
   * `aten::uniform_(Tensor self, float from=0., float to=1., *, Generator? generator=None)`
   */
  uniform_(from: number = 0, to: number = 1, { generator }: { generator?: RandomGenerator | null | undefined } = {}): this {
    B[0] = this.handle;
    B[1] = numberArgument(from);
    B[2] = numberArgument(to);
    B[3] = generatorArgument(generator);
    call(UNIFORM_);
    return this;
  }

  /**
   * Indices drawn by weight.
   *
   * `aten::multinomial(Tensor self, int num_samples, bool replacement=False, *, Generator? generator=None)`
   */
  multinomial(numSamples: number, replacement: boolean = false, { generator }: { generator?: RandomGenerator | null | undefined } = {}): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(numSamples);
    B[2] = booleanArgument(replacement);
    B[3] = generatorArgument(generator);
    return callTensor(MULTINOMIAL);
  }

  /**
   * Zeroes elements with probability p and divides the rest by 1 - p, by key, layer, record, index in the record and channel.
   *
   * `patina::dropout(Tensor self, float p, Tensor records, Tensor indices, int[] key, int layer)`
   */
  dropout(p: number, records: Tensor, indices: Tensor, key: readonly number[], layer: number): Tensor {
    B[0] = this.handle;
    B[1] = numberArgument(p);
    B[2] = records?.handle;
    B[3] = indices?.handle;
    let n = putNumbers(4, key);
    B[n] = numberArgument(layer);
    return callTensor(PATINA__DROPOUT);
  }

  /**
   * Rounds fp32 into bf16 at random, by key and index of the element, the first of which is from.
   *
   * `patina::round_stochastic_(Tensor self, Tensor source, int[] key, int from=0)`
   */
  roundStochastic_(source: Tensor, key: readonly number[], from: number = 0): this {
    B[0] = this.handle;
    B[1] = source?.handle;
    let n = putNumbers(2, key);
    B[n] = numberArgument(from);
    call(PATINA__ROUND_STOCHASTIC_);
    return this;
  }

  /**
   * Codes of the dynamic 8-bit type, and the largest magnitude of each 256 elements, of fp32.
   *
   * `patina::dynamic_quantise(Tensor self, bool signed)`
   */
  dynamicQuantise(signed: boolean): [Tensor, Tensor] {
    B[0] = this.handle;
    B[1] = booleanArgument(signed);
    call(PATINA__DYNAMIC_QUANTISE);
    return [tensorAt(0), tensorAt(1)];
  }

  /**
   * What they stand for, in fp32.
   *
   * `patina::dynamic_dequantise(Tensor self, Tensor absmax, bool signed)`
   */
  dynamicDequantise(absmax: Tensor, signed: boolean): Tensor {
    B[0] = this.handle;
    B[1] = absmax?.handle;
    B[2] = booleanArgument(signed);
    return callTensor(PATINA__DYNAMIC_DEQUANTISE);
  }
}

/**
 * Elements of self where the condition holds, else of other.
 *
 * `aten::where.self(Tensor condition, Tensor self, Tensor other)`
 */
export function where(condition: Tensor, self: Tensor, other: Tensor): Tensor {
  B[0] = condition?.handle;
  B[1] = self?.handle;
  B[2] = other?.handle;
  return callTensor(WHERE_SELF);
}

/**
 * input @ weight.T + bias.
 *
 * `aten::linear(Tensor input, Tensor weight, Tensor? bias=None)`
 */
export function linear(input: Tensor, weight: Tensor, bias?: Tensor | null): Tensor {
  B[0] = input?.handle;
  B[1] = weight?.handle;
  B[2] = optionalHandle(bias);
  return callTensor(LINEAR);
}

/**
 * Joins tensors along a dimension.
 *
 * `aten::cat(Tensor[] tensors, int dim=0)`
 */
export function cat(tensors: readonly Tensor[], dim: number = 0): Tensor {
  let n = putTensors(0, tensors);
  B[n] = numberArgument(dim);
  return callTensor(CAT);
}

/**
 * Joins tensors along a new dimension.
 *
 * `aten::stack(Tensor[] tensors, int dim=0)`
 */
export function stack(tensors: readonly Tensor[], dim: number = 0): Tensor {
  let n = putTensors(0, tensors);
  B[n] = numberArgument(dim);
  return callTensor(STACK);
}

/**
 * Rows of weight by index.
 *
 * `aten::embedding(Tensor weight, Tensor indices, int padding_idx=-1, bool scale_grad_by_freq=False, bool sparse=False)`
 */
export function embedding(weight: Tensor, indices: Tensor, paddingIdx: number = -1, scaleGradByFreq: boolean = false, sparse: boolean = false): Tensor {
  B[0] = weight?.handle;
  B[1] = indices?.handle;
  B[2] = numberArgument(paddingIdx);
  B[3] = booleanArgument(scaleGradByFreq);
  B[4] = booleanArgument(sparse);
  return callTensor(EMBEDDING);
}

/**
 * layer_norm, with mean and 1 / standard deviation.
 *
 * `aten::native_layer_norm(Tensor input, int[] normalized_shape, Tensor? weight, Tensor? bias, float eps)`
 */
export function nativeLayerNorm(input: Tensor, normalizedShape: readonly number[], weight: Tensor | null, bias: Tensor | null, eps: number): [Tensor, Tensor, Tensor] {
  B[0] = input?.handle;
  let n = putNumbers(1, normalizedShape);
  B[n] = optionalHandle(weight);
  B[n + 1] = optionalHandle(bias);
  B[n + 2] = numberArgument(eps);
  call(NATIVE_LAYER_NORM);
  return [tensorAt(0), tensorAt(1), tensorAt(2)];
}

/**
 * x / sqrt(mean(x^2) + eps) * weight, with 1 / sqrt(mean(x^2) + eps).
 *
 * `aten::_fused_rms_norm(Tensor input, int[] normalized_shape, Tensor? weight, float? eps)`
 */
export function _fusedRmsNorm(input: Tensor, normalizedShape: readonly number[], weight: Tensor | null, eps: number | null): [Tensor, Tensor] {
  B[0] = input?.handle;
  let n = putNumbers(1, normalizedShape);
  B[n] = optionalHandle(weight);
  optionalFloat(n + 1, eps);
  call(_FUSED_RMS_NORM);
  return [tensorAt(0), tensorAt(1)];
}

/**
 * Convolution of any dimension.
 *
 * `aten::convolution(Tensor input, Tensor weight, Tensor? bias, int[] stride, int[] padding, int[] dilation, bool transposed, int[] output_padding, int groups)`
 */
export function convolution(input: Tensor, weight: Tensor, bias: Tensor | null, stride: readonly number[], padding: readonly number[], dilation: readonly number[], transposed: boolean, outputPadding: readonly number[], groups: number): Tensor {
  B[0] = input?.handle;
  B[1] = weight?.handle;
  B[2] = optionalHandle(bias);
  let n = putNumbers(3, stride);
  n = putNumbers(n, padding);
  n = putNumbers(n, dilation);
  B[n] = booleanArgument(transposed);
  n = putNumbers(n + 1, outputPadding);
  B[n] = numberArgument(groups);
  return callTensor(CONVOLUTION);
}

/**
 * Attention on CPU: output and log-sum-exp.
 *
 * `aten::_scaled_dot_product_flash_attention_for_cpu(Tensor query, Tensor key, Tensor value, float dropout_p=0., bool is_causal=False, *, Tensor? attn_mask=None, float? scale=None)`
 */
export function _scaledDotProductFlashAttentionForCpu(query: Tensor, key: Tensor, value: Tensor, dropoutP: number = 0, isCausal: boolean = false, { attnMask, scale }: { attnMask?: Tensor | null | undefined; scale?: number | null | undefined } = {}): [Tensor, Tensor] {
  B[0] = query?.handle;
  B[1] = key?.handle;
  B[2] = value?.handle;
  B[3] = numberArgument(dropoutP);
  B[4] = booleanArgument(isCausal);
  B[5] = optionalHandle(attnMask);
  optionalFloat(6, scale);
  call(_SCALED_DOT_PRODUCT_FLASH_ATTENTION_FOR_CPU);
  return [tensorAt(0), tensorAt(1)];
}

/**
 * Attention by cuDNN.
 *
 * `aten::_scaled_dot_product_cudnn_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_bias, bool compute_log_sumexp, float dropout_p=0., bool is_causal=False, bool return_debug_mask=False, *, float? scale=None)`
 */
export function _scaledDotProductCudnnAttention(query: Tensor, key: Tensor, value: Tensor, attnBias: Tensor | null, computeLogSumexp: boolean, dropoutP: number = 0, isCausal: boolean = false, returnDebugMask: boolean = false, { scale }: { scale?: number | null | undefined } = {}): [Tensor | null, Tensor | null, Tensor | null, Tensor | null, number, number, Tensor | null, Tensor | null, Tensor | null] {
  B[0] = query?.handle;
  B[1] = key?.handle;
  B[2] = value?.handle;
  B[3] = optionalHandle(attnBias);
  B[4] = booleanArgument(computeLogSumexp);
  B[5] = numberArgument(dropoutP);
  B[6] = booleanArgument(isCausal);
  B[7] = booleanArgument(returnDebugMask);
  optionalFloat(8, scale);
  call(_SCALED_DOT_PRODUCT_CUDNN_ATTENTION);
  return [optionalTensorAt(0), optionalTensorAt(1), optionalTensorAt(2), optionalTensorAt(3), B[4]!, B[5]!, optionalTensorAt(6), optionalTensorAt(7), optionalTensorAt(8)];
}

/**
 * Attention by CUTLASS, any dtype, with a bias.
 *
 * `aten::_scaled_dot_product_efficient_attention(Tensor query, Tensor key, Tensor value, Tensor? attn_bias, bool compute_log_sumexp, float dropout_p=0., bool is_causal=False, *, float? scale=None)`
 */
export function _scaledDotProductEfficientAttention(query: Tensor, key: Tensor, value: Tensor, attnBias: Tensor | null, computeLogSumexp: boolean, dropoutP: number = 0, isCausal: boolean = false, { scale }: { scale?: number | null | undefined } = {}): [Tensor | null, Tensor | null, Tensor | null, Tensor | null] {
  B[0] = query?.handle;
  B[1] = key?.handle;
  B[2] = value?.handle;
  B[3] = optionalHandle(attnBias);
  B[4] = booleanArgument(computeLogSumexp);
  B[5] = numberArgument(dropoutP);
  B[6] = booleanArgument(isCausal);
  optionalFloat(7, scale);
  call(_SCALED_DOT_PRODUCT_EFFICIENT_ATTENTION);
  return [optionalTensorAt(0), optionalTensorAt(1), optionalTensorAt(2), optionalTensorAt(3)];
}

/**
 * FlashAttention over packed sequences.
 *
 * `aten::_flash_attention_forward(Tensor query, Tensor key, Tensor value, Tensor? cum_seq_q, Tensor? cum_seq_k, int max_q, int max_k, float dropout_p, bool is_causal, bool return_debug_mask, *, float? scale=None, int? window_size_left=None, int? window_size_right=None, Tensor? seqused_k=None, Tensor? alibi_slopes=None)`
 */
export function _flashAttentionForward(query: Tensor, key: Tensor, value: Tensor, cumSeqQ: Tensor | null, cumSeqK: Tensor | null, maxQ: number, maxK: number, dropoutP: number, isCausal: boolean, returnDebugMask: boolean, { scale, windowSizeLeft, windowSizeRight, sequsedK, alibiSlopes }: { scale?: number | null | undefined; windowSizeLeft?: number | null | undefined; windowSizeRight?: number | null | undefined; sequsedK?: Tensor | null | undefined; alibiSlopes?: Tensor | null | undefined } = {}): [Tensor | null, Tensor | null, Tensor | null, Tensor | null, Tensor | null] {
  B[0] = query?.handle;
  B[1] = key?.handle;
  B[2] = value?.handle;
  B[3] = optionalHandle(cumSeqQ);
  B[4] = optionalHandle(cumSeqK);
  B[5] = numberArgument(maxQ);
  B[6] = numberArgument(maxK);
  B[7] = numberArgument(dropoutP);
  B[8] = booleanArgument(isCausal);
  B[9] = booleanArgument(returnDebugMask);
  optionalFloat(10, scale);
  B[12] = optionalInteger(windowSizeLeft);
  B[13] = optionalInteger(windowSizeRight);
  B[14] = optionalHandle(sequsedK);
  B[15] = optionalHandle(alibiSlopes);
  call(_FLASH_ATTENTION_FORWARD);
  return [optionalTensorAt(0), optionalTensorAt(1), optionalTensorAt(2), optionalTensorAt(3), optionalTensorAt(4)];
}

/**
 * Gradients of input and weight; output_mask says which.
 *
 * `aten::_fused_rms_norm_backward(Tensor grad_out, Tensor input, int[] normalized_shape, Tensor rstd, Tensor? weight, bool[2] output_mask)`
 */
export function _fusedRmsNormBackward(gradOut: Tensor, input: Tensor, normalizedShape: readonly number[], rstd: Tensor, weight: Tensor | null, outputMask: readonly boolean[]): [Tensor | null, Tensor | null] {
  B[0] = gradOut?.handle;
  B[1] = input?.handle;
  let n = putNumbers(2, normalizedShape);
  B[n] = rstd?.handle;
  B[n + 1] = optionalHandle(weight);
  putBools(n + 2, outputMask);
  call(_FUSED_RMS_NORM_BACKWARD);
  return [optionalTensorAt(0), optionalTensorAt(1)];
}

/**
 * Gradients of queries, keys, values.
 *
 * `aten::_scaled_dot_product_flash_attention_for_cpu_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out, Tensor logsumexp, float dropout_p, bool is_causal, *, Tensor? attn_mask=None, float? scale=None)`
 */
export function _scaledDotProductFlashAttentionForCpuBackward(gradOut: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, logsumexp: Tensor, dropoutP: number, isCausal: boolean, { attnMask, scale }: { attnMask?: Tensor | null | undefined; scale?: number | null | undefined } = {}): [Tensor, Tensor, Tensor] {
  B[0] = gradOut?.handle;
  B[1] = query?.handle;
  B[2] = key?.handle;
  B[3] = value?.handle;
  B[4] = out?.handle;
  B[5] = logsumexp?.handle;
  B[6] = numberArgument(dropoutP);
  B[7] = booleanArgument(isCausal);
  B[8] = optionalHandle(attnMask);
  optionalFloat(9, scale);
  call(_SCALED_DOT_PRODUCT_FLASH_ATTENTION_FOR_CPU_BACKWARD);
  return [tensorAt(0), tensorAt(1), tensorAt(2)];
}

/**
 * Gradients of queries, keys, values over packed sequences.
 *
 * `aten::_flash_attention_backward(Tensor grad_out, Tensor query, Tensor key, Tensor value, Tensor out, Tensor logsumexp, Tensor cum_seq_q, Tensor cum_seq_k, int max_q, int max_k, float dropout_p, bool is_causal, Tensor rng_state, Tensor unused, *, float? scale=None, int? window_size_left=None, int? window_size_right=None)`
 */
export function _flashAttentionBackward(gradOut: Tensor, query: Tensor, key: Tensor, value: Tensor, out: Tensor, logsumexp: Tensor, cumSeqQ: Tensor, cumSeqK: Tensor, maxQ: number, maxK: number, dropoutP: number, isCausal: boolean, rngState: Tensor, unused: Tensor, { scale, windowSizeLeft, windowSizeRight }: { scale?: number | null | undefined; windowSizeLeft?: number | null | undefined; windowSizeRight?: number | null | undefined } = {}): [Tensor, Tensor, Tensor] {
  B[0] = gradOut?.handle;
  B[1] = query?.handle;
  B[2] = key?.handle;
  B[3] = value?.handle;
  B[4] = out?.handle;
  B[5] = logsumexp?.handle;
  B[6] = cumSeqQ?.handle;
  B[7] = cumSeqK?.handle;
  B[8] = numberArgument(maxQ);
  B[9] = numberArgument(maxK);
  B[10] = numberArgument(dropoutP);
  B[11] = booleanArgument(isCausal);
  B[12] = rngState?.handle;
  B[13] = unused?.handle;
  optionalFloat(14, scale);
  B[16] = optionalInteger(windowSizeLeft);
  B[17] = optionalInteger(windowSizeRight);
  call(_FLASH_ATTENTION_BACKWARD);
  return [tensorAt(0), tensorAt(1), tensorAt(2)];
}

/**
 * Gradients of queries, keys, values, without bias.
 *
 * `patina::cudnn_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor seed, Tensor offset, bool causal, *, float? scale=None)`
 */
export function cudnnAttentionBackward(grad: Tensor, q: Tensor, k: Tensor, v: Tensor, out: Tensor, lse: Tensor, seed: Tensor, offset: Tensor, causal: boolean, { scale }: { scale?: number | null | undefined } = {}): [Tensor, Tensor, Tensor] {
  B[0] = grad?.handle;
  B[1] = q?.handle;
  B[2] = k?.handle;
  B[3] = v?.handle;
  B[4] = out?.handle;
  B[5] = lse?.handle;
  B[6] = seed?.handle;
  B[7] = offset?.handle;
  B[8] = booleanArgument(causal);
  optionalFloat(9, scale);
  call(PATINA__CUDNN_ATTENTION_BACKWARD);
  return [tensorAt(0), tensorAt(1), tensorAt(2)];
}

/**
 * Gradients of queries and keys turned back, and of values, in one buffer.
 *
 * `patina::rotary_backward(Tensor q, Tensor k, Tensor v, Tensor cos, Tensor sin)`
 */
export function rotaryBackward(q: Tensor, k: Tensor, v: Tensor, cos: Tensor, sin: Tensor): Tensor {
  B[0] = q?.handle;
  B[1] = k?.handle;
  B[2] = v?.handle;
  B[3] = cos?.handle;
  B[4] = sin?.handle;
  return callTensor(PATINA__ROTARY_BACKWARD);
}

/**
 * Matrices that follow on each other in memory as one; an empty list where they do not.
 *
 * `patina::side_by_side(Tensor[] parts)`
 */
export function sideBySide(parts: readonly Tensor[]): Tensor[] {
  putTensors(0, parts);
  call(PATINA__SIDE_BY_SIDE);
  return tensorList();
}

/**
 * Products of linear layers that share their input, side by side.
 *
 * `patina::project(Tensor x, Tensor[] weights, Tensor?[] biases)`
 */
export function project(x: Tensor, weights: readonly Tensor[], biases: readonly (Tensor | null)[]): Tensor {
  B[0] = x?.handle;
  let n = putTensors(1, weights);
  putTensors(n, biases);
  return callTensor(PATINA__PROJECT);
}

/**
 * The gradient of their input.
 *
 * `patina::project_backward(Tensor g, Tensor[] weights)`
 */
export function projectBackward(g: Tensor, weights: readonly Tensor[]): Tensor {
  B[0] = g?.handle;
  putTensors(1, weights);
  return callTensor(PATINA__PROJECT_BACKWARD);
}

/**
 * The gradient of the small factors of these products.
 *
 * `patina::low_rank_backward(Tensor g, Tensor[] b, int[] starts, float[] scaling)`
 */
export function lowRankBackward(g: Tensor, b: readonly Tensor[], starts: readonly number[], scaling: readonly number[]): Tensor {
  B[0] = g?.handle;
  let n = putTensors(1, b);
  n = putNumbers(n, starts);
  putNumbers(n, scaling);
  return callTensor(PATINA__LOW_RANK_BACKWARD);
}

/**
 * Gradients of the matrices B of adapters.
 *
 * `patina::low_rank_gradients(Tensor g, Tensor z, Tensor[] b, int[] starts, float[] scaling)`
 */
export function lowRankGradients(g: Tensor, z: Tensor, b: readonly Tensor[], starts: readonly number[], scaling: readonly number[]): Tensor[] {
  B[0] = g?.handle;
  B[1] = z?.handle;
  let n = putTensors(2, b);
  n = putNumbers(n, starts);
  putNumbers(n, scaling);
  call(PATINA__LOW_RANK_GRADIENTS);
  return tensorList();
}

/**
 * Low-rank products of adapters, each with its input dropped its own way, side by side.
 *
 * `patina::dropped_product(Tensor x, Tensor[] a, float p, Tensor records, Tensor indices, int[] key, int[] layers)`
 */
export function droppedProduct(x: Tensor, a: readonly Tensor[], p: number, records: Tensor, indices: Tensor, key: readonly number[], layers: readonly number[]): Tensor {
  B[0] = x?.handle;
  let n = putTensors(1, a);
  B[n] = numberArgument(p);
  B[n + 1] = records?.handle;
  B[n + 2] = indices?.handle;
  n = putNumbers(n + 3, key);
  putNumbers(n, layers);
  return callTensor(PATINA__DROPPED_PRODUCT);
}

/**
 * Gradients of their matrices A, one above the other.
 *
 * `patina::dropped_gradients(Tensor dz, Tensor x, int[] ranks, float p, Tensor records, Tensor indices, int[] key, int[] layers)`
 */
export function droppedGradients(dz: Tensor, x: Tensor, ranks: readonly number[], p: number, records: Tensor, indices: Tensor, key: readonly number[], layers: readonly number[]): Tensor {
  B[0] = dz?.handle;
  B[1] = x?.handle;
  let n = putNumbers(2, ranks);
  B[n] = numberArgument(p);
  B[n + 1] = records?.handle;
  B[n + 2] = indices?.handle;
  n = putNumbers(n + 3, key);
  putNumbers(n, layers);
  return callTensor(PATINA__DROPPED_GRADIENTS);
}

/**
 * Scales in bytes, the largest difference from the mean in each 256 of them, and that mean.
 *
 * `patina::nf4_quantise_scales(Tensor absmax, Tensor code)`
 */
export function nf4QuantiseScales(absmax: Tensor, code: Tensor): [Tensor, Tensor, Tensor] {
  B[0] = absmax?.handle;
  B[1] = code?.handle;
  call(PATINA__NF4_QUANTISE_SCALES);
  return [tensorAt(0), tensorAt(1), tensorAt(2)];
}

/**
 * Codes of matrices one above the other, in the other layout.
 *
 * `patina::fp8_transpose(Tensor[] codes)`
 */
export function fp8Transpose(codes: readonly Tensor[]): Tensor {
  putTensors(0, codes);
  return callTensor(PATINA__FP8_TRANSPOSE);
}

/**
 * y = x W^T + b of layers that share their input, all in codes.
 *
 * `patina::fp8_project(Tensor x, Tensor x_scales, Tensor[] codes, Tensor[] scales, Tensor?[] biases, ScalarType type)`
 */
export function fp8Project(x: Tensor, xScales: Tensor, codes: readonly Tensor[], scales: readonly Tensor[], biases: readonly (Tensor | null)[], type: DType): Tensor {
  B[0] = x?.handle;
  B[1] = xScales?.handle;
  let n = putTensors(2, codes);
  n = putTensors(n, scales);
  n = putTensors(n, biases);
  B[n] = dtypeArgument(type);
  return callTensor(PATINA__FP8_PROJECT);
}

/**
 * g W, g times the scales of W quantised on the way.
 *
 * `patina::fp8_project_backward(Tensor g, Tensor[] codes, Tensor[] scales, ScalarType type)`
 */
export function fp8ProjectBackward(g: Tensor, codes: readonly Tensor[], scales: readonly Tensor[], type: DType): Tensor {
  B[0] = g?.handle;
  let n = putTensors(1, codes);
  n = putTensors(n, scales);
  B[n] = dtypeArgument(type);
  return callTensor(PATINA__FP8_PROJECT_BACKWARD);
}

/**
 * Uninitialised.
 *
 * `aten::empty.memory_format(int[] size, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None, MemoryFormat? memory_format=None)`
 */
export function empty(size: readonly number[], { dtype, layout, device, pinMemory, memoryFormat }: { dtype?: DType | null | undefined; layout?: Layout | null | undefined; device?: Device | null | undefined; pinMemory?: boolean | null | undefined; memoryFormat?: MemoryFormat | null | undefined } = {}): Tensor {
  let n = putNumbers(0, size);
  B[n] = dtypeArgument(dtype);
  B[n + 1] = layoutArgument(layout);
  B[n + 2] = deviceArgument(device);
  B[n + 3] = optionalBoolean(pinMemory);
  B[n + 4] = formatArgument(memoryFormat);
  return callTensor(EMPTY_MEMORY_FORMAT);
}

/**
 * All 0.
 *
 * `aten::zeros(int[] size, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None)`
 */
export function zeros(size: readonly number[], { dtype, layout, device, pinMemory }: { dtype?: DType | null | undefined; layout?: Layout | null | undefined; device?: Device | null | undefined; pinMemory?: boolean | null | undefined } = {}): Tensor {
  let n = putNumbers(0, size);
  B[n] = dtypeArgument(dtype);
  B[n + 1] = layoutArgument(layout);
  B[n + 2] = deviceArgument(device);
  B[n + 3] = optionalBoolean(pinMemory);
  return callTensor(ZEROS);
}

/**
 * All 1.
 *
 * `aten::ones(int[] size, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None)`
 */
export function ones(size: readonly number[], { dtype, layout, device, pinMemory }: { dtype?: DType | null | undefined; layout?: Layout | null | undefined; device?: Device | null | undefined; pinMemory?: boolean | null | undefined } = {}): Tensor {
  let n = putNumbers(0, size);
  B[n] = dtypeArgument(dtype);
  B[n + 1] = layoutArgument(layout);
  B[n + 2] = deviceArgument(device);
  B[n + 3] = optionalBoolean(pinMemory);
  return callTensor(ONES);
}

/**
 * All of one value.
 *
 * `aten::full(int[] size, Scalar fill_value, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None)`
 */
export function full(size: readonly number[], fillValue: Scalar, { dtype, layout, device, pinMemory }: { dtype?: DType | null | undefined; layout?: Layout | null | undefined; device?: Device | null | undefined; pinMemory?: boolean | null | undefined } = {}): Tensor {
  let n = putNumbers(0, size);
  putScalar(n, fillValue);
  B[n + 2] = dtypeArgument(dtype);
  B[n + 3] = layoutArgument(layout);
  B[n + 4] = deviceArgument(device);
  B[n + 5] = optionalBoolean(pinMemory);
  return callTensor(FULL);
}

/**
 * start, start + step, ... below end.
 *
 * `aten::arange.start_step(Scalar start, Scalar end, Scalar step=1, *, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None)`
 */
export function arange(start: Scalar, end: Scalar, step: Scalar = 1, { dtype, layout, device, pinMemory }: { dtype?: DType | null | undefined; layout?: Layout | null | undefined; device?: Device | null | undefined; pinMemory?: boolean | null | undefined } = {}): Tensor {
  putScalar(0, start);
  putScalar(2, end);
  putScalar(4, step);
  B[6] = dtypeArgument(dtype);
  B[7] = layoutArgument(layout);
  B[8] = deviceArgument(device);
  B[9] = optionalBoolean(pinMemory);
  return callTensor(ARANGE_START_STEP);
}

/**
 * Drawn from the normal distribution.
 *
 * `aten::randn.generator(int[] size, *, Generator? generator, ScalarType? dtype=None, Layout? layout=None, Device? device=None, bool? pin_memory=None)`
 */
export function randn(size: readonly number[], { generator, dtype, layout, device, pinMemory }: { generator?: RandomGenerator | null | undefined; dtype?: DType | null | undefined; layout?: Layout | null | undefined; device?: Device | null | undefined; pinMemory?: boolean | null | undefined } = {}): Tensor {
  let n = putNumbers(0, size);
  B[n] = generatorArgument(generator);
  B[n + 1] = dtypeArgument(dtype);
  B[n + 2] = layoutArgument(layout);
  B[n + 3] = deviceArgument(device);
  B[n + 4] = optionalBoolean(pinMemory);
  return callTensor(RANDN_GENERATOR);
}

/**
 * Adds to each tensor in place.
 *
 * `aten::_foreach_add_.List(Tensor[] self, Tensor[] other, *, Scalar alpha=1)`
 * `aten::_foreach_add_.Scalar(Tensor[] self, Scalar scalar)`
 */
export function _foreachAdd_(self: readonly Tensor[], other: readonly Tensor[] | Scalar, { alpha = 1 }: { alpha?: Scalar | undefined } = {}): void {
  if (typeof other === 'object') {
    let n = putTensors(0, self);
    n = putTensors(n, other);
    putScalar(n, alpha);
    call(_FOREACH_ADD__LIST);
    return;
  }
  let n = putTensors(0, self);
  putScalar(n, other);
  call(_FOREACH_ADD__SCALAR);
}

/**
 * Copies each tensor.
 *
 * `aten::_foreach_copy_(Tensor[] self, Tensor[] src, bool non_blocking=False)`
 */
export function _foreachCopy_(self: readonly Tensor[], src: readonly Tensor[], nonBlocking: boolean = false): void {
  let n = putTensors(0, self);
  n = putTensors(n, src);
  B[n] = booleanArgument(nonBlocking);
  call(_FOREACH_COPY_);
}

/**
 * Norm of each tensor.
 *
 * `aten::_foreach_norm.Scalar(Tensor[] self, Scalar ord=2, ScalarType? dtype=None)`
 */
export function _foreachNorm(self: readonly Tensor[], ord: Scalar = 2, dtype?: DType | null): Tensor[] {
  let n = putTensors(0, self);
  putScalar(n, ord);
  B[n + 2] = dtypeArgument(dtype);
  call(_FOREACH_NORM_SCALAR);
  return tensorList();
}

/**
 * One AdamW update of many tensors in one pass, gated on the device by found_inf, with gradients in any type; weights are written to rounded too where those are others. What is kept in bf16 is rounded at random where there are keys, by element, the first of which is first.
 *
 * `patina::adamw_(Tensor[] self, Tensor[] grads, Tensor[] exp_avgs, Tensor[] exp_avg_sqs, Tensor[] rounded, Tensor[] state_steps, *, float lr, float beta1, float beta2, float weight_decay, float eps, int[] keys=[], int[] first=[], Tensor? grad_scale=None, Tensor? found_inf=None)`
 */
export function adamw_(self: readonly Tensor[], grads: readonly Tensor[], expAvgs: readonly Tensor[], expAvgSqs: readonly Tensor[], rounded: readonly Tensor[], stateSteps: readonly Tensor[], { lr, beta1, beta2, weightDecay, eps, keys = [], first = [], gradScale, foundInf }: { lr: number; beta1: number; beta2: number; weightDecay: number; eps: number; keys?: readonly number[] | undefined; first?: readonly number[] | undefined; gradScale?: Tensor | null | undefined; foundInf?: Tensor | null | undefined }): void {
  let n = putTensors(0, self);
  n = putTensors(n, grads);
  n = putTensors(n, expAvgs);
  n = putTensors(n, expAvgSqs);
  n = putTensors(n, rounded);
  n = putTensors(n, stateSteps);
  B[n] = numberArgument(lr);
  B[n + 1] = numberArgument(beta1);
  B[n + 2] = numberArgument(beta2);
  B[n + 3] = numberArgument(weightDecay);
  B[n + 4] = numberArgument(eps);
  n = putNumbers(n + 5, keys);
  n = putNumbers(n, first);
  B[n] = optionalHandle(gradScale);
  B[n + 1] = optionalHandle(foundInf);
  call(PATINA__ADAMW_);
}

/**
 * The same with moments in the dynamic 8-bit type; keys are of bf16 weights alone.
 *
 * `patina::adamw_int8_(Tensor[] self, Tensor[] grads, Tensor[] exp_avgs, Tensor[] exp_avg_absmax, Tensor[] exp_avg_sqs, Tensor[] exp_avg_sq_absmax, Tensor[] rounded, Tensor[] state_steps, *, float lr, float beta1, float beta2, float weight_decay, float eps, int[] keys=[], int[] first=[], Tensor? grad_scale=None, Tensor? found_inf=None)`
 */
export function adamwInt8_(self: readonly Tensor[], grads: readonly Tensor[], expAvgs: readonly Tensor[], expAvgAbsmax: readonly Tensor[], expAvgSqs: readonly Tensor[], expAvgSqAbsmax: readonly Tensor[], rounded: readonly Tensor[], stateSteps: readonly Tensor[], { lr, beta1, beta2, weightDecay, eps, keys = [], first = [], gradScale, foundInf }: { lr: number; beta1: number; beta2: number; weightDecay: number; eps: number; keys?: readonly number[] | undefined; first?: readonly number[] | undefined; gradScale?: Tensor | null | undefined; foundInf?: Tensor | null | undefined }): void {
  let n = putTensors(0, self);
  n = putTensors(n, grads);
  n = putTensors(n, expAvgs);
  n = putTensors(n, expAvgAbsmax);
  n = putTensors(n, expAvgSqs);
  n = putTensors(n, expAvgSqAbsmax);
  n = putTensors(n, rounded);
  n = putTensors(n, stateSteps);
  B[n] = numberArgument(lr);
  B[n + 1] = numberArgument(beta1);
  B[n + 2] = numberArgument(beta2);
  B[n + 3] = numberArgument(weightDecay);
  B[n + 4] = numberArgument(eps);
  n = putNumbers(n + 5, keys);
  n = putNumbers(n, first);
  B[n] = optionalHandle(gradScale);
  B[n + 1] = optionalHandle(foundInf);
  call(PATINA__ADAMW_INT8_);
}
