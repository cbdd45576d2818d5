// Meta kernels of plain operators that libtorch's C++ side has none for: shape and dtype of the result, nothing more. (What is
// called by name and saves tensors for its backward is in meta_kernels.cc.)
#include "kernels.h"

#include <ATen/ExpandUtils.h>

namespace patina {
namespace {

using at::Tensor;
using c10::SymInt;
using std::optional;

// --- pointwise -------------------------------------------------------------------------------------------------------

Tensor isnan(const Tensor& x) { return at::empty_like(x, x.options().dtype(at::kBool)); }

Tensor& unaryOut(const Tensor& x, Tensor& out) {
  out.resize_(x.sizes());
  return out;
}

Tensor& binaryOut(const Tensor& x, const Tensor& y, Tensor& out) {
  out.resize_(at::infer_size(x.sizes(), y.sizes()));
  return out;
}

Tensor where(const Tensor& condition, const Tensor& x, const Tensor& y) {
  const auto shape = at::infer_size(condition.sizes(), at::infer_size(x.sizes(), y.sizes()));
  return at::empty(shape, x.options().dtype(at::result_type(x, y)));
}

// --- reductions ------------------------------------------------------------------------------------------------------

Tensor extremum(const Tensor& x) {
  TORCH_CHECK(x.numel() > 0, "the extremum of a tensor without elements is not defined");
  return at::empty({}, x.options());
}

Tensor var(const Tensor& x, at::OptionalIntArrayRef dims, const optional<at::Scalar>&, bool keepdim) {
  return at::mean(x, dims, keepdim);
}

// --- order and chance ------------------------------------------------------------------------------------------------

Tensor flip(const Tensor& x, at::IntArrayRef) { return at::empty_like(x); }

Tensor multinomial(const Tensor& weights, SymInt count, bool, optional<at::Generator>) {
  auto shape = weights.sizes().vec();
  TORCH_CHECK(shape.size() == 1 || shape.size() == 2, "multinomial wants one or two dimensions, not ", shape.size());
  shape.back() = count.expect_int();
  return at::empty(shape, weights.options().dtype(at::kLong));
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, Meta, m) {
  implement<at::_ops::isnan, isnan>(m);
  implement<at::_ops::abs_out, unaryOut>(m);
  implement<at::_ops::logical_not_out, unaryOut>(m);
  implement<at::_ops::logical_and_out, binaryOut>(m);
  implement<at::_ops::logical_or_out, binaryOut>(m);
  implement<at::_ops::where_self, where>(m);
  implement<at::_ops::max, extremum>(m);
  implement<at::_ops::var_correction, var>(m);
  implement<at::_ops::flip, flip>(m);
  implement<at::_ops::multinomial, multinomial>(m);
}

}  // namespace patina
