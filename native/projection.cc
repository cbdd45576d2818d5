// Products of linear layers that share their input, with their adapters: one product where matrices lie one above the other in memory, else one
// for each. All are libtorch's products, on every device; here so that a projection is few calls.
//
//   project           y = x [W...]^T + b           project_backward    g [W...]
//   add_low_rank_     y += s z_i B_i^T             low_rank_backward   dz_i = s g_i B_i
//   product_into_     self (+)= a^T b: the gradient of a weight, or of several, where it is summed
//   low_rank_gradients      dB_i = s g_i^T z_i
//
// N: rows, I: input features, O: output features of all layers together, R: ranks of all adapters together. z and its gradient (N, R) have the
// adapters side by side; what adapter i adds to begins at column starts[i] of y.
#include "common.h"

#include <torch/library.h>

namespace patina {
namespace {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;
using std::optional;

using Biases = c10::List<optional<Tensor>>;

// The rows of all matrices, or the elements of vectors, as one, a view; undefined where they do not lie so.
Tensor asOne(TensorList parts) {
  TORCH_CHECK(!parts.empty() && parts[0].dim() > 0, "there is nothing to lay side by side");
  const Tensor& first = parts[0];
  if (parts.size() == 1) return first;
  auto shape = first.sizes().vec();
  shape[0] = 0;
  int64_t end = first.storage_offset();
  for (const Tensor& each : parts) {
    const bool follows = each.is_contiguous() && each.dim() == first.dim() && each.sizes().slice(1) == first.sizes().slice(1) &&
                         each.scalar_type() == first.scalar_type() && each.is_alias_of(first) && each.storage_offset() == end;
    if (!follows) return Tensor();
    shape[0] += each.size(0);
    end += each.numel();
  }
  return first.as_strided(shape, first.strides(), first.storage_offset());
}

std::vector<Tensor> sideBySide(TensorList parts) {
  const Tensor one = asOne(parts);
  return one.defined() ? std::vector<Tensor>{one} : std::vector<Tensor>();
}

Tensor biasOf(const Biases& biases, size_t i) { return biases.get(i).value_or(Tensor()); }

// All biases as one, undefined where there are none; nothing where some layers have one and others do not.
optional<Tensor> biasOfAll(const Biases& biases) {
  std::vector<Tensor> all;
  for (size_t i = 0; i < biases.size(); i++)
    if (const Tensor bias = biasOf(biases, i); bias.defined()) all.push_back(bias);
  if (all.empty()) return Tensor();
  if (all.size() != biases.size()) return std::nullopt;
  const Tensor one = asOne(all);
  return one.defined() ? one : at::cat(all);
}

void checkBiases(TensorList weights, const Biases& biases) {
  TORCH_CHECK(biases.size() == weights.size(), "there are ", biases.size(), " biases for ", weights.size(), " weights");
}

Tensor& projectAdd(Tensor& self, const Tensor& x, TensorList weights, const Biases& biases) {
  checkBiases(weights, biases);
  const Tensor one = asOne(weights);
  const auto bias = biasOfAll(biases);
  if (one.defined() && bias) {
    self.addmm_(x, one.t());
    return bias->defined() ? self.add_(*bias) : self;
  }
  int64_t column = 0;
  for (size_t i = 0; i < weights.size(); column += weights[i++].size(0)) {
    Tensor own = self.narrow(1, column, weights[i].size(0));
    own.addmm_(x, weights[i].t());
    if (const Tensor each = biasOf(biases, i); each.defined()) own.add_(each);
  }
  return self;
}

Tensor project(const Tensor& x, TensorList weights, const Biases& biases) {
  checkBiases(weights, biases);
  const Tensor one = asOne(weights);
  const auto bias = biasOfAll(biases);
  if (one.defined() && bias) return at::linear(x, one, bias->defined() ? optional<Tensor>(*bias) : std::nullopt);
  std::vector<Tensor> results;
  for (size_t i = 0; i < weights.size(); i++) {
    const Tensor each = biasOf(biases, i);
    results.push_back(at::linear(x, weights[i], each.defined() ? optional<Tensor>(each) : std::nullopt));
  }
  return results.size() == 1 ? results[0] : at::cat(results, -1);
}

Tensor projectBackward(const Tensor& g, TensorList weights) {
  const Tensor one = asOne(weights);
  if (one.defined()) return g.matmul(one);
  Tensor dx;
  int64_t column = 0;
  for (const Tensor& weight : weights) {
    const Tensor own = g.narrow(1, column, weight.size(0));
    if (dx.defined()) dx.addmm_(own, weight);
    else dx = own.matmul(weight);
    column += weight.size(0);
  }
  return dx;
}

Tensor& projectBackwardAdd(Tensor& self, const Tensor& g, TensorList weights) {
  const Tensor one = asOne(weights);
  // What adapters in another dtype give is rounded once.
  if (weights[0].scalar_type() != self.scalar_type()) return self.add_(projectBackward(g, weights));
  if (one.defined()) return self.addmm_(g, one);
  int64_t column = 0;
  for (const Tensor& weight : weights) {
    self.addmm_(g.narrow(1, column, weight.size(0)), weight);
    column += weight.size(0);
  }
  return self;
}

void checkAdapters(const Tensor& wide, TensorList b, IntArrayRef starts, at::ArrayRef<double> scaling) {
  TORCH_CHECK(!b.empty() && starts.size() == b.size() && scaling.size() == b.size(), "there are ", starts.size(), " starts and ",
              scaling.size(), " scalings for ", b.size(), " adapters");
  for (size_t i = 0; i < b.size(); i++)
    TORCH_CHECK(b[i].dim() == 2 && starts[i] >= 0 && starts[i] + b[i].size(0) <= wide.size(1), "an adapter of shape ", b[i].sizes(), " from column ",
                starts[i], " on does not fit ", wide.sizes());
}

Tensor& addLowRank(Tensor& self, const Tensor& z, TensorList b, IntArrayRef starts, at::ArrayRef<double> scaling) {
  checkAdapters(self, b, starts, scaling);
  int64_t column = 0;
  for (size_t i = 0; i < b.size(); column += b[i++].size(1)) {
    Tensor own = self.narrow(1, starts[i], b[i].size(0));
    const Tensor low = z.narrow(1, column, b[i].size(1));
    if (low.scalar_type() == self.scalar_type()) own.addmm_(low, b[i].t(), 1, scaling[i]);
    else own.add_(low.matmul(b[i].t()), scaling[i]);
  }
  return self;
}

int64_t ranksOf(TensorList b) {
  int64_t ranks = 0;
  for (const Tensor& each : b) ranks += each.size(1);
  return ranks;
}

Tensor lowRankBackward(const Tensor& g, TensorList b, IntArrayRef starts, at::ArrayRef<double> scaling) {
  checkAdapters(g, b, starts, scaling);
  Tensor dz = at::empty({g.size(0), ranksOf(b)}, b[0].options());
  int64_t column = 0;
  for (size_t i = 0; i < b.size(); column += b[i++].size(1))
    dz.narrow(1, column, b[i].size(1)).addmm_(g.narrow(1, starts[i], b[i].size(0)).to(b[i].scalar_type()), b[i], 0, scaling[i]);
  return dz;
}

// Of factors in half precision for a sum in fp32 on a GPU one product, unrounded; elsewhere a product in their type, which is then added.
Tensor& productInto(Tensor& self, const Tensor& a, const Tensor& b, bool adds) {
  TORCH_CHECK(a.dim() == 2 && b.dim() == 2, "product_into_ takes matrices, not ", a.sizes(), " and ", b.sizes());
  if (a.scalar_type() == self.scalar_type()) return self.addmm_(a.t(), b, adds ? 1 : 0);
  const bool isHalf = a.scalar_type() == at::kBFloat16 || a.scalar_type() == at::kHalf;
  if (self.is_cuda() && isHalf && self.scalar_type() == at::kFloat) return at::addmm_out(self, self, a.t(), b, at::kFloat, adds ? 1 : 0);
  const Tensor product = a.t().matmul(b);
  return adds ? self.add_(product) : self.copy_(product);
}

std::vector<Tensor> lowRankGradients(const Tensor& g, const Tensor& z, TensorList b, IntArrayRef starts, at::ArrayRef<double> scaling) {
  checkAdapters(g, b, starts, scaling);
  std::vector<Tensor> gradients;
  int64_t column = 0;
  for (size_t i = 0; i < b.size(); column += b[i++].size(1)) {
    const Tensor wide = g.narrow(1, starts[i], b[i].size(0)).to(b[i].scalar_type());
    gradients.push_back(at::empty(b[i].sizes(), b[i].options()).addmm_(wide.t(), z.narrow(1, column, b[i].size(1)), 0, scaling[i]));
  }
  return gradients;
}

}  // namespace

#define PATINA_ADAPTERS "int[] starts, float[] scaling"

TORCH_LIBRARY_FRAGMENT(patina, m) {
  m.def("side_by_side(Tensor[] parts) -> Tensor[]", sideBySide);
  m.def("project(Tensor x, Tensor[] weights, Tensor?[] biases) -> Tensor", project);
  m.def("project_add_(Tensor(a!) self, Tensor x, Tensor[] weights, Tensor?[] biases) -> Tensor(a!)", projectAdd);
  m.def("project_backward(Tensor g, Tensor[] weights) -> Tensor", projectBackward);
  m.def("project_backward_add_(Tensor(a!) self, Tensor g, Tensor[] weights) -> Tensor(a!)", projectBackwardAdd);
  m.def("add_low_rank_(Tensor(a!) self, Tensor z, Tensor[] b, " PATINA_ADAPTERS ") -> Tensor(a!)", addLowRank);
  m.def("low_rank_backward(Tensor g, Tensor[] b, " PATINA_ADAPTERS ") -> Tensor", lowRankBackward);
  m.def("low_rank_gradients(Tensor g, Tensor z, Tensor[] b, " PATINA_ADAPTERS ") -> Tensor[]", lowRankGradients);
  m.def("product_into_(Tensor(a!) self, Tensor a, Tensor b, bool adds) -> Tensor(a!)", productInto);
}

}  // namespace patina
