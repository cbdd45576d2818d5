// The values of the dynamic 8-bit type, and tensors in it, by blocks of 256 with a scale each, by libtorch's operators: what the optimizer's
// kernels are held against, and what converts its states.
#include "adamw_int8.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <mutex>
#include <unordered_map>

namespace patina {
namespace {

using at::Tensor;

// The magnitudes between 0 and 1 as bitsandbytes computes them in fp32, decade by decade: the middles of even stretches of [0.1, 1], which begin
// where torch.linspace has them, times a power of ten.
std::vector<float> magnitudes(int decades, int firstCount) {
  std::vector<float> values;
  for (int i = 0; i < decades; i++) {
    const int count = firstCount << i;
    const float step = (1.0f - 0.1f) / static_cast<float>(count), power = static_cast<float>(std::pow(10.0, i - decades + 1));
    const auto edge = [&](int k) {
      return static_cast<float>(k < (count + 1) / 2 ? 0.1f + static_cast<double>(step) * k : 1 - static_cast<double>(step) * (count - k));
    };
    for (int k = 0; k < count; k++) values.push_back(power * ((edge(k) + edge(k + 1)) / 2));
  }
  return values;
}

DynamicMap makeMap(bool isSigned) {
  DynamicMap map;
  std::vector<float> positive = magnitudes(7, isSigned ? 1 : 2), all;
  if (isSigned)
    for (auto each = positive.rbegin(); each != positive.rend(); ++each) all.push_back(-*each);
  positive.insert(positive.begin(), 0.0f);
  positive.push_back(1.0f);
  all.insert(all.end(), positive.begin(), positive.end());
  TORCH_INTERNAL_ASSERT(all.size() == 256);
  std::copy(all.begin(), all.end(), map.values);
  std::fill(std::begin(map.lines), std::end(map.lines), std::numeric_limits<float>::infinity());
  const size_t count = positive.size() - 1;
  for (size_t k = 0; k < count; k++) map.lines[k] = (positive[k] + positive[k + 1]) / 2;
  for (int cell = 0; cell < DYNAMIC_CELLS; cell++) {
    const auto below = [&](int at) {
      const float begin = std::bit_cast<float>((0x3400 + at) << 16);
      return std::lower_bound(map.lines, map.lines + count, begin) - map.lines;
    };
    map.first[cell] = static_cast<unsigned char>(below(cell));
    TORCH_INTERNAL_ASSERT(below(cell + 1) - below(cell) < 2, "two lines in a stretch");
  }
  return map;
}

// Midpoints of magnitudes, on a device.
Tensor linesOn(bool isSigned, const Tensor& like) {
  const DynamicMap& map = isSigned ? dynamicMaps().averages : dynamicMaps().squares;
  const auto* end = std::find(map.lines, map.lines + 256, std::numeric_limits<float>::infinity());
  return at::tensor(at::ArrayRef<float>(map.lines, end), at::kFloat).to(like.device());
}

Tensor inBlocks(const Tensor& x) {
  const int64_t blocks = dynamicBlocks(x.numel());
  return at::constant_pad_nd(x.reshape({-1}), {0, blocks * DYNAMIC_BLOCK - x.numel()}).view({blocks, DYNAMIC_BLOCK});
}

}  // namespace

const DynamicMaps& dynamicMaps() {
  static const DynamicMaps maps{makeMap(true), makeMap(false)};
  return maps;
}

const void* dynamicMapsOn(c10::Device device) {
  static std::mutex mutex;
  static auto& copies = *new std::unordered_map<int, Tensor>();
  const std::lock_guard<std::mutex> lock(mutex);
  Tensor& copy = copies[device.index()];
  if (!copy.defined()) copy = at::from_blob(const_cast<DynamicMaps*>(&dynamicMaps()), {sizeof(DynamicMaps)}, at::kByte).to(device);
  return copy.const_data_ptr();
}

std::tuple<Tensor, Tensor> dynamicQuantise(const Tensor& x, bool isSigned) {
  TORCH_CHECK(x.scalar_type() == at::kFloat, "the dynamic 8-bit type takes float32, not ", x.scalar_type());
  const Tensor values = inBlocks(x), largest = values.abs().amax({1}), scale = at::where(largest.lt(DYNAMIC_LEAST), 0, largest);
  const Tensor scaled = values * at::where(scale.eq(0), 0, scale.reciprocal()).unsqueeze(1);
  const Tensor nearest = at::bucketize(scaled.abs(), linesOn(isSigned, x));
  const Tensor codes = isSigned ? at::where(scaled.lt(0), (DYNAMIC_ZERO - nearest).clamp_min(0), nearest + DYNAMIC_ZERO)
                                : at::maximum(nearest, scaled.gt(0).to(at::kLong));
  return {codes.to(at::kByte).view({-1}).narrow(0, 0, x.numel()).clone().view(x.sizes()), scale};
}

Tensor dynamicDequantise(const Tensor& codes, const Tensor& absmax, bool isSigned) {
  const int64_t count = codes.numel();
  TORCH_CHECK(codes.scalar_type() == at::kByte && absmax.scalar_type() == at::kFloat && absmax.numel() == dynamicBlocks(count), count,
              " codes of the dynamic 8-bit type have ", dynamicBlocks(count), " scales in float32, not ", absmax.numel(), " in ",
              absmax.scalar_type());
  const DynamicMap& map = isSigned ? dynamicMaps().averages : dynamicMaps().squares;
  const Tensor values = at::tensor(at::ArrayRef<float>(map.values, 256), at::kFloat).to(codes.device());
  const Tensor scales = absmax.reshape({-1, 1}).expand({-1, DYNAMIC_BLOCK}).reshape({-1}).narrow(0, 0, count);
  return at::take(values, codes.to(at::kLong)) * scales.view(codes.sizes());
}

namespace {

// Sizes alone.
std::tuple<Tensor, Tensor> dynamicQuantiseMeta(const Tensor& x, bool) {
  return {at::empty(x.sizes(), x.options().dtype(at::kByte)), at::empty({dynamicBlocks(x.numel())}, x.options())};
}

Tensor dynamicDequantiseMeta(const Tensor& codes, const Tensor& absmax, bool) { return at::empty(codes.sizes(), absmax.options()); }

}  // namespace

TORCH_LIBRARY_FRAGMENT(patina, m) {
  m.def("dynamic_quantise(Tensor self, bool signed) -> (Tensor, Tensor)");
  m.def("dynamic_dequantise(Tensor self, Tensor absmax, bool signed) -> Tensor");
}

TORCH_LIBRARY_IMPL(patina, CompositeExplicitAutograd, m) {
  m.impl("dynamic_quantise", dynamicQuantise);
  m.impl("dynamic_dequantise", dynamicDequantise);
}

TORCH_LIBRARY_IMPL(patina, Meta, m) {
  m.impl("dynamic_quantise", dynamicQuantiseMeta);
  m.impl("dynamic_dequantise", dynamicDequantiseMeta);
}

TORCH_LIBRARY_IMPL(patina, Autograd, m) {
  for (const char* name : {"dynamic_quantise", "dynamic_dequantise"}) m.impl(name, torch::autograd::autogradNotImplementedFallback());
}

}  // namespace patina
