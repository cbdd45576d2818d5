// The kernels of native/cuda/kernels/block.cu: what of a call they take, and their launch. What they do not take (other strides, mixed
// dtypes, a card for which they cannot be compiled) goes to the composites of block_operators.cc.
#include "block_operators.h"
#include "cuda_kernels.h"

#include <torch/library.h>

namespace patina {
namespace {

using at::Tensor;
using std::optional;

constexpr int64_t BLOCK = 256;

const char* suffixOf(at::ScalarType type) {
  switch (type) {
    case at::kFloat: return "float32";
    case at::kDouble: return "float64";
    case at::kHalf: return "float16";
    case at::kBFloat16: return "bfloat16";
    default: return nullptr;
  }
}

// The kernel for tensors of one dtype, dense in their last dimension.
CudaKernel kernelFor(const std::string& operation, std::initializer_list<const Tensor*> tensors) {
  const Tensor& first = **tensors.begin();
  const char* const suffix = suffixOf(first.scalar_type());
  if (suffix == nullptr || first.numel() == 0) return CudaKernel();
  for (const Tensor* each : tensors)
    if (each->scalar_type() != first.scalar_type() || each->stride(-1) != 1) return CudaKernel();
  return cudaKernel((operation + "_" + suffix).c_str(), first.device());
}

// Whether every row begins where 16 bytes can be moved at once, and `channels` are whole packs of them.
bool isWide(int64_t channels, std::initializer_list<const Tensor*> tensors) {
  const int64_t size = (*tensors.begin())->element_size(), pack = 16 / size;
  if (channels % pack != 0) return false;
  for (const Tensor* each : tensors) {
    if (reinterpret_cast<uintptr_t>(each->const_data_ptr()) % 16 != 0) return false;
    for (int64_t d = 0; d + 1 < each->dim(); d++)
      if (each->stride(d) % pack != 0) return false;
  }
  return true;
}

// As kernels take them.
struct Heads {
  void* data;
  int64_t position, head;
};

Heads headsOf(const Tensor& x) { return {const_cast<void*>(x.const_data_ptr()), x.stride(0), x.stride(1)}; }

std::tuple<Tensor, Tensor> addRmsNormCuda(Tensor& self, const optional<Tensor>& other, const Tensor& weight, double eps) {
  checkNorm(self, other, weight, "add_rms_norm_");
  const Tensor& added = other ? *other : self;
  const CudaKernel kernel = kernelFor("add_rms_norm", {&self, &added, &weight});
  if (!kernel) return addRmsNorm(self, other, weight, eps);
  Tensor y = at::empty(self.sizes(), self.options()), rstd = at::empty({self.size(0), 1}, self.options().dtype(computeTypeOf(self)));
  int64_t channels = self.size(1), stride = self.stride(0), addedStride = added.stride(0);
  bool wide = isWide(channels, {&self, &added, &weight, &y});
  const void *add = other ? other->const_data_ptr() : nullptr, *by = weight.const_data_ptr();
  void *x = self.mutable_data_ptr(), *to = y.mutable_data_ptr(), *scale = rstd.mutable_data_ptr();
  kernel.launch(self.size(0) * BLOCK, {&x, &stride, &add, &addedStride, &by, &to, &scale, &channels, &eps, &wide});
  return {y, rstd};
}

Tensor& rmsNormBackwardCuda(Tensor& self, const Tensor& x, const Tensor& weight, const Tensor& rstd, const optional<Tensor>& other) {
  checkNormBackward(self, x, other, weight, rstd);
  const Tensor& added = other ? *other : self;
  const CudaKernel kernel = kernelFor("rms_norm_backward", {&self, &x, &weight, &added});
  if (!kernel) return rmsNormBackward(self, x, weight, rstd, other);
  const Tensor scales = rstd.contiguous();
  int64_t channels = self.size(1), stride = self.stride(0), xStride = x.stride(0), addedStride = added.stride(0);
  bool wide = isWide(channels, {&self, &x, &weight, &added});
  const void *from = x.const_data_ptr(), *by = weight.const_data_ptr(), *scale = scales.const_data_ptr(),
             *add = other ? other->const_data_ptr() : nullptr;
  void* g = self.mutable_data_ptr();
  kernel.launch(self.size(0) * BLOCK, {&g, &stride, &from, &xStride, &by, &scale, &add, &addedStride, &channels, &wide});
  return self;
}

Tensor& rotaryCuda(Tensor& self, const Tensor& cos, const Tensor& sin, int64_t heads) {
  checkRotary(self, cos, sin, heads);
  const Tensor c = cos.contiguous(), s = sin.contiguous();
  const CudaKernel kernel = kernelFor("rotary", {&self, &c, &s});
  if (!kernel) return rotary(self, cos, sin, heads);
  int64_t positions = self.size(0), half = self.size(2) / 2;
  bool wide = isWide(half, {&self, &c, &s});
  Heads x = headsOf(self);
  const void *cosines = c.const_data_ptr(), *sines = s.const_data_ptr();
  const int64_t packs = wide ? half * self.element_size() / 16 : half;
  kernel.launch(positions * heads * packs, {&x, &cosines, &sines, &positions, &heads, &half, &wide});
  return self;
}

Tensor rotaryBackwardCuda(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cos, const Tensor& sin) {
  checkRotaryBackward(q, k, v, cos, sin);
  const Tensor c = cos.contiguous(), s = sin.contiguous();
  const CudaKernel kernel = kernelFor("rotary_backward", {&q, &k, &v, &c, &s});
  if (!kernel) return rotaryBackward(q, k, v, cos, sin);
  int64_t positions = q.size(0), queries = q.size(1), keys = k.size(1), half = q.size(2) / 2;
  Tensor together = at::empty({positions, queries + 2 * keys, q.size(2)}, q.options());
  bool wide = isWide(half, {&q, &k, &v, &c, &s, &together});
  Heads fromQ = headsOf(q), fromK = headsOf(k), fromV = headsOf(v);
  const void *cosines = c.const_data_ptr(), *sines = s.const_data_ptr();
  void* to = together.mutable_data_ptr();
  const int64_t packs = wide ? half * q.element_size() / 16 : half;
  kernel.launch((positions + 31) / 32 * 32 * (queries + 2 * keys) * packs,
                {&fromQ, &fromK, &fromV, &cosines, &sines, &to, &positions, &queries, &keys, &half, &wide});
  return together;
}

Tensor swigluCuda(const Tensor& self) {
  checkGated(self, "swiglu");
  const CudaKernel kernel = kernelFor("swiglu", {&self});
  if (!kernel) return swiglu(self);
  int64_t rows = self.size(0), features = self.size(1) / 2, stride = self.stride(0);
  Tensor product = at::empty({rows, features}, self.options());
  bool wide = isWide(features, {&self, &product});
  const void* both = self.const_data_ptr();
  void* to = product.mutable_data_ptr();
  kernel.launch(rows * (wide ? features * self.element_size() / 16 : features), {&both, &stride, &to, &rows, &features, &wide});
  return product;
}

void swigluBackwardCuda(Tensor& self, Tensor& grad) {
  checkGatedBackward(self, grad);
  const CudaKernel kernel = kernelFor("swiglu_backward", {&self, &grad});
  if (!kernel) return swigluBackward(self, grad);
  int64_t rows = self.size(0), features = grad.size(1), stride = self.stride(0), gStride = grad.stride(0);
  bool wide = isWide(features, {&self, &grad});
  void *both = self.mutable_data_ptr(), *g = grad.mutable_data_ptr();
  kernel.launch(rows * (wide ? features * self.element_size() / 16 : features), {&both, &stride, &g, &gStride, &rows, &features, &wide});
}

}  // namespace

TORCH_LIBRARY_IMPL(patina, CUDA, m) {
  m.impl("add_rms_norm_", addRmsNormCuda);
  m.impl("rms_norm_backward_", rmsNormBackwardCuda);
  m.impl("rotary_", rotaryCuda);
  m.impl("rotary_backward", rotaryBackwardCuda);
  m.impl("swiglu", swigluCuda);
  m.impl("swiglu_backward_", swigluBackwardCuda);
}

}  // namespace patina
