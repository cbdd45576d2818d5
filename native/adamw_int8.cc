// AdamW whose moments are kept in 8 bits, by blocks of 256 values with a scale each, as bitsandbytes keeps them (Dettmers et al. 2022, "8-bit
// Optimizers via Block-wise Quantization"): one pass reads codes, updates in fp32, and writes codes again.
//
//   m = beta1 m + (1 - beta1) g      v = beta2 v + (1 - beta2) g^2      w = w (1 - lr decay) - lr m / (1 - beta1^t) / (sqrt(v / (1 - beta2^t)) + eps)
//
// Weights are those of the unrounded moments. A tensor's blocks begin at its beginning, so pieces that are cut at multiples of 256 are updated
// as the whole is. Here the kernels for CPU and meta and the composite of libtorch's operators, which the others are held against; all
// compute codes and scales by the same operations, none of them fused, and so to the bit.
#include "adamw_int8.h"
#include "random_operators.h"

#include <ATen/TensorIterator.h>
#include <torch/library.h>

#include <cmath>
#include <cstring>

namespace patina {
namespace {

using at::Tensor;
using at::TensorList;

// The numbers of one tensor's update.
struct Step {
  float inverse;   // of the gradient's divisor
  float decay;     // what the weights are multiplied by
  float beta1, average;  // 1 - beta1
  float beta2, square;   // 1 - beta2
  float unbiased;  // sqrt(1 - beta2^t)
  float eps;
  float size;      // lr / (1 - beta1^t)
};

Step stepOf(const AdamwSettings& s, const Tensor& step) {
  const double t = step.item<float>(), divisor = s.divisor ? s.divisor->item<float>() : 1;
  const double left1 = -std::expm1(t * std::log(s.beta1)), left2 = -std::expm1(t * std::log(s.beta2));
  const auto single = [](double value) { return static_cast<float>(value); };
  return {1 / single(divisor), single(1 - s.lr * s.decay), single(s.beta1), single(1 - s.beta1), single(s.beta2), single(1 - s.beta2),
          single(std::sqrt(left2)), single(s.eps), single(s.lr / left1)};
}

// One block on its way: gradients and weights as they come out of and go into memory of any type.
struct Block {
  float gradients[DYNAMIC_BLOCK], weights[DYNAMIC_BLOCK];
  float averages[DYNAMIC_BLOCK], squares[DYNAMIC_BLOCK];
};

template <typename T>
inline __attribute__((always_inline)) void convertFrom(const void* from, int64_t at, float* to, int count) {
  const T* values = static_cast<const T*>(from) + at;
  for (int i = 0; i < count; i++) to[i] = static_cast<float>(values[i]);
}

template <typename T>
inline __attribute__((always_inline)) void convertTo(void* to, int64_t at, const float* from, int count) {
  T* values = static_cast<T*>(to) + at;
  for (int i = 0; i < count; i++) values[i] = static_cast<T>(from[i]);
}

inline __attribute__((always_inline)) void read(const void* from, at::ScalarType type, int64_t at, float* to, int count) {
  if (type == at::kFloat) convertFrom<float>(from, at, to, count);
  else if (type == at::kHalf) convertFrom<at::Half>(from, at, to, count);
  else convertFrom<at::BFloat16>(from, at, to, count);
}

inline __attribute__((always_inline)) void write(void* to, at::ScalarType type, int64_t at, const float* from, int count) {
  if (type == at::kFloat) convertTo<float>(to, at, from, count);
  else if (type == at::kHalf) convertTo<at::Half>(to, at, from, count);
  else convertTo<at::BFloat16>(to, at, from, count);
}

// Magnitudes as bits are in their order, and integers have a vector maximum.
inline __attribute__((always_inline)) float largestOf(const float* values, int count) {
  int largest = 0;
  for (int i = 0; i < count; i++) {
    const int bits = std::bit_cast<int>(values[i]) & 0x7FFFFFFF;
    largest = bits > largest ? bits : largest;
  }
  const float scale = std::bit_cast<float>(largest);
  return scale < DYNAMIC_LEAST ? 0 : scale;
}

// One tensor, as blocks see it.
struct Target {
  void *weights, *rounded;
  const void* gradients;
  uint8_t *averages, *squares;
  float *averageScales, *squareScales;
  at::ScalarType weightType, roundedType, gradientType;
  int64_t count, from;
  // Null: to nearest.
  const PhiloxKey* key;
};

void roundAtRandom(const Target& t, int64_t at, const float* weights, int count) {
  auto* to = static_cast<uint16_t*>(t.weights) + at;
  for (int i = 0; i < count; i += 8) {
    const Words drawn = roundingWords((t.from + at + i) / 8, *t.key);
    for (int k = i; k < std::min(i + 8, count); k++) to[k] = roundedAtRandom(std::bit_cast<uint32_t>(weights[k]), bitsOf(drawn, k - i));
  }
}

inline __attribute__((always_inline)) void passBlocks(const Step& s, const DynamicMaps& maps, const Target& t, int64_t first, int64_t last) {
  for (int64_t block = first; block < last; block++) {
    const int64_t at = block * DYNAMIC_BLOCK;
    const int count = static_cast<int>(std::min<int64_t>(DYNAMIC_BLOCK, t.count - at));
    uint8_t *averages = t.averages + at, *squares = t.squares + at;
    float &averageScale = t.averageScales[block], &squareScale = t.squareScales[block];
    Block b;
    read(t.gradients, t.gradientType, at, b.gradients, count);
    read(t.weights, t.weightType, at, b.weights, count);
    for (int i = 0; i < count; i++) {
      b.averages[i] = maps.averages.values[averages[i]] * averageScale;
      b.squares[i] = maps.squares.values[squares[i]] * squareScale;
    }
    for (int i = 0; i < count; i++) {
      const float g = b.gradients[i] * s.inverse;
      const float m = s.beta1 * b.averages[i] + s.average * g, v = s.beta2 * b.squares[i] + s.square * g * g;
      b.weights[i] = b.weights[i] * s.decay - s.size * m / (std::sqrt(v) / s.unbiased + s.eps);
      b.averages[i] = m;
      b.squares[i] = v;
    }
    averageScale = largestOf(b.averages, count);
    squareScale = largestOf(b.squares, count);
    const float byAverage = averageScale == 0 ? 0 : 1 / averageScale, bySquare = squareScale == 0 ? 0 : 1 / squareScale;
    for (int i = 0; i < count; i++) {
      averages[i] = codeOfAverage(maps.averages, b.averages[i] * byAverage);
      squares[i] = codeOfSquare(maps.squares, b.squares[i] * bySquare);
    }
    if (t.key != nullptr) roundAtRandom(t, at, b.weights, count);
    else write(t.weights, t.weightType, at, b.weights, count);
    if (t.rounded != nullptr) write(t.rounded, t.roundedType, at, b.weights, count);
  }
}

void passPortable(const Step& s, const DynamicMaps& maps, const Target& t, int64_t first, int64_t last) { passBlocks(s, maps, t, first, last); }

using Pass = void (*)(const Step&, const DynamicMaps&, const Target&, int64_t, int64_t);

#ifdef __x86_64__
__attribute__((target("avx2"))) void passAvx2(const Step& s, const DynamicMaps& maps, const Target& t, int64_t first, int64_t last) {
  passBlocks(s, maps, t, first, last);
}

__attribute__((target("avx512f,avx512bw,avx512dq,avx512vl"))) void passAvx512(const Step& s, const DynamicMaps& maps, const Target& t,
                                                                              int64_t first, int64_t last) {
  passBlocks(s, maps, t, first, last);
}
#endif

// For what libtorch uses of this processor.
Pass passHere() {
#ifdef __x86_64__
  static const std::string capability = at::get_cpu_capability();
  if (capability == "AVX512") return passAvx512;
  if (capability == "AVX2") return passAvx2;
#endif
  return passPortable;
}

void adamwInt8Cpu(const Int8Lists& lists, const AdamwSettings& settings) {
  if (settings.foundInf && settings.foundInf->item<float>() != 0) return;
  const DynamicMaps& maps = dynamicMaps();
  const Pass pass = passHere();
  for (size_t i = 0; i < lists.weights.size(); i++) {
    const Tensor &weights = lists.weights[i], &rounded = lists.rounded[i], &scales = lists.averageScales[i];
    if (weights.numel() == 0) continue;
    const Step step = stepOf(settings, lists.steps[i]);
    PhiloxKey key{};
    if (!lists.keys.empty()) key = keyOf(lists.keyOf(i));
    const Target target{weights.mutable_data_ptr(),
                        rounded.is_same(weights) ? nullptr : rounded.mutable_data_ptr(),
                        lists.gradients[i].const_data_ptr(),
                        lists.averages[i].mutable_data_ptr<uint8_t>(),
                        lists.squares[i].mutable_data_ptr<uint8_t>(),
                        scales.mutable_data_ptr<float>(),
                        lists.squareScales[i].mutable_data_ptr<float>(),
                        weights.scalar_type(),
                        rounded.scalar_type(),
                        lists.gradients[i].scalar_type(),
                        weights.numel(),
                        lists.fromOf(i),
                        lists.keys.empty() ? nullptr : &key};
    // Blocks by libtorch's own loop over their scales, as adamw.cc does.
    at::TensorIteratorConfig blocks;
    blocks.check_all_same_dtype(false).resize_outputs(false).add_owned_output(scales.view({-1}));
    const auto loop = [&](char** data, const int64_t*, int64_t count, int64_t) {
      const int64_t first = reinterpret_cast<float*>(data[0]) - target.averageScales;
      pass(step, maps, target, first, first + count);
    };
    blocks.build().for_each(loop, at::internal::GRAIN_SIZE / DYNAMIC_BLOCK);
  }
}

void adamwInt8Meta(const Int8Lists&, const AdamwSettings&) {}

}  // namespace

void checkInt8(const Int8Lists& lists) {
  const size_t count = lists.weights.size();
  for (const TensorList list : {lists.gradients, lists.averages, lists.averageScales, lists.squares, lists.squareScales, lists.rounded, lists.steps})
    TORCH_CHECK(list.size() == count, "adamw_int8_ takes lists of one length, not of ", count, " and ", list.size());
  TORCH_CHECK(lists.keys.empty() || lists.keys.size() == 2 * count, "adamw_int8_ takes two words of a key for each of ", count, " tensors, not ",
              lists.keys.size(), " in all");
  TORCH_CHECK(lists.from.empty() || lists.from.size() == count, "adamw_int8_ takes a first element for each of ", count, " tensors, not ",
              lists.from.size());
  for (size_t i = 0; i < count; i++) {
    const Tensor& weights = lists.weights[i];
    const auto expect = [&](const Tensor& x, const char* what, int64_t elements, bool type) {
      TORCH_CHECK(type, "adamw_int8_ takes no ", what, " in ", x.scalar_type());
      TORCH_CHECK(x.is_contiguous() && x.numel() == elements, "adamw_int8_ takes ", elements, " ", what, " for ", weights.numel(),
                  " weights, dense in memory, not ", x.sizes(), " with strides ", x.strides());
      TORCH_CHECK(x.device() == lists.weights[0].device(), "adamw_int8_ stays on one device, not ", lists.weights[0].device(), " and ",
                  x.device());
    };
    const auto isFloat = [](const Tensor& x) { return x.scalar_type() == at::kFloat; };
    const auto isTaken = [&](const Tensor& x) { return isFloat(x) || isHalf(x); };
    const int64_t elements = weights.numel(), blocks = dynamicBlocks(elements);
    expect(weights, "weights", elements, isTaken(weights));
    expect(lists.gradients[i], "gradients", elements, isTaken(lists.gradients[i]));
    for (const Tensor* codes : {&lists.averages[i], &lists.squares[i]}) expect(*codes, "codes", elements, codes->scalar_type() == at::kByte);
    for (const Tensor* scales : {&lists.averageScales[i], &lists.squareScales[i]}) expect(*scales, "scales", blocks, isFloat(*scales));
    expect(lists.rounded[i], "rounded weights", elements, lists.rounded[i].is_same(weights) || isHalf(lists.rounded[i]));
    expect(lists.steps[i], "step count", 1, isFloat(lists.steps[i]));
    TORCH_CHECK(lists.fromOf(i) >= 0 && lists.fromOf(i) % DYNAMIC_BLOCK == 0, "adamw_int8_ takes pieces that begin at multiples of ",
                DYNAMIC_BLOCK, ", not at ", lists.fromOf(i));
    TORCH_CHECK(lists.keys.empty() || weights.scalar_type() == at::kBFloat16, "adamw_int8_ rounds bfloat16 at random, not ",
                weights.scalar_type());
  }
  for (const TensorList list : {lists.weights, lists.averages, lists.averageScales, lists.squares, lists.squareScales, lists.rounded})
    for (const Tensor& written : list) written.unsafeGetTensorImpl()->bump_version();
}

void adamwInt8Composite(const Int8Lists& lists, const AdamwSettings& settings) {
  if (settings.foundInf && settings.foundInf->item<float>() != 0) return;
  for (size_t i = 0; i < lists.weights.size(); i++) {
    const Tensor &weights = lists.weights[i], &averages = lists.averages[i], &squares = lists.squares[i];
    if (weights.numel() == 0) continue;
    const Step s = stepOf(settings, lists.steps[i]);
    const Tensor g = lists.gradients[i].to(at::kFloat).reshape(weights.sizes()) * s.inverse;
    const Tensor m = dynamicDequantise(averages, lists.averageScales[i], true).view(weights.sizes()) * s.beta1 + g * s.average;
    const Tensor v = dynamicDequantise(squares, lists.squareScales[i], false).view(weights.sizes()) * s.beta2 + g * s.square * g;
    const Tensor w = weights.to(at::kFloat) * s.decay - m * s.size / (v.sqrt() / s.unbiased + s.eps);
    for (const auto& [codes, scales, values, isSigned] :
         {std::tuple{&averages, &lists.averageScales[i], &m, true}, {&squares, &lists.squareScales[i], &v, false}}) {
      const auto [made, absmax] = dynamicQuantise(*values, isSigned);
      codes->copy_(made.view(codes->sizes()));
      scales->copy_(absmax.view(scales->sizes()));
    }
    Tensor target = weights;
    if (lists.keys.empty()) target.copy_(w);
    else roundStochasticComposite(target, w, lists.keyOf(i), lists.fromOf(i));
    if (!lists.rounded[i].is_same(weights)) lists.rounded[i].copy_(w.view(lists.rounded[i].sizes()));
  }
}

#define PATINA_ADAMW_INT8(name)                                                                                                          \
  name                                                                                                                                   \
      "(Tensor(a!)[] self, Tensor[] grads, Tensor(b!)[] exp_avgs, Tensor(c!)[] exp_avg_absmax, Tensor(d!)[] exp_avg_sqs, "               \
      "Tensor(e!)[] exp_avg_sq_absmax, Tensor(f!)[] rounded, Tensor[] state_steps, *, float lr, float beta1, float beta2, "              \
      "float weight_decay, float eps, int[] keys=[], int[] first=[], Tensor? grad_scale=None, Tensor? found_inf=None) -> ()"

TORCH_LIBRARY_FRAGMENT(patina, m) {
  // Where `rounded` is `self`, nothing is rounded. Two words of `keys` for each tensor: bf16 weights are rounded at random.
  m.def(PATINA_ADAMW_INT8("adamw_int8_"));
  // What the kernels are held against.
  m.def(PATINA_ADAMW_INT8("adamw_int8_composite_"), adamwInt8<adamwInt8Composite>);
}

TORCH_LIBRARY_IMPL(patina, CPU, m) { m.impl("adamw_int8_", adamwInt8<adamwInt8Cpu>); }
TORCH_LIBRARY_IMPL(patina, Meta, m) { m.impl("adamw_int8_", adamwInt8<adamwInt8Meta>); }

}  // namespace patina
