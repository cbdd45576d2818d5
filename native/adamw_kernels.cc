// AdamW on CUDA by the kernel of native/cuda/kernels/adamw.cu, which reads and writes weights, moments and gradients in whatever types they
// are kept; where it cannot be compiled, by libtorch's in fp32 copies, one tensor at a time.
#include "adamw.h"
#include "cuda_kernels.h"

#include <ATen/ops/_fused_adamw.h>
#include <torch/library.h>

#include <cmath>

namespace patina {
namespace {

using at::Tensor;
using at::TensorList;
using std::optional;

constexpr int64_t BLOCK = 256, CHUNK = 256 * 8 * 8;
constexpr int TENSORS = 48;

// As the kernel has them.
struct AdamwTensor {
  void *weights, *averages, *squares, *rounded;
  const void* gradients;
  const float* steps;
  int64_t count;
  unsigned int block;
  unsigned char weightType, momentType, roundedType, gradientType;
};

struct AdamwList {
  AdamwTensor at[TENSORS];
  int count = 0;
};

unsigned char codeOf(const Tensor& x) { return x.scalar_type() == at::kFloat ? 0 : x.scalar_type() == at::kHalf ? 1 : 2; }

void adamwComposite(TensorList self, TensorList grads, TensorList averages, TensorList squares, TensorList rounded, TensorList steps,
                    double lr, double beta1, double beta2, double decay, double eps, const optional<Tensor>& divisor,
                    const optional<Tensor>& foundInf) {
  for (size_t i = 0; i < self.size(); i++) {
    const auto single = [](const Tensor& x) { return x.to(at::kFloat); };
    // The kernel writes a divided gradient back.
    const Tensor w = single(self[i]), m = single(averages[i]), v = single(squares[i]), g = grads[i].to(at::kFloat, false, true);
    at::_fused_adamw_({w}, {g}, {m}, {v}, {}, {steps[i]}, lr, beta1, beta2, decay, eps, false, false, divisor, foundInf);
    for (const auto& [to, from] : {std::pair{&self[i], &w}, {&averages[i], &m}, {&squares[i], &v}, {&rounded[i], &w}})
      if (!to->is_same(*from)) to->copy_(*from);
  }
}

void adamwCuda(TensorList self, TensorList grads, TensorList averages, TensorList squares, TensorList rounded, TensorList steps, double lr,
               double beta1, double beta2, double decay, double eps, const optional<Tensor>& divisor, const optional<Tensor>& foundInf) {
  checkAdamw(self, grads, averages, squares, rounded, steps, false);
  if (self.empty()) return;
  const CudaKernel kernel = cudaKernel("adamw", self[0].device());
  if (!kernel) return adamwComposite(self, grads, averages, squares, rounded, steps, lr, beta1, beta2, decay, eps, divisor, foundInf);
  const void *by = divisor ? divisor->const_data_ptr() : nullptr, *found = foundInf ? foundInf->const_data_ptr() : nullptr;
  double logBeta1 = std::log(beta1), logBeta2 = std::log(beta2);
  AdamwList list;
  bool wide = true;
  int64_t blocks = 0;
  const auto launch = [&] {
    if (blocks > 0) kernel.launch(blocks * BLOCK, {&list, &lr, &beta1, &beta2, &logBeta1, &logBeta2, &decay, &eps, &by, &found, &wide});
    list.count = 0;
    blocks = 0;
    wide = true;
  };
  for (size_t i = 0; i < self.size(); i++) {
    if (self[i].numel() == 0) continue;
    for (const Tensor* each : {&self[i], &averages[i], &squares[i], &rounded[i], &grads[i]})
      wide = wide && reinterpret_cast<uintptr_t>(each->const_data_ptr()) % (8 * each->element_size()) == 0;
    void* const second = rounded[i].is_same(self[i]) ? nullptr : rounded[i].mutable_data_ptr();
    list.at[list.count++] = {self[i].mutable_data_ptr(),
                             averages[i].mutable_data_ptr(),
                             squares[i].mutable_data_ptr(),
                             second,
                             grads[i].const_data_ptr(),
                             steps[i].const_data_ptr<float>(),
                             self[i].numel(),
                             static_cast<unsigned int>(blocks),
                             codeOf(self[i]),
                             codeOf(averages[i]),
                             codeOf(rounded[i]),
                             codeOf(grads[i])};
    blocks += (self[i].numel() + CHUNK - 1) / CHUNK;
    if (list.count == TENSORS) launch();
  }
  launch();
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(patina, m) {
  // What the kernel is held against.
  m.def(
      "adamw_composite_(Tensor(a!)[] self, Tensor[] grads, Tensor(b!)[] exp_avgs, Tensor(c!)[] exp_avg_sqs, Tensor(d!)[] rounded, "
      "Tensor[] state_steps, *, float lr, float beta1, float beta2, float weight_decay, float eps, Tensor? grad_scale=None, "
      "Tensor? found_inf=None) -> ()",
      adamwComposite);
}

TORCH_LIBRARY_IMPL(patina, CUDA, m) { m.impl("adamw_", adamwCuda); }

}  // namespace patina
