// Meta kernels, forward and backward, for the operators that are called by name and that libtorch's C++ side has none for
// (its Python side registers some of them). They allocate what the device's kernel allocates, in the same layout, so that a
// ghost run saves the very tensors that the GPU saves. Shapes as in the kernels of ATen/native/{cuda,transformers}.
#include "kernels.h"

namespace patina {
namespace {

using at::Tensor;
using c10::SymInt;
using std::optional;

// Attention: query [B, H, T, D]; the output lies as [B, T, H, D] in memory.
Tensor attentionOutput(const Tensor& q, const Tensor& v) {
  return at::empty({q.size(0), q.size(2), q.size(1), v.size(3)}, q.options()).transpose(1, 2);
}

Tensor philoxLike(const Tensor& q) { return at::empty({}, q.options().dtype(at::kLong)); }

using Attention9 = std::tuple<Tensor, Tensor, Tensor, Tensor, SymInt, SymInt, Tensor, Tensor, Tensor>;
using Gradients3 = std::tuple<Tensor, Tensor, Tensor>;

Attention9 sdpaCudnn(const Tensor& q, const Tensor& k, const Tensor& v, const optional<Tensor>&, bool logsumexp, double, bool,
                     bool, optional<double>) {
  const Tensor lse = logsumexp ? at::empty({q.size(0), q.size(1), q.size(2), 1}, q.options().dtype(at::kFloat)) : Tensor();
  return {attentionOutput(q, v), lse, Tensor(), Tensor(), q.size(2), k.size(2), philoxLike(q), philoxLike(q), Tensor()};
}

Gradients3 sdpaCudnnBackward(const Tensor&, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor&, const Tensor&,
                             const Tensor&, const Tensor&, const Tensor&, const Tensor&, const Tensor&, SymInt, SymInt, double,
                             bool, optional<double>) {
  return {at::empty_like(q), at::empty_like(k), at::empty_like(v)};
}

using Attention4 = std::tuple<Tensor, Tensor, Tensor, Tensor>;

// The log-sum-exp is padded to whole blocks of 32 queries; gradients lie as [B, T, H, D], that of a bias in rows of 16.
Attention4 sdpaEfficient(const Tensor& q, const Tensor&, const Tensor& v, const optional<Tensor>&, bool logsumexp, double, bool,
                         optional<double>) {
  const int64_t length = logsumexp ? (q.size(2) + 31) / 32 * 32 : 0;
  return {attentionOutput(q, v), at::empty({q.size(0), q.size(1), length}, q.options().dtype(at::kFloat)), philoxLike(q),
          philoxLike(q)};
}

Attention4 sdpaEfficientBackward(const Tensor&, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& bias,
                                 const Tensor&, const Tensor&, const Tensor&, const Tensor&, double, std::array<bool, 4> mask,
                                 bool, optional<double>) {
  const auto like = [](const Tensor& t) {
    return at::empty({t.size(0), t.size(2), t.size(1), t.size(3)}, t.options()).transpose(1, 2);
  };
  Tensor biasGradient;
  if (bias.defined() && mask[3]) {
    auto shape = bias.sizes().vec();
    const int64_t last = shape.back();
    shape.back() = (last + 15) / 16 * 16;
    biasGradient = at::empty(shape, bias.options()).narrow(-1, 0, last);
  }
  return {like(q), like(k), like(v), biasGradient};
}

std::tuple<Tensor, Tensor> sdpaCpu(const Tensor& q, const Tensor&, const Tensor& v, double, bool, const optional<Tensor>&,
                                   optional<double>) {
  const auto accumulate = q.scalar_type() == at::kDouble ? at::kDouble : at::kFloat;
  const Tensor lse = at::empty({q.size(0), q.size(2), q.size(1)}, q.options().dtype(accumulate)).transpose(1, 2);
  return {attentionOutput(q, v), lse};
}

Gradients3 sdpaCpuBackward(const Tensor&, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor&, const Tensor&,
                           double, bool, const optional<Tensor>&, optional<double>) {
  const auto like = [](const Tensor& t) {
    return at::empty({t.size(0), t.size(2), t.size(1), t.size(3)}, t.options()).transpose(1, 2);
  };
  return {like(q), like(k), like(v)};
}

// Packed sequences: query [total tokens, H, D], cumulative lengths given (or dense [B, T, H, D] without them).
std::tuple<Tensor, Tensor, Tensor, Tensor, Tensor> flash(const Tensor& q, const Tensor& k, const Tensor& v,
                                                         const optional<Tensor>& cumQ, const optional<Tensor>&, SymInt, SymInt,
                                                         double, bool, bool, optional<double>, optional<SymInt>, optional<SymInt>,
                                                         const optional<Tensor>&, const optional<Tensor>&) {
  const auto single = q.options().dtype(at::kFloat);
  const Tensor lse = cumQ ? at::empty({q.size(1), q.size(0)}, single) : at::empty({q.size(0), q.size(2), q.size(1)}, single);
  const Tensor rng = at::empty({2}, q.options().dtype(at::kUInt64));
  return {at::empty_like(q), lse, rng, at::empty({}, rng.options()), at::empty({0}, q.options())};
}

Gradients3 flashBackward(const Tensor&, const Tensor& q, const Tensor& k, const Tensor& v, const Tensor&, const Tensor&,
                         const Tensor&, const Tensor&, SymInt, SymInt, double, bool, const Tensor&, const Tensor&,
                         optional<double>, optional<SymInt>, optional<SymInt>) {
  return {at::empty_like(q), at::empty_like(k), at::empty_like(v)};
}

// Norms: statistics have the input's shape with the normalised dimensions as 1.
std::vector<int64_t> statisticsShape(const Tensor& x, size_t normalized) {
  auto shape = x.sizes().vec();
  for (size_t i = shape.size() - normalized; i < shape.size(); i++) shape[i] = 1;
  return shape;
}

at::ScalarType statisticsType(const Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

std::tuple<Tensor, Tensor> rmsNorm(const Tensor& x, at::IntArrayRef shape, const optional<Tensor>&, optional<double>) {
  return {at::empty_like(x, at::MemoryFormat::Contiguous), at::empty(statisticsShape(x, shape.size()), x.options().dtype(statisticsType(x)))};
}

std::tuple<Tensor, Tensor> rmsNormBackward(const Tensor&, const Tensor& x, at::IntArrayRef, const Tensor&,
                                           const optional<Tensor>& weight, std::array<bool, 2> mask) {
  return {mask[0] ? at::empty_like(x, at::MemoryFormat::Contiguous) : Tensor(),
          mask[1] && weight ? at::empty_like(*weight) : Tensor()};
}

Gradients3 layerNorm(const Tensor& x, c10::SymIntArrayRef shape, const optional<Tensor>&, const optional<Tensor>&, double) {
  const auto stats = [&] { return at::empty(statisticsShape(x, shape.size()), x.options().dtype(statisticsType(x))); };
  return {at::empty_like(x, at::MemoryFormat::Contiguous), stats(), stats()};
}

Gradients3 layerNormBackward(const Tensor&, const Tensor& x, c10::SymIntArrayRef, const Tensor&, const Tensor&,
                             const optional<Tensor>& weight, const optional<Tensor>& bias, std::array<bool, 3> mask) {
  return {mask[0] ? at::empty_like(x, at::MemoryFormat::Contiguous) : Tensor(), mask[1] && weight ? at::empty_like(*weight) : Tensor(),
          mask[2] && bias ? at::empty_like(*bias) : Tensor()};
}

Tensor convolution(const Tensor& x, const Tensor& weight, const optional<Tensor>&, c10::SymIntArrayRef stride,
                   c10::SymIntArrayRef padding, c10::SymIntArrayRef dilation, bool transposed, c10::SymIntArrayRef, SymInt) {
  TORCH_CHECK(!transposed, "the meta kernel of convolution has no transposed form");
  std::vector<int64_t> shape{x.size(0), weight.size(0)};
  for (int64_t d = 2; d < x.dim(); d++) {
    const auto i = static_cast<size_t>(d - 2);
    const auto of = [i](c10::SymIntArrayRef list) { return list[std::min(i, list.size() - 1)].expect_int(); };
    shape.push_back((x.size(d) + 2 * of(padding) - of(dilation) * (weight.size(d) - 1) - 1) / of(stride) + 1);
  }
  return at::empty(shape, x.options());
}

Gradients3 convolutionBackward(const Tensor& grad, const Tensor& x, const Tensor& weight, at::OptionalSymIntArrayRef,
                               c10::SymIntArrayRef, c10::SymIntArrayRef, c10::SymIntArrayRef, bool, c10::SymIntArrayRef, SymInt,
                               std::array<bool, 3> mask) {
  return {mask[0] ? at::empty_like(x) : Tensor(), mask[1] ? at::empty_like(weight) : Tensor(),
          mask[2] ? at::empty({weight.size(0)}, grad.options()) : Tensor()};
}

Tensor indexSelect(const Tensor& x, int64_t dim, const Tensor& index) {
  auto shape = x.sizes().vec();
  if (!shape.empty()) shape[static_cast<size_t>(at::maybe_wrap_dim(dim, x.dim()))] = index.numel();
  return at::empty(shape, x.options());
}

Tensor embeddingDenseBackward(const Tensor& grad, const Tensor&, SymInt rows, SymInt, bool) {
  return at::empty({rows.expect_int(), grad.size(-1)}, grad.options());
}

void fusedAdamw(at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList, double, double,
                double, double, double, bool, bool, const optional<Tensor>&, const optional<Tensor>&) {}

void fusedAdamwTensorLr(at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList, at::TensorList,
                        const Tensor&, double, double, double, double, bool, bool, const optional<Tensor>&,
                        const optional<Tensor>&) {}

}  // namespace

TORCH_LIBRARY_IMPL(aten, Meta, m) {
  implement<at::_ops::_scaled_dot_product_cudnn_attention, sdpaCudnn>(m);
  implement<at::_ops::_scaled_dot_product_cudnn_attention_backward, sdpaCudnnBackward>(m);
  implement<at::_ops::_scaled_dot_product_efficient_attention, sdpaEfficient>(m);
  implement<at::_ops::_scaled_dot_product_efficient_attention_backward, sdpaEfficientBackward>(m);
  implement<at::_ops::_scaled_dot_product_flash_attention_for_cpu, sdpaCpu>(m);
  implement<at::_ops::_scaled_dot_product_flash_attention_for_cpu_backward, sdpaCpuBackward>(m);
  implement<at::_ops::_flash_attention_forward, flash>(m);
  implement<at::_ops::_flash_attention_backward, flashBackward>(m);
  implement<at::_ops::_fused_rms_norm, rmsNorm>(m);
  implement<at::_ops::_fused_rms_norm_backward, rmsNormBackward>(m);
  implement<at::_ops::native_layer_norm, layerNorm>(m);
  implement<at::_ops::native_layer_norm_backward, layerNormBackward>(m);
  implement<at::_ops::convolution, convolution>(m);
  implement<at::_ops::convolution_backward, convolutionBackward>(m);
  implement<at::_ops::index_select, indexSelect>(m);
  implement<at::_ops::embedding_dense_backward, embeddingDenseBackward>(m);
  implement<at::_ops::_fused_adamw_, fusedAdamw>(m);
  implement<at::_ops::_fused_adamw__tensor_lr, fusedAdamwTensorLr>(m);
}

}  // namespace patina
