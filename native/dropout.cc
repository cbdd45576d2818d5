// Dropout whose mask is a function of a key, a layer and each element's place: its record, its token in the record and its channel.
// So it does not depend on how records are packed, cut into micro-batches or dealt over ranks, and backward computes it again.
#include "cuda_kernels.h"
#include "random_operators.h"

#include <ATen/Dispatch.h>
#include <ATen/Parallel.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

namespace patina {

using at::Tensor;

DropoutLayout dropoutLayout(const Tensor& x, double p, const Tensor& records, const Tensor& indices) {
  TORCH_CHECK(p >= 0 && p < 1, "dropout takes a probability from 0 to below 1, not ", p);
  TORCH_CHECK(x.is_floating_point() && x.dim() > 0, "dropout takes rows of floating-point numbers");
  TORCH_CHECK(records.scalar_type() == at::kLong && indices.scalar_type() == at::kLong, "places are int64");
  TORCH_CHECK(records.numel() == indices.numel(), "there are ", records.numel(), " records for ", indices.numel(), " indices");
  TORCH_CHECK(records.device() == x.device() && indices.device() == x.device(), "places lie on the device of what is dropped");
  const int64_t channels = x.size(-1), rows = channels == 0 ? 0 : x.numel() / channels, places = records.numel();
  TORCH_CHECK(rows == 0 || (places > 0 && rows % places == 0), "cannot share ", places, " places among ", rows, " rows");
  return {rows, channels, rows == 0 ? 1 : rows / places};
}

namespace {

template <typename T>
void dropOnCpu(const Tensor& x, Tensor& y, const Tensor& records, const Tensor& indices, const DropoutLayout& layout, double p, PhiloxKey key,
               int64_t layer) {
  using Compute = std::conditional_t<std::is_same_v<T, double>, double, float>;
  const auto [rows, channels, perPlace] = layout;
  const auto* from = x.const_data_ptr<T>();
  auto* to = y.mutable_data_ptr<T>();
  const auto* record = records.const_data_ptr<int64_t>();
  const auto* index = indices.const_data_ptr<int64_t>();
  const unsigned int threshold = dropoutThreshold(p);
  const auto kept = static_cast<Compute>(1 / (1 - p));
  at::parallel_for(0, rows, std::max<int64_t>(1, 8192 / channels), [&, channels = channels, perPlace = perPlace](int64_t begin, int64_t end) {
    for (int64_t row = begin; row < end; row++) {
      const int64_t place = row / perPlace, token = index[place] * perPlace + row % perPlace;
      for (int64_t c = 0; c < channels; c += 8) {
        const Words words = dropoutWords(c / 8, token, record[place], layer, key);
        for (int i = 0; i < 8 && c + i < channels; i++) {
          const int64_t at = row * channels + c + i;
          to[at] = static_cast<T>(static_cast<Compute>(from[at]) * (bitsOf(words, i) < threshold ? Compute(0) : kept));
        }
      }
    }
  });
}

Tensor dropoutCpu(const Tensor& x, double p, const Tensor& records, const Tensor& indices, at::IntArrayRef key, int64_t layer) {
  const DropoutLayout layout = dropoutLayout(x, p, records, indices);
  const Tensor given = x.contiguous();
  Tensor y = at::empty_like(given);
  if (layout.rows == 0) return y;
  AT_DISPATCH_FLOATING_TYPES_AND2(at::kHalf, at::kBFloat16, x.scalar_type(), "dropout", [&] {
    dropOnCpu<scalar_t>(given, y, records.contiguous(), indices.contiguous(), layout, p, keyOf(key), layer);
  });
  return y;
}

Tensor dropoutMeta(const Tensor& x, double p, const Tensor& records, const Tensor& indices, at::IntArrayRef, int64_t) {
  dropoutLayout(x, p, records, indices);
  return at::empty_like(x, at::MemoryFormat::Contiguous);
}

const char* kernelName(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return "dropout_float32";
    case at::kDouble: return "dropout_float64";
    case at::kHalf: return "dropout_float16";
    case at::kBFloat16: return "dropout_bfloat16";
    default: return nullptr;
  }
}

Tensor dropoutCuda(const Tensor& x, double p, const Tensor& records, const Tensor& indices, at::IntArrayRef key, int64_t layer) {
  DropoutLayout layout = dropoutLayout(x, p, records, indices);
  const char* name = kernelName(x.scalar_type());
  const CudaKernel kernel = name == nullptr ? CudaKernel() : cudaKernel(name, x.device());
  if (!kernel) return dropoutComposite(x, p, records, indices, key, layer);
  const Tensor given = x.contiguous(), own = records.contiguous(), places = indices.contiguous();
  Tensor y = at::empty_like(given);
  const void *from = given.const_data_ptr(), *record = own.const_data_ptr(), *index = places.const_data_ptr();
  void* to = y.mutable_data_ptr();
  const auto bytes = 8 * x.element_size();
  const auto isAligned = [&](const void* at) { return reinterpret_cast<uintptr_t>(at) % bytes == 0; };
  bool wide = layout.channels % 8 == 0 && isAligned(from) && isAligned(to);
  unsigned int threshold = dropoutThreshold(p);
  double scale = 1 / (1 - p);
  PhiloxKey words = keyOf(key);
  kernel.launch(layout.rows * ((layout.channels + 7) / 8),
                {&from, &to, &record, &index, &layout.rows, &layout.channels, &layout.perPlace, &threshold, &scale, &words, &layer, &wide});
  return y;
}

// What the operator calls below autograd, and its own backward: the gradient is dropped where the input was.
Tensor drop(const Tensor& x, double p, const Tensor& records, const Tensor& indices, at::IntArrayRef key, int64_t layer) {
  static const auto operation =
      c10::Dispatcher::singleton()
          .findSchemaOrThrow("patina::dropout", "")
          .typed<Tensor(const Tensor&, double, const Tensor&, const Tensor&, at::IntArrayRef, int64_t)>();
  return operation.call(x, p, records, indices, key, layer);
}

struct Dropout : torch::autograd::Function<Dropout> {
  static constexpr bool is_traceable = true;

  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, double p, const Tensor& records,
                        const Tensor& indices, at::IntArrayRef key, int64_t layer) {
    context->save_for_backward({records, indices});
    context->saved_data["p"] = p;
    context->saved_data["key"] = key.vec();
    context->saved_data["layer"] = layer;
    at::AutoDispatchBelowADInplaceOrView below;
    return drop(x, p, records, indices, key, layer);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list upstream) {
    const auto places = context->get_saved_variables();
    auto& saved = context->saved_data;
    const Tensor gradient =
        drop(upstream[0], saved["p"].toDouble(), places[0], places[1], saved["key"].toIntVector(), saved["layer"].toInt());
    return {gradient, {}, {}, {}, {}, {}};
  }
};

Tensor dropoutAutograd(const Tensor& x, double p, const Tensor& records, const Tensor& indices, at::IntArrayRef key, int64_t layer) {
  return Dropout::apply(x, p, records, indices, key, layer);
}

}  // namespace

Tensor dropoutComposite(const Tensor& x, double p, const Tensor& records, const Tensor& indices, at::IntArrayRef key, int64_t layer) {
  const auto [rows, channels, perPlace] = dropoutLayout(x, p, records, indices);
  if (rows == 0) return at::empty_like(x, at::MemoryFormat::Contiguous) * 1;
  const auto whole = records.options();
  const auto column = [&, perPlace = perPlace](const Tensor& places) { return places.reshape({-1, 1}).expand({-1, perPlace}).reshape({-1, 1}); };
  constexpr int64_t mask = 0xFFFFFFFF;
  const Tensor tokens = column(indices) * perPlace + at::arange(perPlace, whole).repeat({records.numel()}).unsqueeze(1);
  const auto words = philoxComposite({at::arange((channels + 7) / 8, whole), tokens.bitwise_and(mask), column(records).bitwise_and(mask),
                                      at::full({1, 1}, layer & mask, whole)},
                                     keyOf(key));
  std::vector<Tensor> bits;
  for (const Tensor& word : words) {
    bits.push_back(word.bitwise_and(0xFFFF));
    bits.push_back(word.__rshift__(16));
  }
  const Tensor drawn = at::stack(bits, -1).flatten(1).narrow(1, 0, channels).reshape(x.sizes());
  const auto compute = x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const Tensor factor = drawn.ge(static_cast<int64_t>(dropoutThreshold(p))).to(compute) * (1 / (1 - p));
  return (x.contiguous().to(compute) * factor).to(x.scalar_type());
}

TORCH_LIBRARY_IMPL(patina, CPU, m) { m.impl("dropout", dropoutCpu); }
TORCH_LIBRARY_IMPL(patina, CUDA, m) { m.impl("dropout", dropoutCuda); }
TORCH_LIBRARY_IMPL(patina, Meta, m) { m.impl("dropout", dropoutMeta); }
TORCH_LIBRARY_IMPL(patina, Autograd, m) { m.impl("dropout", dropoutAutograd); }

}  // namespace patina
