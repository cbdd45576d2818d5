// CPU kernels for operators that libtorch fuses on CUDA alone: composites of ATen operators, computed in fp32 (fp64 for fp64),
// that make the CPU record the same autograd nodes and saved tensors as the GPU. They are the oracle of the fused kernels.
#include "kernels.h"

namespace patina {
namespace {

using at::Tensor;
using std::optional;

at::ScalarType computeType(const Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

std::vector<int64_t> lastDims(size_t count) {
  std::vector<int64_t> dims;
  for (size_t i = 1; i <= count; i++) dims.push_back(-static_cast<int64_t>(i));
  return dims;
}

// y = x / sqrt(mean(x^2) + eps) * w; also returns rstd = 1 / sqrt(mean(x^2) + eps).
std::tuple<Tensor, Tensor> rmsNorm(const Tensor& x, at::IntArrayRef shape, const optional<Tensor>& weight, optional<double> eps) {
  const auto type = computeType(x);
  const double epsilon = eps.value_or(x.scalar_type() == at::kDouble ? 2.220446049250313e-16 : 1.1920928955078125e-07);
  const Tensor wide = x.to(type);
  const Tensor rstd = at::rsqrt(at::mean(wide * wide, lastDims(shape.size()), true) + epsilon);
  Tensor y = wide * rstd;
  if (weight && weight->defined()) y = y * weight->to(type);
  return {y.to(x.scalar_type()), rstd};
}

// With n = x * rstd and g = dy * w: dx = rstd * (g - n * mean(g * n)), dw = sum over rows of dy * n.
std::tuple<Tensor, Tensor> rmsNormBackward(const Tensor& grad, const Tensor& x, at::IntArrayRef shape, const Tensor& rstd,
                                           const optional<Tensor>& weight, std::array<bool, 2> mask) {
  const auto type = computeType(x);
  const Tensor dy = grad.to(type);
  const Tensor normal = x.to(type) * rstd;
  const bool weighted = weight && weight->defined();
  Tensor dx, dw;
  if (mask[0]) {
    const Tensor g = weighted ? dy * weight->to(type) : dy;
    dx = (rstd * (g - normal * at::mean(g * normal, lastDims(shape.size()), true))).to(x.scalar_type());
  }
  if (mask[1] && weighted) {
    std::vector<int64_t> rows;
    for (int64_t d = 0; d < x.dim() - static_cast<int64_t>(shape.size()); d++) rows.push_back(d);
    const Tensor product = dy * normal;
    dw = (rows.empty() ? product : at::sum(product, rows)).to(weight->scalar_type());
  }
  return {dx, dw};
}

}  // namespace

TORCH_LIBRARY_IMPL(aten, CPU, m) {
  implement<at::_ops::_fused_rms_norm, rmsNorm>(m);
  implement<at::_ops::_fused_rms_norm_backward, rmsNormBackward>(m);
}

}  // namespace patina
