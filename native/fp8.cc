// Products of which both sides are in 8 bits (Micikevicius et al. 2022, "FP8 formats for deep learning"): each row of a matrix has a scale in
// fp32, so that its largest magnitude is the largest number of the format.
//
//   scale = max(largest / M, 2^-126), M = 448 (e4m3) or 57344 (e5m2)       code = x * (1 / scale), rounded to even
//   y = x W^T     = (codes of x) (codes of W)^T * scale of x's row * scale of W's row
//   dx = g W      = (codes of g s) (codes of W) * scale of the row of g s, s being the scales of W's rows, which are channels of g
//
// A row of zeros has codes of 0 and the least scale, 2^-126. One in which a number is not finite has NaN for its scale and for its codes, so
// that what it is multiplied with is NaN: nothing is cut off in silence. The backward reads the codes of the forward, in the other layout.
//
// Here the kernels for CPU and meta, and composites of libtorch's operators, which the others are held against.
#include "fp8.h"

#include "block_operators.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/csrc/autograd/custom_function.h>
#include <torch/library.h>

#include <limits>

namespace patina {

using at::Tensor;
using at::TensorList;
using std::optional;

namespace {

constexpr float LEAST = std::numeric_limits<float>::min();

bool isFp8(at::ScalarType type) { return type == at::kFloat8_e4m3fn || type == at::kFloat8_e5m2; }

float mostOf(at::ScalarType type) { return type == at::kFloat8_e5m2 ? 57344.0f : 448.0f; }

void checkScales(const Tensor& scales, int64_t rows, const Tensor& codes) {
  TORCH_CHECK(scales.scalar_type() == at::kFloat && scales.numel() == rows && scales.is_contiguous() && scales.device() == codes.device(), rows,
              " rows in fp8 have as many scales in float32, not ", scales.sizes(), " in ", scales.scalar_type());
}

// An operator through its dispatcher, so that each device takes its own kernel.
template <typename Signature>
auto operation(const char* name) {
  return c10::Dispatcher::singleton().findSchemaOrThrow(name, "").typed<Signature>();
}

Fp8Rows quantiseRows(const Tensor& x, const optional<Tensor>& factors, at::ScalarType type) {
  static const auto call = operation<Fp8Rows(const Tensor&, const optional<Tensor>&, at::ScalarType)>("patina::quantise_rows_fp8");
  return call.call(x, factors, type);
}

Tensor transposed(TensorList codes) {
  static const auto call = operation<Tensor(TensorList)>("patina::fp8_transpose");
  return call.call(codes);
}

Tensor product(const Tensor& a, const Tensor& b, const Tensor& aScales, const optional<Tensor>& bScales, at::ScalarType type) {
  static const auto call =
      operation<Tensor(const Tensor&, const Tensor&, const Tensor&, const optional<Tensor>&, at::ScalarType)>("patina::fp8_product");
  return call.call(a, b, aScales, bScales, type);
}

// The rows of all matrices as one: a view where they lie so, else a copy.
Tensor asOne(TensorList parts) {
  static const auto call = operation<std::vector<Tensor>(TensorList)>("patina::side_by_side");
  const auto one = call.call(parts);
  return one.empty() ? at::cat(parts) : one[0];
}

}  // namespace

int64_t rowsOf(TensorList matrices) {
  int64_t rows = 0;
  for (const Tensor& each : matrices) rows += each.size(0);
  return rows;
}

void checkQuantiseRowsFp8(const Tensor& x, const optional<Tensor>& factors, at::ScalarType type) {
  TORCH_CHECK(x.is_floating_point() && !isFp8(x.scalar_type()) && x.dim() == 2 && x.size(1) > 0, "rows of floating-point numbers are quantised, not ",
              x.toString(), x.sizes());
  TORCH_CHECK(isFp8(type), "fp8 is float8_e4m3fn or float8_e5m2, not ", type);
  if (factors) checkScales(*factors, x.size(1), x);
}

void checkFp8Transpose(TensorList codes) {
  TORCH_CHECK(!codes.empty(), "there is nothing to transpose");
  for (const Tensor& each : codes)
    TORCH_CHECK(each.element_size() == 1 && each.dim() == 2 && each.is_contiguous() && each.scalar_type() == codes[0].scalar_type() &&
                    each.size(1) == codes[0].size(1) && each.device() == codes[0].device(),
                "dense matrices of bytes, with as many columns, are transposed, not ", each.toString(), each.sizes());
}

void checkFp8Product(const Tensor& a, const Tensor& b, const Tensor& aScales, const optional<Tensor>& bScales, at::ScalarType type) {
  TORCH_CHECK(isFp8(a.scalar_type()) && isFp8(b.scalar_type()) && a.dim() == 2 && b.dim() == 2 && a.size(1) == b.size(1) && a.is_contiguous() &&
                  b.is_contiguous() && a.device() == b.device(),
              "fp8_product takes dense matrices in fp8 with as many columns, not ", a.toString(), a.sizes(), " and ", b.toString(), b.sizes());
  TORCH_CHECK(at::isFloatingType(type) && !isFp8(type), "fp8_product gives floating-point numbers, not ", type);
  checkScales(aScales, a.size(0), a);
  if (bScales) checkScales(*bScales, b.size(0), b);
}

Fp8Rows emptyFp8Rows(const Tensor& like, int64_t channels, at::ScalarType type) {
  return {at::empty({like.size(0), channels}, like.options().dtype(type)), at::empty({like.size(0), 1}, like.options().dtype(at::kFloat))};
}

Fp8Rows quantiseRowsFp8Composite(const Tensor& x, const optional<Tensor>& factors, at::ScalarType type) {
  checkQuantiseRowsFp8(x, factors, type);
  Tensor wide = x.to(at::kFloat);
  if (factors) wide = wide * factors->view({1, -1});
  const Tensor largest = wide.abs().amax({1}, true);
  // By a tensor of the device: by a number, CUDA would multiply by its reciprocal.
  const Tensor scales = (largest / at::full({1, 1}, mostOf(type), largest.options())).clamp_min(LEAST).masked_fill_(largest.isfinite().logical_not_(), NAN);
  return {(wide * scales.reciprocal()).to(type), scales};
}

std::tuple<Tensor, Tensor, Tensor, Tensor> addRmsNormFp8Composite(Tensor& self, const optional<Tensor>& other, const Tensor& weight,
                                                                  double eps) {
  const auto [y, rstd] = addRmsNorm(self, other, weight, eps);
  const auto [codes, scales] = quantiseRowsFp8Composite(y, std::nullopt, at::kFloat8_e4m3fn);
  return {y, rstd, codes, scales};
}

std::tuple<Tensor, Tensor, Tensor> swigluFp8Composite(const Tensor& self) {
  const Tensor y = swiglu(self);
  const auto [codes, scales] = quantiseRowsFp8Composite(y, std::nullopt, at::kFloat8_e4m3fn);
  return {y, codes, scales};
}

Tensor fp8TransposeComposite(TensorList codes) {
  checkFp8Transpose(codes);
  return at::cat(codes).t().contiguous();
}

// Codes are exact in fp32, in which their products are added.
Tensor fp8ProductComposite(const Tensor& a, const Tensor& b, const Tensor& aScales, const optional<Tensor>& bScales, at::ScalarType type) {
  checkFp8Product(a, b, aScales, bScales, type);
  Tensor y = at::mm(a.to(at::kFloat), b.to(at::kFloat).t()).mul_(aScales.view({-1, 1}));
  if (bScales) y.mul_(bScales->view({1, -1}));
  return y.to(type);
}

namespace {

// --- projections: products with the matrices of layers that share their input ------------------------------------------------

using Biases = c10::List<optional<Tensor>>;

// x by its codes and scales -> y (N, O)
Tensor project(const Tensor& x, const Tensor& xScales, TensorList codes, TensorList scales, const Biases& biases, at::ScalarType type) {
  TORCH_CHECK(codes.size() == scales.size() && codes.size() == biases.size(), "every matrix in fp8 has scales, and a bias or none");
  Tensor y = product(x, asOne(codes), xScales, asOne(scales), type);
  int64_t column = 0;
  for (size_t i = 0; i < codes.size(); column += codes[i++].size(0))
    if (const auto& bias = biases.get(i); bias && bias->defined()) y.narrow(1, column, codes[i].size(0)).add_(*bias);
  return y;
}

// g (N, O) -> dx (N, I)
Tensor projectBackward(const Tensor& g, TensorList codes, TensorList scales, at::ScalarType type) {
  const auto [gCodes, gScales] = quantiseRows(g, asOne(scales), type);
  return product(gCodes, transposed(codes), gScales, std::nullopt, g.scalar_type());
}

Tensor linear(const Tensor& x, const optional<Tensor>& bias, const Tensor& codes, const Tensor& scales) {
  const auto [xCodes, xScales] = quantiseRows(x.reshape({-1, x.size(-1)}), std::nullopt, at::kFloat8_e4m3fn);
  auto shape = x.sizes().vec();
  shape.back() = codes.size(0);
  return project(xCodes, xScales, {codes}, {scales}, Biases({bias}), x.scalar_type()).view(shape);
}

// Saves the matrix as it is stored.
struct Linear : torch::autograd::Function<Linear> {
  static Tensor forward(torch::autograd::AutogradContext* context, const Tensor& x, const optional<Tensor>& bias, const Tensor& codes,
                        const Tensor& scales) {
    context->save_for_backward({codes, scales});
    context->saved_data["bias"] = bias.has_value() && bias->requires_grad();
    at::AutoDispatchBelowADInplaceOrView below;
    return linear(x, bias, codes, scales);
  }

  static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context, torch::autograd::variable_list upstream) {
    const auto saved = context->get_saved_variables();
    const Tensor rows = upstream[0].reshape({-1, upstream[0].size(-1)});
    auto shape = upstream[0].sizes().vec();
    shape.back() = saved[0].size(1);
    torch::autograd::variable_list gradients(4);
    gradients[0] = projectBackward(rows, {saved[0]}, {saved[1]}, at::kFloat8_e4m3fn).view(shape);
    if (context->saved_data["bias"].toBool()) gradients[1] = rows.sum(0);
    return gradients;
  }
};

Tensor linearAutograd(const Tensor& x, const optional<Tensor>& bias, const Tensor& codes, const Tensor& scales) {
  return Linear::apply(x, bias, codes, scales);
}

// --- meta: what the kernels for CUDA allocate ------------------------------------------------------------------------------------

Fp8Rows quantiseRowsMeta(const Tensor& x, const optional<Tensor>& factors, at::ScalarType type) {
  checkQuantiseRowsFp8(x, factors, type);
  return emptyFp8Rows(x, x.size(1), type);
}

std::tuple<Tensor, Tensor, Tensor, Tensor> addRmsNormFp8Meta(Tensor& self, const optional<Tensor>& other, const Tensor& weight, double) {
  checkNorm(self, other, weight, "add_rms_norm_fp8_");
  const auto [codes, scales] = emptyFp8Rows(self, self.size(1), at::kFloat8_e4m3fn);
  return {at::empty(self.sizes(), self.options()), at::empty({self.size(0), 1}, self.options().dtype(computeTypeOf(self))), codes, scales};
}

std::tuple<Tensor, Tensor, Tensor> swigluFp8Meta(const Tensor& self) {
  checkGated(self, "swiglu_fp8");
  const auto [codes, scales] = emptyFp8Rows(self, self.size(1) / 2, at::kFloat8_e4m3fn);
  return {at::empty(codes.sizes(), self.options()), codes, scales};
}

Tensor transposeMeta(TensorList codes) {
  checkFp8Transpose(codes);
  return at::empty({codes[0].size(1), rowsOf(codes)}, codes[0].options());
}

Tensor productMeta(const Tensor& a, const Tensor& b, const Tensor& aScales, const optional<Tensor>& bScales, at::ScalarType type) {
  checkFp8Product(a, b, aScales, bScales, type);
  return at::empty({a.size(0), b.size(0)}, a.options().dtype(type));
}

}  // namespace

#define PATINA_ROWS "Tensor self, Tensor? factors, ScalarType type"
#define PATINA_NORM "Tensor(a!) self, Tensor? other, Tensor weight, float eps"
#define PATINA_PRODUCT "Tensor self, Tensor other, Tensor scales, Tensor? other_scales, ScalarType type"

TORCH_LIBRARY_FRAGMENT(patina, m) {
  m.def("quantise_rows_fp8(" PATINA_ROWS ") -> (Tensor, Tensor)");
  m.def("add_rms_norm_fp8_(" PATINA_NORM ") -> (Tensor, Tensor, Tensor, Tensor)");
  m.def("swiglu_fp8(Tensor self) -> (Tensor, Tensor, Tensor)");
  m.def("fp8_transpose(Tensor[] codes) -> Tensor");
  m.def("fp8_product(" PATINA_PRODUCT ") -> Tensor");
  m.def("fp8_project(Tensor x, Tensor x_scales, Tensor[] codes, Tensor[] scales, Tensor?[] biases, ScalarType type) -> Tensor", project);
  m.def("fp8_project_backward(Tensor g, Tensor[] codes, Tensor[] scales, ScalarType type) -> Tensor", projectBackward);
  m.def("fp8_linear(Tensor self, Tensor? bias, Tensor codes, Tensor scales) -> Tensor");
  // What the kernels are held against.
  m.def("quantise_rows_fp8_composite(" PATINA_ROWS ") -> (Tensor, Tensor)", quantiseRowsFp8Composite);
  m.def("add_rms_norm_fp8_composite_(" PATINA_NORM ") -> (Tensor, Tensor, Tensor, Tensor)", addRmsNormFp8Composite);
  m.def("swiglu_fp8_composite(Tensor self) -> (Tensor, Tensor, Tensor)", swigluFp8Composite);
  m.def("fp8_transpose_composite(Tensor[] codes) -> Tensor", fp8TransposeComposite);
  m.def("fp8_product_composite(" PATINA_PRODUCT ") -> Tensor", fp8ProductComposite);
}

TORCH_LIBRARY_IMPL(patina, CPU, m) {
  m.impl("quantise_rows_fp8", quantiseRowsFp8Composite);
  m.impl("add_rms_norm_fp8_", addRmsNormFp8Composite);
  m.impl("swiglu_fp8", swigluFp8Composite);
  m.impl("fp8_transpose", fp8TransposeComposite);
  m.impl("fp8_product", fp8ProductComposite);
}

TORCH_LIBRARY_IMPL(patina, Meta, m) {
  m.impl("quantise_rows_fp8", quantiseRowsMeta);
  m.impl("add_rms_norm_fp8_", addRmsNormFp8Meta);
  m.impl("swiglu_fp8", swigluFp8Meta);
  m.impl("fp8_transpose", transposeMeta);
  m.impl("fp8_product", productMeta);
}

TORCH_LIBRARY_IMPL(patina, CompositeExplicitAutograd, m) { m.impl("fp8_linear", linear); }

TORCH_LIBRARY_IMPL(patina, Autograd, m) {
  for (const char* name : {"quantise_rows_fp8", "add_rms_norm_fp8_", "swiglu_fp8", "fp8_transpose", "fp8_product"})
    m.impl(name, torch::autograd::autogradNotImplementedFallback());
  m.impl("fp8_linear", linearAutograd);
}

}  // namespace patina
