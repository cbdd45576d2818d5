// The kernels of native/cuda/kernels/nf4.cu: their launch. On a card for which they cannot be compiled, and for fp64, composites stand in.
#include "cuda_kernels.h"
#include "nf4.h"

#include <torch/library.h>

namespace patina {
namespace {

using at::Tensor;
using std::optional;

CudaKernel kernelFor(const std::string& operation, const Tensor& weight) {
  const char* const suffix = weight.scalar_type() == at::kFloat      ? "_float32"
                             : weight.scalar_type() == at::kHalf     ? "_float16"
                             : weight.scalar_type() == at::kBFloat16 ? "_bfloat16"
                                                                     : nullptr;
  return suffix == nullptr ? CudaKernel() : cudaKernel((operation + suffix).c_str(), weight.device());
}

std::tuple<Tensor, Tensor> quantiseCuda(const Tensor& weight, const Tensor& code) {
  checkQuantise(weight, code);
  const CudaKernel kernel = kernelFor("nf4_quantise", weight);
  if (!kernel) return nf4QuantiseComposite(weight, code);
  int64_t count = weight.numel();
  const int64_t blocks = (count + NF4_BLOCK - 1) / NF4_BLOCK;
  const Tensor given = weight.contiguous();
  Tensor packed = at::empty({(count + 1) / 2, 1}, weight.options().dtype(at::kByte));
  Tensor absmax = at::empty({blocks}, weight.options().dtype(at::kFloat));
  const void *from = given.const_data_ptr(), *values = code.const_data_ptr();
  void *bytes = packed.mutable_data_ptr(), *scales = absmax.mutable_data_ptr();
  kernel.launch(blocks * 32, {&from, &values, &bytes, &scales, &count});
  return {packed, absmax};
}

Tensor& dequantiseCuda(Tensor& weight, const Tensor& packed, const Tensor& absmax, const Tensor& code, const optional<Tensor>& nested,
                       const optional<Tensor>& nestedCode, const optional<Tensor>& offset, optional<at::ScalarType> type) {
  checkNf4(weight, {packed, absmax, code, nested, nestedCode, offset, type});
  const CudaKernel kernel = kernelFor("nf4_dequantise", weight);
  if (!kernel) return nf4DequantiseComposite(weight, {packed, absmax, code, nested, nestedCode, offset, type});
  const auto pointer = [](const optional<Tensor>& part) { return part ? part->const_data_ptr() : nullptr; };
  const void *bytes = packed.const_data_ptr(), *scales = absmax.const_data_ptr(), *values = code.const_data_ptr();
  const void *largest = pointer(nested), *nestedValues = pointer(nestedCode), *mean = pointer(offset);
  void* to = weight.mutable_data_ptr();
  int64_t count = weight.numel();
  // As the kernel numbers them.
  int through = type == weight.scalar_type() ? 0 : type == at::kHalf ? 1 : type == at::kBFloat16 ? 2 : 0;
  bool wide = reinterpret_cast<uintptr_t>(bytes) % 4 == 0 && reinterpret_cast<uintptr_t>(to) % (8 * weight.element_size()) == 0;
  kernel.launch((count + 7) / 8, {&bytes, &scales, &values, &largest, &nestedValues, &mean, &to, &count, &through, &wide});
  return weight;
}

}  // namespace

TORCH_LIBRARY_IMPL(patina, CUDA, m) {
  m.impl("nf4_quantise", quantiseCuda);
  m.impl("nf4_dequantise_", dequantiseCuda);
}

}  // namespace patina
