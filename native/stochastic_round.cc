// Stochastic rounding of fp32 to bf16: up or down with probabilities by distance, so that small updates are not lost on average (Zamirai et
// al. 2020). What an element draws is a function of a key and its index in the whole tensor, so that shards of any cut round alike.
#include "cuda_kernels.h"
#include "random_operators.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

namespace patina {
namespace {

using at::Tensor;

void checkStretch(const Tensor& target, const Tensor& source, int64_t from) {
  TORCH_CHECK(target.scalar_type() == at::kBFloat16 && source.scalar_type() == at::kFloat, "stochastic rounding goes from float32 to bfloat16");
  TORCH_CHECK(target.is_contiguous(), "stochastic rounding writes to contiguous tensors");
  TORCH_CHECK(target.numel() == source.numel(), "there are ", source.numel(), " elements to round into ", target.numel());
  TORCH_CHECK(target.device() == source.device(), "stochastic rounding stays on one device");
  TORCH_CHECK(from >= 0, "a stretch begins at an element from 0, not ", from);
}

Tensor& roundCpu(Tensor& target, const Tensor& source, at::IntArrayRef key, int64_t from) {
  checkStretch(target, source, from);
  const Tensor given = source.contiguous();
  const auto* bits = static_cast<const uint32_t*>(given.const_data_ptr());
  auto* to = static_cast<uint16_t*>(target.mutable_data_ptr());
  const int64_t end = from + target.numel();
  const PhiloxKey words = keyOf(key);
  at::parallel_for(from / 8, (end + 7) / 8, 2048, [&](int64_t first, int64_t last) {
    for (int64_t octet = first; octet < last; octet++) {
      const Words drawn = roundingWords(octet, words);
      for (int64_t e = std::max(from, octet * 8); e < std::min(end, octet * 8 + 8); e++)
        to[e - from] = roundedAtRandom(bits[e - from], bitsOf(drawn, static_cast<int>(e % 8)));
    }
  });
  return target;
}

Tensor& roundMeta(Tensor& target, const Tensor& source, at::IntArrayRef, int64_t from) {
  checkStretch(target, source, from);
  return target;
}

Tensor& roundCuda(Tensor& target, const Tensor& source, at::IntArrayRef key, int64_t from) {
  checkStretch(target, source, from);
  const CudaKernel kernel = cudaKernel("round_stochastic", target.device());
  if (!kernel) return roundStochasticComposite(target, source, key, from);
  const Tensor given = source.contiguous();
  void* to = target.mutable_data_ptr();
  const void* bits = given.const_data_ptr();
  int64_t count = target.numel();
  PhiloxKey words = keyOf(key);
  kernel.launch((from + count + 7) / 8 - from / 8, {&to, &bits, &from, &count, &words});
  return target;
}

}  // namespace

Tensor& roundStochastic(Tensor& target, const Tensor& source, at::IntArrayRef key, int64_t from) {
  return target.is_cpu() ? roundCpu(target, source, key, from) : roundCuda(target, source, key, from);
}

Tensor& roundStochasticComposite(Tensor& target, const Tensor& source, at::IntArrayRef key, int64_t from) {
  checkStretch(target, source, from);
  const int64_t first = from / 8, count = target.numel(), octets = (from + count + 7) / 8 - first;
  constexpr int64_t mask = 0xFFFFFFFF;
  const auto whole = source.options().dtype(at::kLong);
  const Tensor octet = at::arange(first, first + octets, whole), zero = at::zeros({1}, whole);
  const auto words = philoxComposite({octet.bitwise_and(mask), octet.__rshift__(32).bitwise_and(mask), zero, zero}, keyOf(key));
  const Tensor pairs = at::stack(words, 1);
  const Tensor random = at::stack({pairs.bitwise_and(int64_t{0xFFFF}), pairs.__rshift__(16)}, 2).flatten().narrow(0, from - 8 * first, count);
  const Tensor given = source.reshape({-1}), bits = given.contiguous().view(at::kInt).to(at::kLong).bitwise_and(mask);
  const Tensor rounded = at::where(given.isinf(), bits, bits + random).__rshift__(16).bitwise_and(int64_t{0xFFFF});
  target.view({-1}).view(at::kShort).copy_(rounded.masked_fill(given.isnan(), 0x7FC0).to(at::kShort));
  return target;
}

TORCH_LIBRARY_IMPL(patina, CPU, m) { m.impl("round_stochastic_", roundCpu); }
TORCH_LIBRARY_IMPL(patina, CUDA, m) { m.impl("round_stochastic_", roundCuda); }
TORCH_LIBRARY_IMPL(patina, Meta, m) { m.impl("round_stochastic_", roundMeta); }
// Moves the version counter, as every operator that writes in place.
TORCH_LIBRARY_IMPL(patina, ADInplaceOrView, m) {
  m.impl("round_stochastic_", torch::autograd::autogradNotImplementedInplaceOrViewFallback());
}

}  // namespace patina
