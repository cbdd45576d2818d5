// What a decoder block computes between its products, and the backward of it, as operators of their own: they overwrite what is not needed
// any more, and have no autograd formula, since their caller writes its backward by hand. Here the composites of libtorch's operators:
// the CPU's kernels, and the oracle of those in native/cuda/kernels/block.cu. All compute in fp32 (fp64 for fp64) and round once.
#include "block_operators.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

namespace patina {

using at::Tensor;
using std::optional;

at::ScalarType computeTypeOf(const Tensor& x) { return x.scalar_type() == at::kDouble ? at::kDouble : at::kFloat; }

namespace {

void checkRows(const Tensor& x, const char* what) {
  TORCH_CHECK(x.is_floating_point() && x.dim() == 2, what, " takes rows of floating-point numbers (rows, channels)");
}

void checkSame(const Tensor& x, const Tensor& y, const char* what) {
  TORCH_CHECK(x.sizes() == y.sizes() && x.scalar_type() == y.scalar_type() && x.device() == y.device(), what,
              " takes tensors of one shape, dtype and device, not ", x.toString(), x.sizes(), " and ", y.toString(), y.sizes());
}

void checkTables(const Tensor& x, const Tensor& cos, const Tensor& sin, const char* what) {
  TORCH_CHECK(x.is_floating_point() && x.dim() == 3 && x.size(2) % 2 == 0, what, " takes (positions, heads, an even head size)");
  for (const Tensor* table : {&cos, &sin})
    TORCH_CHECK(table->is_floating_point() && table->numel() == x.size(0) * x.size(2) && table->size(-1) == x.size(2) &&
                    table->device() == x.device(),
                what, " takes cosines and sines for ", x.size(0), " positions and a head size of ", x.size(2), ", not ", table->sizes());
}

}  // namespace

// --- RMSNorm ---------------------------------------------------------------------------------------------------------

void checkNorm(const Tensor& x, const optional<Tensor>& other, const Tensor& weight, const char* what) {
  checkRows(x, what);
  if (other) checkSame(x, *other, what);
  TORCH_CHECK(weight.dim() == 1 && weight.size(0) == x.size(1) && weight.device() == x.device(), what, " of ", x.size(1),
              " channels takes as many weights, not ", weight.sizes());
}

void checkNormBackward(const Tensor& self, const Tensor& x, const optional<Tensor>& other, const Tensor& weight, const Tensor& rstd) {
  const char* what = "rms_norm_backward_";
  checkNorm(x, other, weight, what);
  checkSame(self, x, what);
  TORCH_CHECK(rstd.numel() == x.size(0) && rstd.scalar_type() == computeTypeOf(x) && rstd.device() == x.device(), what, " of ", x.size(0),
              " rows takes as many scales, not ", rstd.sizes());
}

// self += other, where there is one; y = self / sqrt(mean(self^2) + eps) * weight, rstd = 1 / sqrt(mean(self^2) + eps).
std::tuple<Tensor, Tensor> addRmsNorm(Tensor& self, const optional<Tensor>& other, const Tensor& weight, double eps) {
  checkNorm(self, other, weight, "add_rms_norm_");
  if (other) self.add_(*other);
  return at::_fused_rms_norm(self, {self.size(1)}, weight, eps);
}

// self is the gradient of y and becomes that of x: rstd * (g - n * mean(g * n)) + other, with g = self * weight and n = x * rstd.
Tensor& rmsNormBackward(Tensor& self, const Tensor& x, const Tensor& weight, const Tensor& rstd, const optional<Tensor>& other) {
  checkNormBackward(self, x, other, weight, rstd);
  const auto type = computeTypeOf(self);
  const Tensor n = x.to(type) * rstd, g = self.to(type) * weight.to(type);
  Tensor dx = (g - n * at::mean(g * n, {-1}, true)).mul_(rstd);
  if (other) dx.add_(*other);
  return self.copy_(dx);
}

// --- rotary positions --------------------------------------------------------------------------------------------------

namespace {

// x (N, heads, D) turned by the angles of cos and sin (..., D) of N positions, or back by them.
Tensor turned(const Tensor& x, const Tensor& cos, const Tensor& sin, bool back) {
  const auto type = computeTypeOf(x);
  const int64_t half = x.size(2) / 2;
  const auto part = [&](const Tensor& table) { return table.reshape({-1, 1, x.size(2)}).narrow(2, 0, half).to(type); };
  const Tensor c = part(cos), s = back ? part(sin).neg() : part(sin);
  const Tensor first = x.narrow(2, 0, half).to(type), second = x.narrow(2, half, half).to(type);
  return at::cat({first * c - second * s, second * c + first * s}, 2);
}

}  // namespace

void checkRotary(const Tensor& self, const Tensor& cos, const Tensor& sin, int64_t heads) {
  checkTables(self, cos, sin, "rotary_");
  TORCH_CHECK(heads >= 0 && heads <= self.size(1), "rotary_ cannot turn ", heads, " of ", self.size(1), " heads");
}

void checkRotaryBackward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cos, const Tensor& sin) {
  for (const Tensor* each : {&q, &k, &v}) checkTables(*each, cos, sin, "rotary_backward");
  TORCH_CHECK(k.sizes() == v.sizes() && k.scalar_type() == q.scalar_type() && v.scalar_type() == q.scalar_type(),
              "rotary_backward takes keys and values of one shape, and one dtype");
}

// Turns the first `heads` heads of self (N, all heads, D) in place; cos and sin hold each angle in both halves of a head.
Tensor& rotary(Tensor& self, const Tensor& cos, const Tensor& sin, int64_t heads) {
  checkRotary(self, cos, sin, heads);
  Tensor part = self.narrow(1, 0, heads);
  part.copy_(turned(part, cos, sin, false));
  return self;
}

// The gradients of queries (N, H, D), keys and values (N, G, D) in one buffer (N, H + 2 G, D), the first two turned back.
Tensor rotaryBackward(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cos, const Tensor& sin) {
  checkRotaryBackward(q, k, v, cos, sin);
  const auto back = [&](const Tensor& x) { return turned(x, cos, sin, true).to(x.scalar_type()); };
  return at::cat({back(q), back(k), v}, 1);
}

// --- SwiGLU ------------------------------------------------------------------------------------------------------------

void checkGated(const Tensor& self, const char* what) {
  checkRows(self, what);
  TORCH_CHECK(self.size(1) % 2 == 0, what, " takes gate and up side by side, not ", self.size(1), " channels");
}

void checkGatedBackward(const Tensor& self, const Tensor& grad) {
  checkGated(self, "swiglu_backward_");
  TORCH_CHECK(grad.dim() == 2 && grad.size(0) == self.size(0) && 2 * grad.size(1) == self.size(1) &&
                  grad.scalar_type() == self.scalar_type() && grad.device() == self.device(),
              "swiglu_backward_ takes a gradient of half as many channels as ", self.sizes(), ", not ", grad.sizes());
}

// self (N, 2 F): gate beside up -> silu(gate) * up (N, F)
Tensor swiglu(const Tensor& self) {
  checkGated(self, "swiglu");
  const auto type = computeTypeOf(self);
  const auto parts = self.chunk(2, 1);
  return (at::silu(parts[0].to(type)) * parts[1].to(type)).to(self.scalar_type());
}

// grad (N, F) is that of the product and becomes the product; self (N, 2 F) becomes its own gradient.
void swigluBackward(Tensor& self, Tensor& grad) {
  checkGatedBackward(self, grad);
  const auto type = computeTypeOf(self);
  auto parts = self.chunk(2, 1);
  const Tensor gate = parts[0].to(type), up = parts[1].to(type), g = grad.to(type), act = at::silu(gate);
  const Tensor ofUp = g * act, ofAct = g * up;
  at::mul_out(grad, act, up);
  at::silu_backward_out(parts[0], ofAct, gate);
  parts[1].copy_(ofUp);
}

namespace {

// --- meta: what the kernels for CUDA allocate ----------------------------------------------------------------------------

std::tuple<Tensor, Tensor> addRmsNormMeta(Tensor& self, const optional<Tensor>& other, const Tensor& weight, double) {
  checkNorm(self, other, weight, "add_rms_norm_");
  return {at::empty(self.sizes(), self.options()), at::empty({self.size(0), 1}, self.options().dtype(computeTypeOf(self)))};
}

Tensor& rmsNormBackwardMeta(Tensor& self, const Tensor& x, const Tensor& weight, const Tensor& rstd, const optional<Tensor>& other) {
  checkNormBackward(self, x, other, weight, rstd);
  return self;
}

Tensor& rotaryMeta(Tensor& self, const Tensor& cos, const Tensor& sin, int64_t heads) {
  checkRotary(self, cos, sin, heads);
  return self;
}

Tensor rotaryBackwardMeta(const Tensor& q, const Tensor& k, const Tensor& v, const Tensor& cos, const Tensor& sin) {
  checkRotaryBackward(q, k, v, cos, sin);
  return at::empty({q.size(0), q.size(1) + k.size(1) + v.size(1), q.size(2)}, q.options());
}

Tensor swigluMeta(const Tensor& self) {
  checkGated(self, "swiglu");
  return at::empty({self.size(0), self.size(1) / 2}, self.options());
}

void swigluBackwardMeta(Tensor& self, Tensor& grad) { checkGatedBackward(self, grad); }

// libtorch's, which takes tensors that a call through the door cannot leave out: no bias, and rows in place of cumulative lengths.
std::tuple<Tensor, Tensor, Tensor> cudnnAttentionBackward(const Tensor& grad, const Tensor& q, const Tensor& k, const Tensor& v,
                                                          const Tensor& out, const Tensor& lse, const Tensor& seed, const Tensor& offset,
                                                          bool causal, optional<double> scale) {
  return at::_scaled_dot_product_cudnn_attention_backward(grad, q, k, v, out, lse, seed, offset, Tensor(), Tensor(), Tensor(), q.size(2),
                                                          k.size(2), 0.0, causal, scale);
}

}  // namespace

TORCH_LIBRARY_FRAGMENT(patina, m) {
  m.def("add_rms_norm_(Tensor(a!) self, Tensor? other, Tensor weight, float eps) -> (Tensor, Tensor)");
  m.def("rms_norm_backward_(Tensor(a!) self, Tensor x, Tensor weight, Tensor rstd, Tensor? other) -> Tensor(a!)");
  m.def("rotary_(Tensor(a!) self, Tensor cos, Tensor sin, int heads) -> Tensor(a!)");
  m.def("rotary_backward(Tensor q, Tensor k, Tensor v, Tensor cos, Tensor sin) -> Tensor");
  m.def("swiglu(Tensor self) -> Tensor");
  m.def("swiglu_backward_(Tensor(a!) self, Tensor(b!) grad) -> ()");
  m.def(
      "cudnn_attention_backward(Tensor grad, Tensor q, Tensor k, Tensor v, Tensor out, Tensor lse, Tensor seed, Tensor offset, bool causal, "
      "*, float? scale=None) -> (Tensor, Tensor, Tensor)",
      cudnnAttentionBackward);
}

// What the kernels for CUDA are held against, there.
TORCH_LIBRARY_FRAGMENT(patina, m) {
  m.def("add_rms_norm_composite_(Tensor(a!) self, Tensor? other, Tensor weight, float eps) -> (Tensor, Tensor)", addRmsNorm);
  m.def("rms_norm_backward_composite_(Tensor(a!) self, Tensor x, Tensor weight, Tensor rstd, Tensor? other) -> Tensor(a!)",
        rmsNormBackward);
  m.def("rotary_composite_(Tensor(a!) self, Tensor cos, Tensor sin, int heads) -> Tensor(a!)", rotary);
  m.def("rotary_backward_composite(Tensor q, Tensor k, Tensor v, Tensor cos, Tensor sin) -> Tensor", rotaryBackward);
  m.def("swiglu_composite(Tensor self) -> Tensor", swiglu);
  m.def("swiglu_backward_composite_(Tensor(a!) self, Tensor(b!) grad) -> ()", swigluBackward);
}

TORCH_LIBRARY_IMPL(patina, CPU, m) {
  m.impl("add_rms_norm_", addRmsNorm);
  m.impl("rms_norm_backward_", rmsNormBackward);
  m.impl("rotary_", rotary);
  m.impl("rotary_backward", rotaryBackward);
  m.impl("swiglu", swiglu);
  m.impl("swiglu_backward_", swigluBackward);
}

// Whoever records them and asks for a gradient is told that there is none.
TORCH_LIBRARY_IMPL(patina, Autograd, m) {
  for (const char* name : {"add_rms_norm_", "rms_norm_backward_", "rotary_", "rotary_backward", "swiglu", "swiglu_backward_"})
    m.impl(name, torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(patina, Meta, m) {
  m.impl("add_rms_norm_", addRmsNormMeta);
  m.impl("rms_norm_backward_", rmsNormBackwardMeta);
  m.impl("rotary_", rotaryMeta);
  m.impl("rotary_backward", rotaryBackwardMeta);
  m.impl("swiglu", swigluMeta);
  m.impl("swiglu_backward_", swigluBackwardMeta);
}

}  // namespace patina
