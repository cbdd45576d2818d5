// The kernels of native/cuda/kernels/low_rank.cu: what of a call they take, and their launch. They take bf16 and fp16, channels in whole tiles,
// ranks in whole eights up to 64; other calls go to the composites of low_rank.cc.
#include "cuda_kernels.h"
#include "low_rank.h"
#include "random_operators.h"

#include <torch/library.h>

namespace patina {
namespace {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;
using std::optional;

constexpr int64_t BLOCK = 256, TILE = 64, ROWS = 512, SPLITS = 8, MOST = 64;
constexpr int PARTS = 8, STEPS = 12;

// As the kernels have them.
struct Masks {
  const int64_t *records, *indices;
  int64_t perPlace;
  unsigned int threshold;
  PhiloxKey key;
};

struct LowParts {
  const void* matrix[PARTS];
  int64_t layer[PARTS];
  int column[PARTS], ranks[PARTS];
  int count = 0;
};

struct LowGated {
  const void *z[3], *matrix[3];
  int64_t zStride[3];
  float scale[3];
  int ranks[3];
};

const char* suffixOf(at::ScalarType type) { return type == at::kHalf ? "float16" : type == at::kBFloat16 ? "bfloat16" : nullptr; }

bool begins(const Tensor& x, int64_t bytes) { return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % bytes == 0; }

// Rows whose elements lie side by side and begin where so many bytes can be moved at once.
bool isRows(const Tensor& x, int64_t bytes, at::ScalarType type) {
  const int64_t elements = bytes / 2;
  return x.dim() == 2 && x.scalar_type() == type && x.stride(1) == 1 && (x.size(0) < 2 || x.stride(0) % elements == 0) && begins(x, bytes);
}

bool isRank(int64_t rank) { return rank > 0 && rank % 8 == 0 && rank <= MOST; }

CudaKernel kernelFor(const std::string& name, const Tensor& x, int64_t channels) {
  const char* const suffix = suffixOf(x.scalar_type());
  if (suffix == nullptr || x.numel() == 0 || channels % TILE != 0 || x.size(0) > INT32_MAX) return CudaKernel();
  return cudaKernel((name + "_" + suffix).c_str(), x.device());
}

// Records and indices are contiguous ones.
Masks masksOf(int64_t rows, const DropCall& call, const Tensor& records, const Tensor& indices) {
  return {records.const_data_ptr<int64_t>(), indices.const_data_ptr<int64_t>(), rows / records.numel(), dropoutThreshold(call.p),
          keyOf(call.key)};
}

// The adapters of a call; none where kernels cannot take one of them.
LowParts partsOf(TensorList a, IntArrayRef layers, at::ScalarType type) {
  LowParts parts;
  int column = 0, steps = 0;
  if (a.size() > PARTS) return parts;
  for (size_t i = 0; i < a.size(); i++) {
    const int rank = static_cast<int>(a[i].size(0));
    steps += (rank + 15) / 16;
    if (!isRank(rank) || !a[i].is_contiguous() || !isRows(a[i], 16, type) || steps > STEPS) return LowParts();
    parts.matrix[i] = a[i].const_data_ptr();
    parts.layer[i] = layers[i];
    parts.column[i] = column;
    parts.ranks[i] = rank;
    column += rank;
  }
  parts.count = static_cast<int>(a.size());
  return parts;
}

Tensor droppedProductCuda(const Tensor& x, TensorList a, double p, const Tensor& records, const Tensor& indices, IntArrayRef key,
                          IntArrayRef layers) {
  const DropCall call{p, records, indices, key, layers};
  checkDropped(x, a, call);
  LowParts parts = partsOf(a, layers, x.scalar_type());
  int64_t rows = x.size(0), channels = x.size(1), ranks = 0, most = 0;
  for (const Tensor& each : a) ranks += each.size(0), most = std::max(most, each.size(0));
  const std::string tiles = most <= 16 ? "2" : most <= 32 ? "4" : "8";
  const bool fits = parts.count > 0 && isRows(x, 16, x.scalar_type());
  const CudaKernel kernel = fits ? kernelFor("dropped_product_" + tiles, x, channels) : CudaKernel();
  if (!kernel) return droppedProduct(x, a, call);
  const Tensor own = records.contiguous(), places = indices.contiguous();
  Masks masks = masksOf(rows, call, own, places);
  Tensor z = at::empty({rows, ranks}, x.options());
  const void* from = x.const_data_ptr();
  void* to = z.mutable_data_ptr();
  int64_t stride = x.stride(0);
  auto scale = static_cast<float>(1 / (1 - p));
  kernel.launch((rows + 15) / 16 * parts.count * BLOCK, {&from, &stride, &parts, &to, &ranks, &rows, &channels, &masks, &scale});
  return z;
}

Tensor droppedGradientsCuda(const Tensor& dz, const Tensor& x, IntArrayRef ranks, double p, const Tensor& records, const Tensor& indices,
                            IntArrayRef key, IntArrayRef layers) {
  const DropCall call{p, records, indices, key, layers};
  checkDroppedGradients(dz, x, ranks, call);
  int64_t rows = x.size(0), channels = x.size(1), all = dz.size(1);
  // Sixteen ranks a part.
  LowParts parts;
  int column = 0;
  bool fits = isRows(x, 16, x.scalar_type()) && isRows(dz, 4, x.scalar_type());
  for (size_t i = 0; i < ranks.size(); column += static_cast<int>(ranks[i++])) {
    fits = fits && isRank(ranks[i]);
    for (int from = 0; fits && from < ranks[i]; from += 16) {
      if ((fits = parts.count < PARTS)) {
        parts.layer[parts.count] = layers[i];
        parts.column[parts.count] = column + from;
        parts.ranks[parts.count++] = std::min(16, static_cast<int>(ranks[i]) - from);
      }
    }
  }
  const CudaKernel kernel = fits ? kernelFor("dropped_gradients", x, channels) : CudaKernel();
  if (!kernel) return droppedGradients(dz, x, ranks, call);
  const Tensor own = records.contiguous(), places = indices.contiguous();
  Masks masks = masksOf(rows, call, own, places);
  int64_t splits = std::min(SPLITS, (rows + 127) / 128), count = all * channels;
  Tensor partial = at::empty({splits, all, channels}, x.options().dtype(at::kFloat)), result = at::empty({all, channels}, x.options());
  const void *upstream = dz.const_data_ptr(), *from = x.const_data_ptr();
  void *sums = partial.mutable_data_ptr(), *to = result.mutable_data_ptr();
  int64_t dzStride = dz.stride(0), stride = x.stride(0);
  auto scale = static_cast<float>(1 / (1 - p));
  kernel.launch(parts.count * (channels / TILE) * splits * BLOCK,
                {&upstream, &dzStride, &from, &stride, &parts, &sums, &rows, &channels, &all, &splits, &masks});
  kernelFor("sum_parts", x, channels).launch(count, {&sums, &to, &splits, &count, &scale});
  return result;
}

Tensor& addDroppedCuda(Tensor& self, const Tensor& dz, TensorList a, double p, const Tensor& records, const Tensor& indices, IntArrayRef key,
                       IntArrayRef layers) {
  const DropCall call{p, records, indices, key, layers};
  checkAddDropped(self, dz, a, call);
  LowParts parts = partsOf(a, layers, self.scalar_type());
  int64_t rows = self.size(0), channels = self.size(1);
  const bool fits = parts.count > 0 && isRows(self, 16, self.scalar_type()) && isRows(dz, 4, self.scalar_type());
  const CudaKernel kernel = fits ? kernelFor("add_dropped", self, channels) : CudaKernel();
  if (!kernel) return addDropped(self, dz, a, call);
  const Tensor own = records.contiguous(), places = indices.contiguous();
  Masks masks = masksOf(rows, call, own, places);
  void* to = self.mutable_data_ptr();
  const void* from = dz.const_data_ptr();
  int64_t stride = self.stride(0), dzStride = dz.stride(0);
  auto scale = static_cast<float>(1 / (1 - p));
  kernel.launch(channels / TILE * ((rows + ROWS - 1) / ROWS) * BLOCK, {&to, &stride, &from, &dzStride, &parts, &rows, &channels, &masks, &scale});
  return self;
}

// What is added; a rank of 0 where kernels cannot take it.
LowGated gatedOf(const LowGate& low, const optional<Tensor>& dz, const optional<Tensor>& a, at::ScalarType type, bool& fits) {
  LowGated gated{};
  const auto take = [&](int i, const Tensor& z, const Tensor& matrix, double scale, int64_t rank) {
    fits = fits && isRank(rank) && isRows(z, 4, type) && matrix.scalar_type() == type && matrix.is_contiguous();
    gated.z[i] = z.const_data_ptr();
    gated.matrix[i] = matrix.const_data_ptr();
    gated.zStride[i] = z.stride(0);
    gated.scale[i] = static_cast<float>(scale);
    gated.ranks[i] = static_cast<int>(rank);
  };
  take(0, low.zGate, low.bGate, low.scaleGate, low.bGate.size(1));
  take(1, low.zUp, low.bUp, low.scaleUp, low.bUp.size(1));
  if (dz) take(2, *dz, *a, 1, a->size(0));
  return gated;
}

Tensor swigluLowRankCuda(const Tensor& self, const Tensor& zGate, const Tensor& zUp, const Tensor& bGate, const Tensor& bUp, double scaleGate,
                         double scaleUp) {
  const LowGate low{zGate, zUp, bGate, bUp, scaleGate, scaleUp};
  checkGatedLowRank(self, low);
  int64_t rows = self.size(0), features = self.size(1) / 2, stride = self.stride(0);
  bool fits = isRows(self, 16, self.scalar_type());
  LowGated gated = gatedOf(low, {}, {}, self.scalar_type(), fits);
  const CudaKernel kernel = fits ? kernelFor("swiglu_low_rank", self, features) : CudaKernel();
  if (!kernel) return swigluLowRank(self, low);
  Tensor product = at::empty({rows, features}, self.options());
  const void* both = self.const_data_ptr();
  void* to = product.mutable_data_ptr();
  kernel.launch(features / TILE * ((rows + ROWS - 1) / ROWS) * BLOCK, {&both, &stride, &to, &features, &gated, &rows, &features});
  return product;
}

void swigluLowRankBackwardCuda(Tensor& self, Tensor& grad, const Tensor& zGate, const Tensor& zUp, const Tensor& bGate, const Tensor& bUp,
                               double scaleGate, double scaleUp, const optional<Tensor>& dz, const optional<Tensor>& a) {
  const LowGate low{zGate, zUp, bGate, bUp, scaleGate, scaleUp};
  checkGatedLowRankBackward(self, grad, low, dz, a);
  int64_t rows = self.size(0), features = grad.size(1), stride = self.stride(0), gradStride = grad.stride(0);
  bool fits = isRows(self, 16, self.scalar_type()) && isRows(grad, 16, self.scalar_type());
  LowGated gated = gatedOf(low, dz, a, self.scalar_type(), fits);
  const CudaKernel kernel = fits ? kernelFor("swiglu_low_rank_backward", self, features) : CudaKernel();
  if (!kernel) return swigluLowRankBackward(self, grad, low, dz, a);
  void *both = self.mutable_data_ptr(), *product = grad.mutable_data_ptr();
  kernel.launch(features / TILE * ((rows + ROWS - 1) / ROWS) * BLOCK, {&both, &stride, &product, &gradStride, &gated, &rows, &features});
}

}  // namespace

TORCH_LIBRARY_IMPL(patina, CUDA, m) {
  m.impl("dropped_product", droppedProductCuda);
  m.impl("dropped_gradients", droppedGradientsCuda);
  m.impl("add_dropped_", addDroppedCuda);
  m.impl("swiglu_low_rank", swigluLowRankCuda);
  m.impl("swiglu_low_rank_backward_", swigluLowRankBackwardCuda);
}

}  // namespace patina
