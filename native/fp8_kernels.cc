// The kernels of native/cuda/kernels/fp8.cu and libtorch's product in fp8: what of a call they take, and their launch. What they do not take
// goes to the composites of fp8.cc.
#include "block_operators.h"
#include "cuda_kernels.h"
#include "fp8.h"

#include <torch/library.h>

namespace patina {
namespace {

using at::Tensor;
using at::TensorList;
using std::optional;

constexpr int64_t BLOCK = 256, TILE = 64;
// What libtorch's product wants of columns and of rows of the second matrix.
constexpr int64_t GRAIN = 16;

// The kernel for rows of one dtype, dense in their last dimension.
CudaKernel kernelFor(const std::string& operation, std::initializer_list<const Tensor*> tensors) {
  const Tensor& first = **tensors.begin();
  const char* const suffix = first.scalar_type() == at::kFloat      ? "_float32"
                             : first.scalar_type() == at::kHalf     ? "_float16"
                             : first.scalar_type() == at::kBFloat16 ? "_bfloat16"
                                                                    : nullptr;
  if (suffix == nullptr || first.numel() == 0) return CudaKernel();
  for (const Tensor* each : tensors)
    if (each->scalar_type() != first.scalar_type() || each->stride(-1) != 1) return CudaKernel();
  return cudaKernel((operation + suffix).c_str(), first.device());
}

bool isAligned(const Tensor& x) { return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % 16 == 0; }

// Whether rows of `channels` are whole packs, and all begin where 16 bytes can be moved at once; those of codes follow from that.
bool isWide(int64_t channels, std::initializer_list<const Tensor*> tensors) {
  const int64_t pack = 16 / (*tensors.begin())->element_size();
  if (channels % pack != 0) return false;
  for (const Tensor* each : tensors)
    if (!isAligned(*each) || (each->dim() == 2 && each->stride(0) % pack != 0)) return false;
  return true;
}

Fp8Rows quantiseRowsCuda(const Tensor& x, const optional<Tensor>& factors, at::ScalarType type) {
  checkQuantiseRowsFp8(x, factors, type);
  const CudaKernel kernel = kernelFor("quantise_rows_fp8", {&x});
  if (!kernel) return quantiseRowsFp8Composite(x, factors, type);
  auto [codes, scales] = emptyFp8Rows(x, x.size(1), type);
  int64_t channels = x.size(1), stride = x.stride(0);
  bool e5m2 = type == at::kFloat8_e5m2, wide = isWide(channels, {&x}) && (!factors || isAligned(*factors));
  const void *from = x.const_data_ptr(), *by = factors ? factors->const_data_ptr() : nullptr;
  void *to = codes.mutable_data_ptr(), *scale = scales.mutable_data_ptr();
  kernel.launch(x.size(0) * BLOCK, {&from, &stride, &by, &to, &scale, &channels, &e5m2, &wide});
  return {codes, scales};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> addRmsNormFp8Cuda(Tensor& self, const optional<Tensor>& other, const Tensor& weight, double eps) {
  checkNorm(self, other, weight, "add_rms_norm_fp8_");
  const Tensor& added = other ? *other : self;
  const CudaKernel kernel = kernelFor("add_rms_norm_fp8", {&self, &added, &weight});
  if (!kernel) return addRmsNormFp8Composite(self, other, weight, eps);
  Tensor y = at::empty(self.sizes(), self.options()), rstd = at::empty({self.size(0), 1}, self.options().dtype(at::kFloat));
  auto [codes, scales] = emptyFp8Rows(self, self.size(1), at::kFloat8_e4m3fn);
  int64_t channels = self.size(1), stride = self.stride(0), addedStride = added.stride(0);
  bool wide = isWide(channels, {&self, &added, &weight, &y});
  const void *add = other ? other->const_data_ptr() : nullptr, *by = weight.const_data_ptr();
  void *x = self.mutable_data_ptr(), *to = y.mutable_data_ptr(), *root = rstd.mutable_data_ptr(), *bytes = codes.mutable_data_ptr(),
       *scale = scales.mutable_data_ptr();
  kernel.launch(self.size(0) * BLOCK, {&x, &stride, &add, &addedStride, &by, &to, &root, &bytes, &scale, &channels, &eps, &wide});
  return {y, rstd, codes, scales};
}

std::tuple<Tensor, Tensor, Tensor> swigluFp8Cuda(const Tensor& self) {
  checkGated(self, "swiglu_fp8");
  const CudaKernel kernel = kernelFor("swiglu_fp8", {&self});
  if (!kernel) return swigluFp8Composite(self);
  int64_t features = self.size(1) / 2, stride = self.stride(0);
  auto [codes, scales] = emptyFp8Rows(self, features, at::kFloat8_e4m3fn);
  Tensor product = at::empty({self.size(0), features}, self.options());
  bool wide = isWide(features, {&self, &product});
  const void* both = self.const_data_ptr();
  void *to = product.mutable_data_ptr(), *bytes = codes.mutable_data_ptr(), *scale = scales.mutable_data_ptr();
  kernel.launch(self.size(0) * BLOCK, {&both, &stride, &to, &bytes, &scale, &features, &wide});
  return {product, codes, scales};
}

Tensor transposeCuda(TensorList codes) {
  checkFp8Transpose(codes);
  const CudaKernel kernel = cudaKernel("fp8_transpose", codes[0].device());
  if (!kernel) return fp8TransposeComposite(codes);
  int64_t columns = codes[0].size(1), stride = rowsOf(codes), first = 0;
  Tensor together = at::empty({columns, stride}, codes[0].options());
  for (const Tensor& each : codes) {
    int64_t rows = each.size(0);
    const Tensor own = together.narrow(1, first, rows);
    bool wide = columns % 16 == 0 && stride % 16 == 0 && isAligned(each) && isAligned(own);
    const void* from = each.const_data_ptr();
    void* to = own.mutable_data_ptr();
    kernel.launch((rows + TILE - 1) / TILE * ((columns + TILE - 1) / TILE) * BLOCK, {&from, &to, &rows, &columns, &stride, &wide});
    first += rows;
  }
  return together;
}

// Sums on tensor cores are made in fewer bits than fp32 (`use_fast_accum`): what that loses is below what the codes have lost.
Tensor productCuda(const Tensor& a, const Tensor& b, const Tensor& aScales, const optional<Tensor>& bScales, at::ScalarType type) {
  checkFp8Product(a, b, aScales, bScales, type);
  if (a.size(1) % GRAIN != 0 || b.size(0) % GRAIN != 0 || a.size(0) == 0) return fp8ProductComposite(a, b, aScales, bScales, type);
  const Tensor columns = bScales ? bScales->view({1, -1}) : at::ones({1, b.size(0)}, aScales.options());
  return at::_scaled_mm(a, b.t(), aScales.view({-1, 1}), columns, std::nullopt, std::nullopt, at::kBFloat16, true).to(type);
}

}  // namespace

TORCH_LIBRARY_IMPL(patina, CUDA, m) {
  m.impl("quantise_rows_fp8", quantiseRowsCuda);
  m.impl("add_rms_norm_fp8_", addRmsNormFp8Cuda);
  m.impl("swiglu_fp8", swigluFp8Cuda);
  m.impl("fp8_transpose", transposeCuda);
  m.impl("fp8_product", productCuda);
}

}  // namespace patina
