// Cross entropy of rows of logits, whose gradient takes their place: the widest tensor of a step is held once.
//
//   loss = logsumexp(z) - z[target]        dz = factor (softmax(z) - onehot(target))
//
// Computed in fp32 (fp64 for fp64), rounded once. The kernel (native/cuda/kernels/cross_entropy.cu) adds in an order that depends on the
// sizes alone; a target that is no column gives NaN there, and an error on the CPU.
#include "cuda_kernels.h"

#include <ATen/ops/_log_softmax.h>
#include <ATen/ops/_log_softmax_backward_data.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

namespace patina {
namespace {

using at::Tensor;
using std::optional;

at::ScalarType computeTypeOf(const Tensor& logits) { return logits.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

void check(const Tensor& logits, const Tensor& targets, const optional<Tensor>& factor) {
  TORCH_CHECK(logits.dim() == 2 && logits.is_floating_point(), "cross_entropy_ takes rows of logits");
  TORCH_CHECK(targets.dim() == 1 && targets.scalar_type() == at::kLong && targets.size(0) == logits.size(0),
              "cross_entropy_ takes a target for each of ", logits.size(0), " rows, as int64");
  TORCH_CHECK(targets.device() == logits.device(), "targets lie on the device of the logits");
  TORCH_CHECK(!factor || (factor->numel() == 1 && factor->scalar_type() == computeTypeOf(logits) && factor->device() == logits.device()),
              "the factor is one number in the dtype of the losses, beside the logits");
}

Tensor crossEntropy(Tensor& logits, const Tensor& targets, const optional<Tensor>& factor) {
  check(logits, targets, factor);
  // Wide tensors are written over what is no longer read: fresh memory costs more than the arithmetic.
  Tensor logProbabilities = logits.to(computeTypeOf(logits), false, true);
  at::_log_softmax_out(logProbabilities, logProbabilities, 1, false);
  const Tensor columns = targets.unsqueeze(1), losses = logProbabilities.gather(1, columns).squeeze(1).neg();
  if (factor) {
    Tensor gradient = at::zeros_like(logProbabilities).scatter_(1, columns, factor->neg().expand({logits.size(0), 1}));
    at::_log_softmax_backward_data_out(gradient, gradient, logProbabilities, 1, gradient.scalar_type());
    logits.copy_(gradient);
  }
  return losses;
}

Tensor crossEntropyMeta(Tensor& logits, const Tensor& targets, const optional<Tensor>& factor) {
  check(logits, targets, factor);
  return at::empty({logits.size(0)}, logits.options().dtype(computeTypeOf(logits)));
}

const char* kernelName(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return "cross_entropy_float32";
    case at::kHalf: return "cross_entropy_float16";
    case at::kBFloat16: return "cross_entropy_bfloat16";
    default: return nullptr;
  }
}

Tensor crossEntropyCuda(Tensor& logits, const Tensor& targets, const optional<Tensor>& factor) {
  check(logits, targets, factor);
  constexpr int64_t block = 256;
  int64_t columns = logits.size(1), stride = logits.stride(0);
  const char* const name = kernelName(logits.scalar_type());
  const bool dense = logits.numel() > 0 && (logits.stride(1) == 1 || columns == 1);
  const CudaKernel kernel = name == nullptr || !dense ? CudaKernel() : cudaKernel(name, logits.device());
  if (!kernel) return crossEntropy(logits, targets, factor);
  const Tensor own = targets.contiguous();
  Tensor losses = at::empty({logits.size(0)}, logits.options().dtype(at::kFloat));
  const int64_t pack = 16 / logits.element_size();
  bool wide = columns % pack == 0 && stride % pack == 0 && reinterpret_cast<uintptr_t>(logits.const_data_ptr()) % 16 == 0;
  void *z = logits.mutable_data_ptr(), *loss = losses.mutable_data_ptr();
  const void *target = own.const_data_ptr(), *by = factor ? factor->const_data_ptr() : nullptr;
  kernel.launch(logits.size(0) * block, {&z, &stride, &target, &by, &loss, &columns, &wide});
  return losses;
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(patina, m) {
  m.def("cross_entropy_(Tensor(a!) self, Tensor targets, Tensor? factor) -> Tensor");
  // What the kernel is held against.
  m.def("cross_entropy_composite_(Tensor(a!) self, Tensor targets, Tensor? factor) -> Tensor", crossEntropy);
}

TORCH_LIBRARY_IMPL(patina, CPU, m) { m.impl("cross_entropy_", crossEntropy); }
TORCH_LIBRARY_IMPL(patina, CUDA, m) { m.impl("cross_entropy_", crossEntropyCuda); }
TORCH_LIBRARY_IMPL(patina, Meta, m) { m.impl("cross_entropy_", crossEntropyMeta); }
TORCH_LIBRARY_IMPL(patina, Autograd, m) { m.impl("cross_entropy_", torch::autograd::autogradNotImplementedFallback()); }

}  // namespace patina
