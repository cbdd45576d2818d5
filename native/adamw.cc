// AdamW on the CPU in one pass over memory: reads a gradient in its own type, updates fp32 weights and moments, and writes the weights
// rounded to 16 bits beside them. What libtorch's fused AdamW computes, which writes a divided gradient back and leaves rounding to a copy.
// And the composite, which gives that very one fp32 copies of what is kept in 16 bits; kernels are held against it.
#include "adamw.h"
#include "random_operators.h"

#include <ATen/TensorIterator.h>
#include <ATen/Version.h>
#include <ATen/ops/_fused_adamw.h>
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

// What is kept in 16 bits, as moments may be here too, goes through copies.
void adamwCpu(const AdamwLists& lists, const AdamwSettings& s) {
  if (s.foundInf && s.foundInf->item<float>() != 0) return;
  const double divisor = s.divisor ? s.divisor->item<float>() : 1;
  for (size_t i = 0; i < lists.weights.size(); i++) {
    if (isHalf(lists.weights[i]) || isHalf(lists.averages[i])) {
      adamwInCopies(lists, s, i);
      continue;
    }
    const Tensor &weights = lists.weights[i], &gradients = lists.gradients[i], &rounded = lists.rounded[i];
    const bool rounds = !rounded.is_same(weights);
    const Step step = stepOf(s.lr, s.beta1, s.beta2, s.decay, s.eps, divisor, lists.steps[i].item<float>());
    const Pass pass = passOf(gradients.scalar_type(), rounds, rounded.scalar_type());
    at::TensorIteratorConfig tensors;
    tensors.check_all_same_dtype(false).resize_outputs(false);
    for (const Tensor* written : {&weights, &lists.averages[i], &lists.squares[i]}) tensors.add_owned_output(written->view({-1}));
    if (rounds) tensors.add_owned_output(rounded.view({-1}));
    tensors.add_owned_const_input(gradients.view({-1}));
    // By libtorch's own loop: at::parallel_for of its headers has but one thread in what is built without OpenMP.
    tensors.build().for_each([&](char** data, const int64_t*, int64_t count, int64_t) { pass(step, data, count); });
  }
}

void adamwMeta(const AdamwLists&, const AdamwSettings&) {}

}  // namespace

void checkAdamw(const AdamwLists& lists) {
  const size_t count = lists.weights.size();
  for (const TensorList list : {lists.gradients, lists.averages, lists.squares, lists.rounded, lists.steps})
    TORCH_CHECK(list.size() == count, "adamw_ takes lists of one length, not of ", count, " and ", list.size());
  TORCH_CHECK(lists.keys.empty() || lists.keys.size() == 6 * count, "adamw_ takes three keys of two words for each of ", count,
              " tensors, not ", lists.keys.size(), " words in all");
  TORCH_CHECK(lists.from.empty() || lists.from.size() == count, "adamw_ takes a first element for each of ", count, " tensors, not ",
              lists.from.size());
  for (size_t i = 0; i < count; i++) {
    const Tensor& weights = lists.weights[i];
    const auto expect = [&](const Tensor& x, const char* what, bool type) {
      TORCH_CHECK(type, "adamw_ takes no ", what, " in ", x.scalar_type());
      TORCH_CHECK(x.is_contiguous() && x.numel() == weights.numel(), "adamw_ takes ", what, " that lie as ", weights.numel(),
                  " weights do, not ", x.sizes(), " with strides ", x.strides());
      TORCH_CHECK(x.device() == weights.device(), "adamw_ stays on one device, not ", weights.device(), " and ", x.device());
    };
    const auto isTaken = [](const Tensor& x) { return x.scalar_type() == at::kFloat || isHalf(x); };
    for (const auto& [x, what] : {std::pair{&weights, "weights"}, {&lists.averages[i], "averages"}, {&lists.gradients[i], "gradients"}})
      expect(*x, what, isTaken(*x));
    expect(lists.squares[i], "squares", lists.squares[i].scalar_type() == lists.averages[i].scalar_type());
    expect(lists.rounded[i], "rounded weights", lists.rounded[i].is_same(weights) || isHalf(lists.rounded[i]));
    TORCH_CHECK(lists.steps[i].numel() == 1 && lists.steps[i].scalar_type() == at::kFloat, "adamw_ takes a step count as one number in fp32");
    TORCH_CHECK(lists.fromOf(i) >= 0, "adamw_ takes pieces that begin at an element from 0, not ", lists.fromOf(i));
  }
  for (const TensorList list : {lists.weights, lists.averages, lists.squares, lists.rounded})
    for (const Tensor& written : list) written.unsafeGetTensorImpl()->bump_version();
}

void adamwInCopies(const AdamwLists& lists, const AdamwSettings& s, size_t i) {
  const auto single = [](const Tensor& x) { return x.to(at::kFloat); };
  const Tensor w = single(lists.weights[i]), m = single(lists.averages[i]), v = single(lists.squares[i]);
  // The kernel writes a divided gradient back.
  const Tensor g = lists.gradients[i].to(at::kFloat, false, true);
  at::_fused_adamw_({w}, {g}, {m}, {v}, {}, {lists.steps[i]}, s.lr, s.beta1, s.beta2, s.decay, s.eps, false, false, s.divisor, s.foundInf);
  if (!lists.rounded[i].is_same(lists.weights[i])) lists.rounded[i].copy_(w.view(lists.rounded[i].sizes()));
  const auto keep = [&](Tensor to, const Tensor& from, size_t which) {
    if (to.is_same(from)) return;
    if (to.scalar_type() == at::kBFloat16 && !lists.keys.empty()) roundStochastic(to, from, lists.keyOf(i, which), lists.fromOf(i));
    else to.copy_(from);
  };
  keep(lists.weights[i], w, 0);
  keep(lists.averages[i], m, 1);
  keep(lists.squares[i], v, 2);
}

void adamwComposite(const AdamwLists& lists, const AdamwSettings& settings) {
  for (size_t i = 0; i < lists.weights.size(); i++) adamwInCopies(lists, settings, i);
}

#define PATINA_ADAMW(name)                                                                                                               \
  name                                                                                                                                   \
      "(Tensor(a!)[] self, Tensor[] grads, Tensor(b!)[] exp_avgs, Tensor(c!)[] exp_avg_sqs, Tensor(d!)[] rounded, "                      \
      "Tensor[] state_steps, *, float lr, float beta1, float beta2, float weight_decay, float eps, int[] keys=[], int[] first=[], "      \
      "Tensor? grad_scale=None, Tensor? found_inf=None) -> ()"

TORCH_LIBRARY_FRAGMENT(patina, m) {
  // Where `rounded` is `self`, weights are not written a second time. Six words of `keys` for each tensor: of weights and moments, what is
  // kept in bf16 is rounded at random.
  m.def(PATINA_ADAMW("adamw_"));
  // What the kernels are held against.
  m.def(PATINA_ADAMW("adamw_composite_"), adamw<adamwComposite>);
}

TORCH_LIBRARY_IMPL(patina, CPU, m) { m.impl("adamw_", adamw<adamwCpu>); }
TORCH_LIBRARY_IMPL(patina, Meta, m) { m.impl("adamw_", adamw<adamwMeta>); }

}  // namespace patina
