// AdamW with moments in 8 bits on CUDA by the kernel of native/cuda/kernels/adamw_int8.cu; where it cannot be compiled, by the composite.
#include "adamw_int8.h"
#include "cuda_kernels.h"
#include "random_operators.h"

#include <torch/library.h>

#include <cmath>

namespace patina {
namespace {

using at::Tensor;

constexpr int64_t BLOCK = 256, CHUNK = 64 * DYNAMIC_BLOCK;
constexpr int TENSORS = 36;

// As the kernel has them.
struct Int8Tensor {
  void *weights, *rounded;
  const void* gradients;
  void *averages, *squares, *averageScales, *squareScales;
  const void* steps;
  int64_t count, from;
  PhiloxKey key;
  unsigned int block;
  unsigned char weightType, roundedType, gradientType;
};

struct Int8List {
  Int8Tensor at[TENSORS];
  int count = 0;
};

void adamwInt8Cuda(const Int8Lists& lists, const AdamwSettings& s) {
  if (lists.weights.empty()) return;
  const c10::Device device = lists.weights[0].device();
  const CudaKernel kernel = cudaKernel("adamw_int8", device);
  if (!kernel) return adamwInt8Composite(lists, s);
  const auto pointer = [](const std::optional<Tensor>& x) { return x ? x->const_data_ptr() : nullptr; };
  const void *maps = dynamicMapsOn(device), *divisor = pointer(s.divisor), *found = pointer(s.foundInf);
  double logBeta1 = std::log(s.beta1), logBeta2 = std::log(s.beta2);
  bool random = !lists.keys.empty(), wide = true;
  Int8List list;
  int64_t blocks = 0;
  const auto launch = [&] {
    if (blocks > 0)
      kernel.launch(blocks * BLOCK,
                    {&list, &maps, &s.lr, &s.beta1, &s.beta2, &logBeta1, &logBeta2, &s.decay, &s.eps, &divisor, &found, &random, &wide});
    list.count = 0;
    blocks = 0;
    wide = true;
  };
  for (size_t i = 0; i < lists.weights.size(); i++) {
    const Tensor &weights = lists.weights[i], &rounded = lists.rounded[i];
    const int64_t count = weights.numel();
    if (count == 0) continue;
    for (const Tensor* each : {&weights, &rounded, &lists.gradients[i], &lists.averages[i], &lists.squares[i]}) wide = wide && isWide(*each);
    PhiloxKey key{};
    if (random) key = keyOf(lists.keyOf(i));
    list.at[list.count++] = {weights.mutable_data_ptr(),
                             rounded.is_same(weights) ? nullptr : rounded.mutable_data_ptr(),
                             lists.gradients[i].const_data_ptr(),
                             lists.averages[i].mutable_data_ptr(),
                             lists.squares[i].mutable_data_ptr(),
                             lists.averageScales[i].mutable_data_ptr(),
                             lists.squareScales[i].mutable_data_ptr(),
                             lists.steps[i].const_data_ptr(),
                             count,
                             lists.fromOf(i),
                             key,
                             static_cast<unsigned int>(blocks),
                             codeOf(weights),
                             codeOf(rounded),
                             codeOf(lists.gradients[i])};
    blocks += (count + CHUNK - 1) / CHUNK;
    if (list.count == TENSORS) launch();
  }
  launch();
}

}  // namespace

TORCH_LIBRARY_IMPL(patina, CUDA, m) { m.impl("adamw_int8_", adamwInt8<adamwInt8Cuda>); }

}  // namespace patina
