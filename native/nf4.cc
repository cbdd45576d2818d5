// 4-bit NormalFloat (Dettmers et al. 2023, "QLoRA"), to the bit as bitsandbytes stores it: weights by rows, in blocks of 64 with the largest
// magnitude of each as its scale; the code of a weight is the nearest of 16 values to weight / scale. Double quantisation keeps the scales in
// bytes: the nearest of 256 values to (scale - offset) / largest of 256 such differences, the offset being the mean of all scales.
//
//   code = number of midpoints of the 16 values below w * (1 / scale), in a last block that is not full below w / scale
//   w'   = value[code] * scale, in fp32, rounded to the type that the weight had
//
// Here the kernels for CPU and meta, and composites of libtorch's operators, which the others are held against.
#include "nf4.h"

#include <ATen/Parallel.h>
#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace patina {
namespace {

using at::Tensor;
using std::optional;
using torch::autograd::variable_list;

// Below it a block counts as zeros.
constexpr float LEAST = 1e-38f;
// The code of 0, which fills up a last byte.
constexpr uint8_t ZERO = 7;

int64_t blocksOf(int64_t count, int64_t size) { return (count + size - 1) / size; }

float roundedTo(float value, optional<at::ScalarType> type) {
  if (type == at::kBFloat16) return c10::BFloat16(value);
  return type == at::kHalf ? static_cast<float>(c10::Half(value)) : value;
}

std::tuple<Tensor, Tensor> makeParts(const Tensor& weight) {
  return {at::empty({(weight.numel() + 1) / 2, 1}, weight.options().dtype(at::kByte)),
          at::empty({blocksOf(weight.numel(), NF4_BLOCK)}, weight.options().dtype(at::kFloat))};
}

std::array<float, 15> midpointsOf(const Tensor& code) {
  const float* values = code.const_data_ptr<float>();
  std::array<float, 15> points;
  for (int i = 0; i < 15; i++) points[i] = (values[i] + values[i + 1]) / 2;
  return points;
}

std::tuple<Tensor, Tensor> quantiseCpu(const Tensor& weight, const Tensor& code) {
  checkQuantise(weight, code);
  auto [packed, absmax] = makeParts(weight);
  const Tensor given = weight.contiguous();
  const auto points = midpointsOf(code);
  auto* bytes = packed.mutable_data_ptr<uint8_t>();
  auto* scales = absmax.mutable_data_ptr<float>();
  const int64_t count = weight.numel();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, weight.scalar_type(), "nf4_quantise", [&] {
    const auto* values = given.const_data_ptr<scalar_t>();
    at::parallel_for(0, absmax.numel(), 256, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; block++) {
        const int64_t begin = block * NF4_BLOCK, length = std::min(NF4_BLOCK, count - begin);
        const bool whole = length == NF4_BLOCK;
        float scale = 0;
        for (int64_t i = 0; i < length; i++) scale = std::max(scale, std::abs(static_cast<float>(values[begin + i])));
        const float divisor = std::max(scale, LEAST), factor = 1 / divisor;
        scales[block] = whole ? scale : divisor;
        uint8_t codes[NF4_BLOCK + 1];
        for (int64_t i = 0; i < length; i++) {
          const float value = static_cast<float>(values[begin + i]), scaled = whole ? value * factor : value / divisor;
          int below = 0;
          for (const float point : points) below += point < scaled;
          codes[i] = static_cast<uint8_t>(below);
        }
        codes[length] = ZERO;
        for (int64_t i = 0; i < length; i += 2) bytes[(begin + i) / 2] = static_cast<uint8_t>(codes[i] << 4 | codes[i + 1]);
      }
    });
  });
  return {packed, absmax};
}

std::tuple<Tensor, Tensor> quantiseMeta(const Tensor& weight, const Tensor& code) {
  checkQuantise(weight, code);
  return makeParts(weight);
}

void checkScales(const Tensor& absmax, const Tensor& code) {
  TORCH_CHECK(absmax.scalar_type() == at::kFloat && absmax.dim() == 1, "double quantisation takes scales in float32");
  TORCH_CHECK(code.scalar_type() == at::kFloat && code.numel() == 256, "double quantisation has 256 values");
}

// The sums of the mean are in fp64: which order they are made in is not seen in the result. Few numbers: on every device by libtorch's operators.
std::tuple<Tensor, Tensor, Tensor> quantiseScales(const Tensor& absmax, const Tensor& code) {
  checkScales(absmax, code);
  const int64_t count = absmax.numel(), blocks = blocksOf(count, NF4_NESTED_BLOCK);
  const Tensor offset = absmax.to(at::kDouble).mean().to(at::kFloat).reshape({1});
  const Tensor differences = at::constant_pad_nd(absmax - offset, {0, blocks * NF4_NESTED_BLOCK - count}).view({blocks, NF4_NESTED_BLOCK});
  const Tensor largest = differences.abs().amax({1});
  // Scales that are all alike take byte 0, and the offset is what they come back as.
  const Tensor scaled = differences / largest.unsqueeze(1);
  const Tensor left = (at::searchsorted(code, scaled.contiguous(), false, true) - 1).clamp(0, 254);
  const Tensor toLeft = (scaled - at::take(code, left)).abs(), toRight = (scaled - at::take(code, left + 1)).abs();
  const Tensor nearest = (left + toRight.lt(toLeft).to(left.scalar_type())).masked_fill(largest.eq(0).unsqueeze(1), 0);
  return {nearest.to(at::kByte).flatten().narrow(0, 0, count).clone(), largest, offset};
}

std::tuple<Tensor, Tensor, Tensor> quantiseScalesMeta(const Tensor& absmax, const Tensor& code) {
  checkScales(absmax, code);
  return {at::empty_like(absmax, at::kByte), at::empty({blocksOf(absmax.numel(), NF4_NESTED_BLOCK)}, absmax.options()),
          at::empty({1}, absmax.options())};
}

Tensor& dequantiseCpu(Tensor& weight, const Tensor& packed, const Tensor& absmax, const Tensor& code, const optional<Tensor>& nested,
                      const optional<Tensor>& nestedCode, const optional<Tensor>& offset, optional<at::ScalarType> type) {
  checkNf4(weight, {packed, absmax, code, nested, nestedCode, offset, type});
  const auto* bytes = packed.const_data_ptr<uint8_t>();
  const float* values = code.const_data_ptr<float>();
  const auto scaleOf = [&](int64_t block) {
    if (!nested) return absmax.const_data_ptr<float>()[block];
    const float difference = nestedCode->const_data_ptr<float>()[absmax.const_data_ptr<uint8_t>()[block]] *
                             nested->const_data_ptr<float>()[block / NF4_NESTED_BLOCK];
    return difference + *offset->const_data_ptr<float>();
  };
  const int64_t count = weight.numel();
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, weight.scalar_type(), "nf4_dequantise_", [&] {
    auto* to = weight.mutable_data_ptr<scalar_t>();
    at::parallel_for(0, absmax.numel(), 256, [&](int64_t first, int64_t last) {
      for (int64_t block = first; block < last; block++) {
        const float scale = scaleOf(block);
        scalar_t scaled[16];
        for (int i = 0; i < 16; i++) scaled[i] = static_cast<scalar_t>(roundedTo(values[i] * scale, type));
        const int64_t begin = block * NF4_BLOCK, end = std::min(begin + NF4_BLOCK, count);
        for (int64_t i = begin; i < end; i++) to[i] = scaled[bytes[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15];
      }
    });
  });
  return weight;
}

Tensor& dequantiseMeta(Tensor& weight, const Tensor& packed, const Tensor& absmax, const Tensor& code, const optional<Tensor>& nested,
                       const optional<Tensor>& nestedCode, const optional<Tensor>& offset, optional<at::ScalarType> type) {
  checkNf4(weight, {packed, absmax, code, nested, nestedCode, offset, type});
  return weight;
}

Tensor& dequantiseCompositeOf(Tensor& weight, const Tensor& packed, const Tensor& absmax, const Tensor& code, const optional<Tensor>& nested,
                              const optional<Tensor>& nestedCode, const optional<Tensor>& offset, optional<at::ScalarType> type) {
  return nf4DequantiseComposite(weight, {packed, absmax, code, nested, nestedCode, offset, type});
}

// The matrix of a product with rows x: made for it alone.
Tensor denseFor(const Tensor& x, int64_t outFeatures, const Nf4& nf4) {
  static const auto operation =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("patina::nf4_dequantise_", "")
          .typed<Tensor&(Tensor&, const Tensor&, const Tensor&, const Tensor&, const optional<Tensor>&, const optional<Tensor>&,
                         const optional<Tensor>&, optional<at::ScalarType>)>();
  Tensor dense = at::empty({outFeatures, x.size(-1)}, x.options());
  return operation.call(dense, nf4.packed, nf4.absmax, nf4.code, nf4.nested, nf4.nestedCode, nf4.offset, nf4.type);
}

Tensor linear(const Tensor& x, int64_t outFeatures, const optional<Tensor>& bias, const Tensor& packed, const Tensor& absmax,
              const Tensor& code, const optional<Tensor>& nested, const optional<Tensor>& nestedCode, const optional<Tensor>& offset, optional<at::ScalarType> type) {
  return at::linear(x, denseFor(x, outFeatures, {packed, absmax, code, nested, nestedCode, offset, type}), bias);
}

// Saves the matrix as it is stored, and makes it dense once more for the backward.
struct Linear : torch::autograd::Function<Linear> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, int64_t outFeatures, const optional<Tensor>& bias,
                        const Tensor& packed, const Tensor& absmax, const Tensor& code, const optional<Tensor>& nested,
                        const optional<Tensor>& nestedCode, const optional<Tensor>& offset, optional<at::ScalarType> type) {
    variable_list parts = {packed, absmax, code};
    if (nested) parts.insert(parts.end(), {*nested, *nestedCode, *offset});
    context->save_for_backward(parts);
    context->saved_data["type"] = static_cast<int64_t>(type.value_or(x.scalar_type()));
    context->saved_data["columns"] = x.size(-1);
    context->saved_data["bias"] = bias.has_value() && bias->requires_grad();
    at::AutoDispatchBelowADInplaceOrView below;
    return linear(x, outFeatures, bias, packed, absmax, code, nested, nestedCode, offset, type);
  }

  static variable_list backward(torch::autograd::AutogradContext* context, variable_list upstream) {
    const variable_list parts = context->get_saved_variables();
    const auto part = [&](size_t i) { return i < parts.size() ? optional(parts[i]) : std::nullopt; };
    const auto nested = part(3), nestedCode = part(4), offset = part(5);
    const Tensor& g = upstream[0];
    const Tensor rows = g.new_empty({0, context->saved_data["columns"].toInt()});
    const auto type = static_cast<at::ScalarType>(context->saved_data["type"].toInt());
    variable_list gradients(10);
    gradients[0] = g.matmul(denseFor(rows, g.size(-1), {parts[0], parts[1], parts[2], nested, nestedCode, offset, type}));
    if (context->saved_data["bias"].toBool()) gradients[2] = g.flatten(0, -2).sum(0);
    return gradients;
  }
};

Tensor linearAutograd(const Tensor& x, int64_t outFeatures, const optional<Tensor>& bias, const Tensor& packed, const Tensor& absmax,
                      const Tensor& code, const optional<Tensor>& nested, const optional<Tensor>& nestedCode,
                      const optional<Tensor>& offset, optional<at::ScalarType> type) {
  return Linear::apply(x, outFeatures, bias, packed, absmax, code, nested, nestedCode, offset, type);
}

}  // namespace

void checkQuantise(const Tensor& weight, const Tensor& code) {
  TORCH_CHECK(weight.is_floating_point(), "NF4 holds floating-point numbers, not ", weight.scalar_type());
  TORCH_CHECK(code.scalar_type() == at::kFloat && code.numel() == 16 && code.is_contiguous(), "NF4 has 16 values in float32");
}

void checkNf4(const Tensor& weight, const Nf4& nf4) {
  checkQuantise(weight, nf4.code);
  TORCH_CHECK(!nf4.type || at::isFloatingType(*nf4.type), "weights were of a floating-point type, not ", *nf4.type);
  const int64_t count = weight.numel(), blocks = blocksOf(count, NF4_BLOCK);
  TORCH_CHECK(weight.is_contiguous() && nf4.packed.is_contiguous() && nf4.absmax.is_contiguous(), "NF4 is read and written densely");
  TORCH_CHECK(nf4.packed.scalar_type() == at::kByte && nf4.packed.numel() == (count + 1) / 2, count, " weights in NF4 are ", (count + 1) / 2,
              " bytes, not ", nf4.packed.numel(), " of ", nf4.packed.scalar_type());
  TORCH_CHECK(nf4.absmax.numel() == blocks, count, " weights in NF4 have ", blocks, " scales, not ", nf4.absmax.numel());
  TORCH_CHECK(nf4.nested.has_value() == nf4.nestedCode.has_value() && nf4.nested.has_value() == nf4.offset.has_value(),
              "what double quantisation keeps belongs together");
  TORCH_CHECK(nf4.absmax.scalar_type() == (nf4.nested ? at::kByte : at::kFloat), "scales in NF4 are float32, or bytes with scales of their own");
  if (!nf4.nested) return;
  for (const auto& [part, size] : {std::pair{&*nf4.nested, blocksOf(blocks, NF4_NESTED_BLOCK)}, {&*nf4.nestedCode, int64_t{256}},
                                   {&*nf4.offset, int64_t{1}}})
    TORCH_CHECK(part->scalar_type() == at::kFloat && part->numel() == size && part->is_contiguous(), "scales in bytes need ", size,
                " numbers in float32, not ", part->numel(), " in ", part->scalar_type());
}

std::tuple<Tensor, Tensor> nf4QuantiseComposite(const Tensor& weight, const Tensor& code) {
  checkQuantise(weight, code);
  const int64_t count = weight.numel(), blocks = blocksOf(count, NF4_BLOCK), whole = count / NF4_BLOCK;
  const Tensor values = at::constant_pad_nd(weight.reshape({-1}).to(at::kFloat), {0, blocks * NF4_BLOCK - count}).view({blocks, NF4_BLOCK});
  Tensor absmax = values.abs().amax({1});
  const Tensor divisor = absmax.clamp_min(LEAST);
  Tensor scaled = values * divisor.reciprocal().unsqueeze(1);
  scaled.narrow(0, whole, blocks - whole).copy_((values / divisor.unsqueeze(1)).narrow(0, whole, blocks - whole));
  absmax.narrow(0, whole, blocks - whole).copy_(divisor.narrow(0, whole, blocks - whole));
  const Tensor points = (code.narrow(0, 0, 15) + code.narrow(0, 1, 15)) / 2;
  Tensor codes = at::bucketize(scaled, points, true).flatten().narrow(0, 0, count);
  if (count % 2 != 0) codes = at::constant_pad_nd(codes, {0, 1}, ZERO);
  const Tensor pairs = codes.view({-1, 2});
  return {(pairs.select(1, 0) * 16 + pairs.select(1, 1)).to(at::kByte).unsqueeze(1), absmax};
}

Tensor& nf4DequantiseComposite(Tensor& weight, const Nf4& nf4) {
  checkNf4(weight, nf4);
  Tensor scales = nf4.absmax;
  if (nf4.nested) {
    const Tensor largest = nf4.nested->repeat_interleave(NF4_NESTED_BLOCK).narrow(0, 0, scales.numel());
    scales = at::take(*nf4.nestedCode, scales.to(at::kLong)) * largest + *nf4.offset;
  }
  const Tensor bytes = nf4.packed.flatten().to(at::kLong);
  const Tensor codes = at::stack({bytes.__rshift__(4), bytes.bitwise_and(int64_t{15})}, 1).flatten().narrow(0, 0, weight.numel());
  const Tensor product = at::take(nf4.code, codes) * scales.repeat_interleave(NF4_BLOCK).narrow(0, 0, weight.numel());
  return weight.copy_(product.to(nf4.type.value_or(at::kFloat)).view(weight.sizes()));
}

#define PATINA_NF4 "Tensor packed, Tensor absmax, Tensor code, Tensor? nested, Tensor? nested_code, Tensor? offset, *, ScalarType? type=None"

TORCH_LIBRARY_FRAGMENT(patina, m) {
  m.def("nf4_quantise(Tensor self, Tensor code) -> (Tensor, Tensor)");
  m.def("nf4_quantise_scales(Tensor absmax, Tensor code) -> (Tensor, Tensor, Tensor)");
  m.def("nf4_dequantise_(Tensor(a!) self, " PATINA_NF4 ") -> Tensor(a!)");
  m.def("nf4_linear(Tensor self, int out_features, Tensor? bias, " PATINA_NF4 ") -> Tensor");
  // What the kernels are held against.
  m.def("nf4_quantise_composite(Tensor self, Tensor code) -> (Tensor, Tensor)", nf4QuantiseComposite);
  m.def("nf4_dequantise_composite_(Tensor(a!) self, " PATINA_NF4 ") -> Tensor(a!)", dequantiseCompositeOf);
}

TORCH_LIBRARY_IMPL(patina, CPU, m) {
  m.impl("nf4_quantise", quantiseCpu);
  m.impl("nf4_dequantise_", dequantiseCpu);
}

TORCH_LIBRARY_IMPL(patina, Meta, m) {
  m.impl("nf4_quantise", quantiseMeta);
  m.impl("nf4_quantise_scales", quantiseScalesMeta);
  m.impl("nf4_dequantise_", dequantiseMeta);
}

TORCH_LIBRARY_IMPL(patina, CompositeExplicitAutograd, m) {
  m.impl("nf4_quantise_scales", quantiseScales);
  m.impl("nf4_linear", linear);
}

TORCH_LIBRARY_IMPL(patina, Autograd, m) {
  for (const char* name : {"nf4_quantise", "nf4_quantise_scales", "nf4_dequantise_"}) m.impl(name, torch::autograd::autogradNotImplementedFallback());
  m.impl("nf4_linear", linearAutograd);
}

}  // namespace patina
