// AdamW on the CPU in one pass over memory: reads a gradient in its own type, updates fp32 weights and moments, and writes the weights
// rounded to 16 bits beside them. What libtorch's fused AdamW computes, which writes a divided gradient back and leaves rounding to a copy.
#include "adamw.h"

#include <ATen/TensorIterator.h>
#include <ATen/Version.h>
#include <torch/library.h>

#include <cmath>
#include <type_traits>

namespace patina {
namespace {

using at::Tensor;
using at::TensorList;

/** The numbers of one tensor's update. */
struct Step {
  float divisor;   // of the gradient
  float decay;     // what the weights are multiplied by
  float average;   // weight of the gradient in the first moment, 1 - beta1
  float beta2;
  float square;    // weight of its square in the second, 1 - beta2
  float unbiased;  // sqrt(1 - beta2^t)
  float eps;
  float size;      // lr / (1 - beta1^t)
};

Step stepOf(double lr, double beta1, double beta2, double decay, double eps, double divisor, double t) {
  const double size = lr / (1 - std::pow(beta1, t)), unbiased = std::sqrt(1 - std::pow(beta2, t));
  const auto single = [](double value) { return static_cast<float>(value); };
  return {single(divisor),   single(1 - lr * decay), single(1 - beta1), single(beta2),
          single(1 - beta2), single(unbiased),       single(eps),       single(size)};
}

// a * b + c, rounded once where that costs no more.
template <bool fused>
inline __attribute__((always_inline)) float multiplyAdd(float a, float b, float c) {
  if constexpr (fused) return __builtin_fmaf(a, b, c);
  return a * b + c;
}

// The operations of libtorch's vectors in their order, so that results are the same to the bit, also where theirs end in single elements, which
// libtorch rounds otherwise. `data`: weights, moments, rounded weights (void: none), gradient.
template <typename Gradient, typename Rounded, bool fused>
inline __attribute__((always_inline)) void pass(const Step s, char** data, int64_t count) {
  auto* __restrict weights = reinterpret_cast<float*>(data[0]);
  auto* __restrict averages = reinterpret_cast<float*>(data[1]);
  auto* __restrict squares = reinterpret_cast<float*>(data[2]);
  auto* __restrict rounded = reinterpret_cast<Rounded*>(data[3]);
  const auto* __restrict gradients = reinterpret_cast<const Gradient*>(data[std::is_void_v<Rounded> ? 3 : 4]);
  for (int64_t i = 0; i < count; i++) {
    const float g = static_cast<float>(gradients[i]) / s.divisor;
    const float m = s.average < 0.5f ? multiplyAdd<fused>(s.average, g - averages[i], averages[i])
                                     : multiplyAdd<fused>(s.average - 1, g - averages[i], g);
    const float v = multiplyAdd<fused>(s.square * g, g, squares[i] * s.beta2);
    const float w = weights[i] * s.decay + -s.size * m / (std::sqrt(v) / s.unbiased + s.eps);
    averages[i] = m;
    squares[i] = v;
    weights[i] = w;
    if constexpr (!std::is_void_v<Rounded>) rounded[i] = static_cast<Rounded>(w);
  }
}

#ifdef __FP_FAST_FMAF
constexpr bool fusedAnyway = true;
#else
constexpr bool fusedAnyway = false;
#endif

template <typename Gradient, typename Rounded>
void passPortable(const Step& s, char** data, int64_t count) {
  pass<Gradient, Rounded, fusedAnyway>(s, data, count);
}

#ifdef __x86_64__
template <typename Gradient, typename Rounded>
__attribute__((target("avx2,fma"))) void passAvx2(const Step& s, char** data, int64_t count) {
  pass<Gradient, Rounded, true>(s, data, count);
}

template <typename Gradient, typename Rounded>
__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl,fma"))) void passAvx512(const Step& s, char** data, int64_t count) {
  pass<Gradient, Rounded, true>(s, data, count);
}
#endif

using Pass = void (*)(const Step&, char**, int64_t);

// For what libtorch uses of this processor.
template <typename Gradient, typename Rounded>
Pass passHere() {
#ifdef __x86_64__
  static const std::string capability = at::get_cpu_capability();
  if (capability == "AVX512") return passAvx512<Gradient, Rounded>;
  if (capability == "AVX2") return passAvx2<Gradient, Rounded>;
#endif
  return passPortable<Gradient, Rounded>;
}

template <typename Gradient>
Pass passInto(bool rounds, at::ScalarType rounded) {
  if (!rounds) return passHere<Gradient, void>();
  return rounded == at::kHalf ? passHere<Gradient, at::Half>() : passHere<Gradient, at::BFloat16>();
}

Pass passOf(at::ScalarType gradient, bool rounds, at::ScalarType rounded) {
  if (gradient == at::kFloat) return passInto<float>(rounds, rounded);
  return gradient == at::kHalf ? passInto<at::Half>(rounds, rounded) : passInto<at::BFloat16>(rounds, rounded);
}

bool isHalf(at::ScalarType type) { return type == at::kHalf || type == at::kBFloat16; }

void adamwCpu(TensorList self, TensorList grads, TensorList averages, TensorList squares, TensorList rounded, TensorList steps, double lr,
              double beta1, double beta2, double decay, double eps, const std::optional<Tensor>& divisor,
              const std::optional<Tensor>& foundInf) {
  checkAdamw(self, grads, averages, squares, rounded, steps, true);
  if (foundInf && foundInf->item<float>() != 0) return;
  const double by = divisor ? divisor->item<float>() : 1;
  for (size_t i = 0; i < self.size(); i++) {
    const bool rounds = !rounded[i].is_same(self[i]);
    const Step step = stepOf(lr, beta1, beta2, decay, eps, by, steps[i].item<float>());
    const Pass pass = passOf(grads[i].scalar_type(), rounds, rounded[i].scalar_type());
    at::TensorIteratorConfig tensors;
    tensors.check_all_same_dtype(false).resize_outputs(false);
    tensors.add_owned_output(self[i].view({-1})).add_owned_output(averages[i].view({-1})).add_owned_output(squares[i].view({-1}));
    if (rounds) tensors.add_owned_output(rounded[i].view({-1}));
    tensors.add_owned_const_input(grads[i].view({-1}));
    // By libtorch's own loop: at::parallel_for of its headers has but one thread in what is built without OpenMP.
    tensors.build().for_each([&](char** data, const int64_t*, int64_t count, int64_t) { pass(step, data, count); });
  }
}

void adamwMeta(TensorList self, TensorList grads, TensorList averages, TensorList squares, TensorList rounded, TensorList steps, double,
               double, double, double, double, const std::optional<Tensor>&, const std::optional<Tensor>&) {
  checkAdamw(self, grads, averages, squares, rounded, steps, false);
}

}  // namespace

void checkAdamw(TensorList self, TensorList grads, TensorList averages, TensorList squares, TensorList rounded, TensorList steps, bool single) {
  for (const TensorList list : {grads, averages, squares, rounded, steps})
    TORCH_CHECK(list.size() == self.size(), "adamw_ takes lists of one length, not of ", self.size(), " and ", list.size());
  for (size_t i = 0; i < self.size(); i++) {
    const auto expect = [&](const Tensor& x, const char* what, bool type) {
      TORCH_CHECK(type, "adamw_ takes no ", what, " in ", x.scalar_type());
      TORCH_CHECK(x.is_contiguous() && x.numel() == self[i].numel(), "adamw_ takes ", what, " that lie as ", self[i].numel(),
                  " weights do, not ", x.sizes(), " with strides ", x.strides());
      TORCH_CHECK(x.device() == self[i].device(), "adamw_ stays on one device, not ", self[i].device(), " and ", x.device());
    };
    for (const auto& [x, what] : {std::pair{&self[i], "weights"}, {&averages[i], "averages"}, {&squares[i], "squares"}})
      expect(*x, what, x->scalar_type() == at::kFloat || (!single && isHalf(x->scalar_type())));
    expect(squares[i], "squares", squares[i].scalar_type() == averages[i].scalar_type());
    expect(grads[i], "gradients", grads[i].scalar_type() == at::kFloat || isHalf(grads[i].scalar_type()));
    expect(rounded[i], "rounded weights", rounded[i].is_same(self[i]) || isHalf(rounded[i].scalar_type()));
    TORCH_CHECK(steps[i].numel() == 1 && steps[i].scalar_type() == at::kFloat, "adamw_ takes a step count as one number in fp32");
  }
  for (const TensorList list : {self, averages, squares, rounded})
    for (const Tensor& written : list) written.unsafeGetTensorImpl()->bump_version();
}

TORCH_LIBRARY_IMPL(patina, CPU, m) { m.impl("adamw_", adamwCpu); }
TORCH_LIBRARY_IMPL(patina, Meta, m) { m.impl("adamw_", adamwMeta); }

}  // namespace patina
