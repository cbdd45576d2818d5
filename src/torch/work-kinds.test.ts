import { readdirSync, readFileSync } from 'node:fs';
import { describe, expect, it, test } from 'vitest';
import { cardTeraflops, kindOfKernel, kindOfOperator, productOperations } from './index.js';

// Names that traces on H100 and H200 hold.
test.each([
  ['nvjet_sm90_tst_128x256_64x4_1x2_h_bz_coopA_NNT', 'products'],
  ['nvjet_tst_192x192_64x4_2x1_v_bz_coopB_TNN', 'products'],
  ['sm90_xmma_gemm_bf16bf16_bf16f32_f32_tn_n_tilesize128x128x64_warpgroupsize2x1x1', 'products'],
  ['sm80_xmma_gemm_f32f32_tf32f32_f32_tn_n_tilesize64x64x8_stage3', 'products'],
  [
    'void cutlass::Kernel2<cutlass_80_wmma_tensorop_bf16_s161616gemm_bf16_32x32_64x2_tn_align8>(cutlass_80_wmma_tensorop::Params)',
    'products',
  ],
  ['ampere_bf16_s16816gemm_bf16_128x128_ldg8_f2f_stages_32x5_tn', 'products'],
  ['void cublasLt::splitKreduce_kernel<32, 16, int, float, __nv_bfloat16>(...)', 'products'],
  [
    'void gemv2T_kernel_val<int, int, __nv_bfloat16, __nv_bfloat16, float, 128, 16, 4>(...)',
    'products',
  ],
  [
    'void flash::flash_fwd_kernel<Flash_fwd_kernel_traits<128, 128, 64, 4, false, false, cutlass::bfloat16_t>>(flash::Flash_fwd_params)',
    'attention',
  ],
  [
    'void pytorch_flash::flash_bwd_dq_dk_dv_loop_seqk_parallel_kernel<pytorch_flash::Flash_bwd_kernel_traits<64>>(...)',
    'attention',
  ],
  [
    'cudnn_generated_fort_native_sdpa_sm90_flash_fprop_wgmma_f16_knob_3_64x128x128_4x1x1_kernel0_0',
    'attention',
  ],
  ['void cudnn::fusion::compute_dot_do_o_specialized<true, __nv_bfloat16, 128>(...)', 'attention'],
  ['void cudnn::fusion::convert_dq_to_16bits<true, __nv_bfloat16, 128, 256>(...)', 'attention'],
  [
    'fmha_cutlassF_bf16_aligned_64x128_rf_sm80(PyTorchMemEffAttention::AttentionKernel<...>::Params)',
    'attention',
  ],
  [
    'void at::native::(anonymous namespace)::vectorized_layer_norm_kernel<c10::BFloat16, float, false>(...)',
    'norms',
  ],
  [
    'void at::native::(anonymous namespace)::GammaBetaBackwardCUDAKernelTemplate<c10::BFloat16, float>(...)',
    'norms',
  ],
  [
    'void at::native::(anonymous namespace)::cunn_SoftMaxForward<4, float, float, float>(...)',
    'loss',
  ],
  [
    'void at::native::(anonymous namespace)::nll_loss_forward_reduce_cuda_kernel_2d<float, float>(...)',
    'loss',
  ],
  [
    'void at::native::(anonymous namespace)::multi_tensor_apply_kernel<at::native::(anonymous namespace)::TensorListMetadata<2>>(...)',
    'optimizer',
  ],
  [
    'void at::native::vectorized_elementwise_kernel<4, at::native::CUDAFunctor_add<c10::BFloat16>, std::array<char*, 3>>(...)',
    'elementwise',
  ],
  [
    'void at::native::unrolled_elementwise_kernel<at::native::direct_copy_kernel_cuda(at::TensorIteratorBase&)>(...)',
    'elementwise',
  ],
  [
    'void at::native::reduce_kernel<512, 1, at::native::ReduceOp<float, at::native::NormTwoOps<float, float, float, float>>>(...)',
    'elementwise',
  ],
  [
    'void at::native::(anonymous namespace)::CatArrayBatchedCopy<at::native::(anonymous namespace)::OpaqueType<2u>>(...)',
    'elementwise',
  ],
  [
    'void at::native::(anonymous namespace)::indexSelectLargeIndex<c10::BFloat16>(...)',
    'elementwise',
  ],
  ['Memcpy HtoD (Pinned -> Device)', 'copies'],
  ['Memcpy HtoD (Pageable -> Device)', 'copies'],
  ['Memcpy DtoH (Device -> Pinned)', 'copies'],
  ['Memcpy DtoD (Device -> Device)', 'elementwise'],
  ['Memset (Device)', 'elementwise'],
  ['ncclDevKernel_AllReduce_Sum_bf16_RING_LL(ncclDevKernelArgsStorage<4096ul>)', 'communication'],
  [
    'ncclDevKernel_ReduceScatter_Sum_f32_RING_LL(ncclDevKernelArgsStorage<4096ul>)',
    'communication',
  ],
  ['ncclKernel_AllGather_RING_LL_Sum_int8_t(ncclWorkElem)', 'communication'],
  ['something_new_kernel', 'other'],
])('%s is of the kind %s', (name, kind) => expect(kindOfKernel(name)).toBe(kind));

describe('kernels of our own', () => {
  const folder = new URL('../../native/cuda/kernels/', import.meta.url);
  const names = readdirSync(folder)
    .filter((file) => file.endsWith('.cu'))
    .flatMap((file) => {
      const text = readFileSync(new URL(file, folder), 'utf8');
      const declared = text.matchAll(
        /__global__\s+void\s+(?:__launch_bounds__\([^)]*\))?[\s\\]*([\w#]+)\(/g,
      );
      const instances = [...text.matchAll(/^PATINA_(?:ADAMW|DROPOUT|CROSS_ENTROPY)\((\w+),/gm)];
      return [...declared, ...instances].map(([, name]) => name!.replaceAll('##', ''));
    })
    .filter((name) => name !== 'name');

  test.each(names)('%s has a kind', (name) => expect(kindOfKernel(name)).not.toBe('other'));

  it('are all found', () => {
    for (const part of [
      'adamw_random',
      'swiglu',
      'rotary',
      'rms_norm',
      'cross_entropy',
      'dropped_product',
    ]) {
      expect(names.join(' ')).toContain(part);
    }
  });

  test.each([
    ['add_rms_norm_bfloat16', 'norms'],
    ['rms_norm_backward_float32', 'norms'],
    ['rotary_backward_bfloat16', 'elementwise'],
    ['swiglu_low_rank_backward_bfloat16', 'elementwise'],
    ['dropped_product_4_bfloat16', 'adapters'],
    ['dropped_gradients_bfloat16', 'adapters'],
    ['add_dropped_bfloat16', 'adapters'],
    ['sum_parts_bfloat16', 'adapters'],
    ['cross_entropy_bfloat16', 'loss'],
    ['dropout_bfloat16', 'elementwise'],
    ['adamw', 'optimizer'],
    ['adamw_random', 'optimizer'],
    ['round_stochastic', 'optimizer'],
  ])('%s is of the kind %s', (name, kind) => expect(kindOfKernel(name)).toBe(kind));
});

test.each([
  ['aten::mm', 'products'],
  ['aten::addmm_', 'products'],
  ['aten::baddbmm', 'products'],
  ['aten::mkldnn_convolution', 'products'],
  ['aten::_scaled_dot_product_flash_attention_for_cpu', 'attention'],
  ['aten::native_layer_norm_backward', 'norms'],
  ['patina::add_rms_norm_', 'norms'],
  ['aten::_log_softmax', 'loss'],
  ['patina::cross_entropy_', 'loss'],
  ['patina::adamw_', 'optimizer'],
  ['patina::dropped_gradients', 'adapters'],
  ['patina::swiglu_backward_', 'elementwise'],
  ['aten::addcmul_', 'elementwise'],
  ['aten::empty_strided', 'other'],
  ['c10d::allreduce_', 'communication'],
  ['gloo:all_reduce', 'communication'],
])('the operator %s is of the kind %s', (name, kind) => expect(kindOfOperator(name)).toBe(kind));

test.each([
  [
    'aten::mm',
    [
      [3, 5],
      [5, 7],
    ],
    210,
  ],
  ['aten::addmm', [[7], [3, 5], [5, 7]], 210],
  [
    'aten::bmm',
    [
      [2, 3, 5],
      [2, 5, 7],
    ],
    420,
  ],
  [
    'aten::baddbmm_',
    [
      [2, 3, 7],
      [2, 3, 5],
      [2, 5, 7],
    ],
    420,
  ],
  // What it is made of counts.
  [
    'aten::linear',
    [
      [3, 5],
      [7, 5],
    ],
    0,
  ],
  ['aten::mm', [], 0],
])('%s of %j does %d operations', (name, shapes, operations) =>
  expect(productOperations(name, shapes)).toBe(operations),
);

test.each([
  ['NVIDIA H100 80GB HBM3', 989],
  ['NVIDIA H100 PCIe', 756],
  ['NVIDIA H200', 989],
  ['NVIDIA A100-SXM4-80GB', 312],
  ['NVIDIA GeForce RTX 4090', 165],
  ['NVIDIA GeForce RTX 4090 Laptop GPU', undefined],
  ['NVIDIA L40S', 362],
  ['NVIDIA GeForce GTX 1080', undefined],
])('%s does %s teraflops', (card, rate) => expect(cardTeraflops(card)).toBe(rate));
