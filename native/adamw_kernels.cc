// AdamW on CUDA by the kernels of native/cuda/kernels/adamw.cu, which read and write weights, moments and gradients in whatever types they
// are kept; where they cannot be compiled, by the composite.
#include "adamw.h"
#include "cuda_kernels.h"
#include "random_operators.h"

#include <torch/library.h>

#include <cmath>

namespace patina {
namespace {

using at::Tensor;

constexpr int64_t BLOCK = 256;
constexpr int TENSORS = 40;

// Elements that a block of threads updates.
constexpr int64_t chunkOf(bool random) { return BLOCK * 8 * (random ? 8 : 2); }

// As the kernel has them.
struct AdamwTensor {
  void *weights, *averages, *squares, *rounded;
  const void* gradients;
  const float* steps;
  int64_t count, from;
  PhiloxKey keys[3];
  unsigned int block;
  unsigned char weightType, momentType, roundedType, gradientType;
};

struct AdamwList {
  AdamwTensor at[TENSORS];
  int count = 0;
};

void adamwCuda(const AdamwLists& lists, const AdamwSettings& s) {
  if (lists.weights.empty()) return;
  const bool random = !lists.keys.empty();
  const CudaKernel kernel = cudaKernel(random ? "adamw_random" : "adamw", lists.weights[0].device());
  if (!kernel) return adamwComposite(lists, s);
  const auto pointer = [](const std::optional<Tensor>& x) { return x ? x->const_data_ptr() : nullptr; };
  const void *divisor = pointer(s.divisor), *found = pointer(s.foundInf);
  double logBeta1 = std::log(s.beta1), logBeta2 = std::log(s.beta2);
  const int64_t chunk = chunkOf(random);
  AdamwList list;
  bool wide = true;
  int64_t blocks = 0;
  const auto launch = [&] {
    if (blocks > 0)
      kernel.launch(blocks * BLOCK, {&list, &s.lr, &s.beta1, &s.beta2, &logBeta1, &logBeta2, &s.decay, &s.eps, &divisor, &found, &wide});
    list.count = 0;
    blocks = 0;
    wide = true;
  };
  for (size_t i = 0; i < lists.weights.size(); i++) {
    const Tensor &weights = lists.weights[i], &averages = lists.averages[i], &squares = lists.squares[i], &rounded = lists.rounded[i],
                 &gradients = lists.gradients[i];
    const int64_t count = weights.numel();
    if (count == 0) continue;
    for (const Tensor* each : {&weights, &averages, &squares, &rounded, &gradients}) wide = wide && isWide(*each);
    wide = wide && (!random || lists.fromOf(i) % 8 == 0);
    const auto key = [&](size_t which) { return random ? keyOf(lists.keyOf(i, which)) : PhiloxKey{}; };
    list.at[list.count++] = {weights.mutable_data_ptr(),
                             averages.mutable_data_ptr(),
                             squares.mutable_data_ptr(),
                             rounded.is_same(weights) ? nullptr : rounded.mutable_data_ptr(),
                             gradients.const_data_ptr(),
                             lists.steps[i].const_data_ptr<float>(),
                             count,
                             lists.fromOf(i),
                             {key(0), key(1), key(2)},
                             static_cast<unsigned int>(blocks),
                             codeOf(weights),
                             codeOf(averages),
                             codeOf(rounded),
                             codeOf(gradients)};
    blocks += (count + chunk - 1) / chunk;
    if (list.count == TENSORS) launch();
  }
  launch();
}

}  // namespace

TORCH_LIBRARY_IMPL(patina, CUDA, m) { m.impl("adamw_", adamw<adamwCuda>); }

}  // namespace patina
