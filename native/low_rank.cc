// The low-rank pieces of LoRA that would else take passes over wide tensors. Adapters i of one input x (N, I), A_i (R_i, I), side by side in z:
//
//   dropped_product     z_i = drop_i(x) A_i^T                        dropped_gradients   dA_i = dz_i^T drop_i(x)
//   add_dropped_        x += sum of drop_i(dz_i A_i)                 drop_i: patina::dropout with a layer of its own
//   swiglu_low_rank     silu(gate + s z B^T) (up + s' z' B'^T)       gate and up side by side, which stay as they are
//
// and the backward of the last, which turns gate and up into their gradients and the gradient g + dz A of the product into the product. Here by
// libtorch's operators, which round what they add to gate and up in between; the kernels of native/cuda/kernels/low_rank.cu do not. What is
// dropped is 0 to those whatever it was; an input that is not finite shows in the layer's own product, from which nothing is dropped.
#include "low_rank.h"
#include "random_operators.h"

#include <torch/csrc/autograd/autograd_not_implemented_fallback.h>
#include <torch/library.h>

namespace patina {
namespace {

using at::IntArrayRef;
using at::Tensor;
using at::TensorList;
using std::optional;

Tensor drop(const Tensor& x, const DropCall& call, size_t i) {
  static const auto operation = c10::Dispatcher::singleton()
                                    .findSchemaOrThrow("patina::dropout", "")
                                    .typed<Tensor(const Tensor&, double, const Tensor&, const Tensor&, IntArrayRef, int64_t)>();
  return operation.call(x, call.p, call.records, call.indices, call.key, call.layers[i]);
}

Tensor swigluOf(const Tensor& both) {
  static const auto operation = c10::Dispatcher::singleton().findSchemaOrThrow("patina::swiglu", "").typed<Tensor(const Tensor&)>();
  return operation.call(both);
}

void swigluBackwardOf(Tensor& both, Tensor& grad) {
  static const auto operation =
      c10::Dispatcher::singleton().findSchemaOrThrow("patina::swiglu_backward_", "").typed<void(Tensor&, Tensor&)>();
  operation.call(both, grad);
}

// Adds to gate and up what belongs to them.
void add(Tensor both, const LowGate& low) {
  const int64_t features = both.size(1) / 2;
  both.narrow(1, 0, features).addmm_(low.zGate, low.bGate.t(), 1, low.scaleGate);
  both.narrow(1, features, features).addmm_(low.zUp, low.bUp.t(), 1, low.scaleUp);
}

int64_t ranksOf(TensorList a) {
  int64_t ranks = 0;
  for (const Tensor& each : a) ranks += each.size(0);
  return ranks;
}

int64_t sum(IntArrayRef sizes) { return std::accumulate(sizes.begin(), sizes.end(), int64_t{0}); }

Tensor product(const Tensor& x, TensorList a, double p, const Tensor& records, const Tensor& indices, IntArrayRef key, IntArrayRef layers) {
  return droppedProduct(x, a, {p, records, indices, key, layers});
}

Tensor productMeta(const Tensor& x, TensorList a, double p, const Tensor& records, const Tensor& indices, IntArrayRef key,
                   IntArrayRef layers) {
  checkDropped(x, a, {p, records, indices, key, layers});
  return at::empty({x.size(0), ranksOf(a)}, x.options());
}

Tensor gradients(const Tensor& dz, const Tensor& x, IntArrayRef ranks, double p, const Tensor& records, const Tensor& indices,
                 IntArrayRef key, IntArrayRef layers) {
  return droppedGradients(dz, x, ranks, {p, records, indices, key, layers});
}

Tensor gradientsMeta(const Tensor& dz, const Tensor& x, IntArrayRef ranks, double p, const Tensor& records, const Tensor& indices,
                     IntArrayRef key, IntArrayRef layers) {
  checkDroppedGradients(dz, x, ranks, {p, records, indices, key, layers});
  return at::empty({sum(ranks), x.size(1)}, x.options());
}

Tensor& addAll(Tensor& self, const Tensor& dz, TensorList a, double p, const Tensor& records, const Tensor& indices, IntArrayRef key,
            IntArrayRef layers) {
  return addDropped(self, dz, a, {p, records, indices, key, layers});
}

Tensor& addMeta(Tensor& self, const Tensor& dz, TensorList a, double p, const Tensor& records, const Tensor& indices, IntArrayRef key,
                IntArrayRef layers) {
  checkAddDropped(self, dz, a, {p, records, indices, key, layers});
  return self;
}

Tensor gate(const Tensor& self, const Tensor& zGate, const Tensor& zUp, const Tensor& bGate, const Tensor& bUp, double scaleGate,
            double scaleUp) {
  return swigluLowRank(self, {zGate, zUp, bGate, bUp, scaleGate, scaleUp});
}

Tensor gateMeta(const Tensor& self, const Tensor& zGate, const Tensor& zUp, const Tensor& bGate, const Tensor& bUp, double scaleGate,
                double scaleUp) {
  checkGatedLowRank(self, {zGate, zUp, bGate, bUp, scaleGate, scaleUp});
  return at::empty({self.size(0), self.size(1) / 2}, self.options());
}

void gateBackward(Tensor& self, Tensor& grad, const Tensor& zGate, const Tensor& zUp, const Tensor& bGate, const Tensor& bUp,
                  double scaleGate, double scaleUp, const optional<Tensor>& dz, const optional<Tensor>& a) {
  swigluLowRankBackward(self, grad, {zGate, zUp, bGate, bUp, scaleGate, scaleUp}, dz, a);
}

void gateBackwardMeta(Tensor& self, Tensor& grad, const Tensor& zGate, const Tensor& zUp, const Tensor& bGate, const Tensor& bUp,
                      double scaleGate, double scaleUp, const optional<Tensor>& dz, const optional<Tensor>& a) {
  checkGatedLowRankBackward(self, grad, {zGate, zUp, bGate, bUp, scaleGate, scaleUp}, dz, a);
}

}  // namespace

namespace {

void checkLike(const Tensor& x, const Tensor& other, const char* what) {
  TORCH_CHECK(other.scalar_type() == x.scalar_type() && other.device() == x.device(), what, " is ", x.toString(), " on ", x.device(),
              " as what it belongs to, not ", other.toString(), " on ", other.device());
}

void checkLayers(const Tensor& x, size_t adapters, const DropCall& call) {
  TORCH_CHECK(x.dim() == 2 && x.is_floating_point(), "adapters take rows of floating-point numbers");
  TORCH_CHECK(call.layers.size() == adapters && adapters > 0, "there are ", call.layers.size(), " layers for ", adapters, " adapters");
  dropoutLayout(x, call.p, call.records, call.indices);
}

void checkGradientOfZ(const Tensor& dz, const Tensor& x, int64_t ranks) {
  TORCH_CHECK(dz.dim() == 2 && dz.size(0) == x.size(0) && dz.size(1) == ranks, "the gradient of z has ", x.size(0), " rows and ", ranks,
              " ranks, not ", dz.sizes());
  checkLike(x, dz, "the gradient of z");
}

}  // namespace

void checkDropped(const Tensor& x, TensorList a, const DropCall& call) {
  checkLayers(x, a.size(), call);
  for (const Tensor& each : a) {
    TORCH_CHECK(each.dim() == 2 && each.size(1) == x.size(1), "an adapter's A takes the ", x.size(1), " channels of its input, not ",
                each.sizes());
    checkLike(x, each, "an adapter's A");
  }
}

void checkDroppedGradients(const Tensor& dz, const Tensor& x, IntArrayRef ranks, const DropCall& call) {
  checkLayers(x, ranks.size(), call);
  for (const int64_t rank : ranks) TORCH_CHECK(rank > 0, "an adapter has a rank of at least 1, not ", rank);
  checkGradientOfZ(dz, x, sum(ranks));
}

void checkAddDropped(const Tensor& self, const Tensor& dz, TensorList a, const DropCall& call) {
  checkDropped(self, a, call);
  checkGradientOfZ(dz, self, ranksOf(a));
}

void checkGatedLowRank(const Tensor& self, const LowGate& low) {
  TORCH_CHECK(self.dim() == 2 && self.size(1) % 2 == 0 && self.is_floating_point(), "swiglu_low_rank takes gate and up side by side");
  for (const auto& [z, b] : {std::pair{&low.zGate, &low.bGate}, {&low.zUp, &low.bUp}}) {
    TORCH_CHECK(z->dim() == 2 && b->dim() == 2 && z->size(0) == self.size(0) && 2 * b->size(0) == self.size(1) && z->size(1) == b->size(1),
                "swiglu_low_rank takes z (rows, rank) and B (features, rank), not ", z->sizes(), " and ", b->sizes());
    for (const Tensor* each : {z, b}) checkLike(self, *each, "what is added to gate and up");
  }
}

void checkGatedLowRankBackward(const Tensor& self, const Tensor& grad, const LowGate& low, const optional<Tensor>& dz,
                               const optional<Tensor>& a) {
  checkGatedLowRank(self, low);
  TORCH_CHECK(grad.dim() == 2 && grad.size(0) == self.size(0) && 2 * grad.size(1) == self.size(1),
              "the gradient of a product has its features, not ", grad.sizes());
  checkLike(self, grad, "the gradient of a product");
  TORCH_CHECK(dz.has_value() == a.has_value(), "dz and A belong together");
  if (!dz) return;
  TORCH_CHECK(dz->dim() == 2 && a->dim() == 2 && dz->size(0) == grad.size(0) && a->size(1) == grad.size(1) && dz->size(1) == a->size(0),
              "dz (rows, rank) and A (rank, features) give the gradient of the product, not ", dz->sizes(), " and ", a->sizes());
  for (const Tensor* each : {&*dz, &*a}) checkLike(self, *each, "what is added to the gradient of a product");
}

Tensor droppedProduct(const Tensor& x, TensorList a, const DropCall& call) {
  checkDropped(x, a, call);
  std::vector<Tensor> z;
  for (size_t i = 0; i < a.size(); i++) z.push_back(drop(x, call, i).matmul(a[i].t()));
  return z.size() == 1 ? z[0] : at::cat(z, 1);
}

Tensor droppedGradients(const Tensor& dz, const Tensor& x, IntArrayRef ranks, const DropCall& call) {
  checkDroppedGradients(dz, x, ranks, call);
  std::vector<Tensor> gradients;
  int64_t column = 0;
  for (size_t i = 0; i < ranks.size(); column += ranks[i++])
    gradients.push_back(dz.narrow(1, column, ranks[i]).t().matmul(drop(x, call, i)));
  return gradients.size() == 1 ? gradients[0] : at::cat(gradients);
}

Tensor& addDropped(Tensor& self, const Tensor& dz, TensorList a, const DropCall& call) {
  checkAddDropped(self, dz, a, call);
  int64_t column = 0;
  for (size_t i = 0; i < a.size(); column += a[i++].size(0)) self.add_(drop(dz.narrow(1, column, a[i].size(0)).matmul(a[i]), call, i));
  return self;
}

Tensor swigluLowRank(const Tensor& self, const LowGate& low) {
  checkGatedLowRank(self, low);
  const Tensor both = self.clone(at::MemoryFormat::Contiguous);
  add(both, low);
  return swigluOf(both);
}

void swigluLowRankBackward(Tensor& self, Tensor& grad, const LowGate& low, const optional<Tensor>& dz, const optional<Tensor>& a) {
  checkGatedLowRankBackward(self, grad, low, dz, a);
  add(self, low);
  if (dz) grad.addmm_(*dz, *a);
  swigluBackwardOf(self, grad);
}

#define PATINA_DROPS "float p, Tensor records, Tensor indices, int[] key, int[] layers"
#define PATINA_GATED "Tensor z_gate, Tensor z_up, Tensor b_gate, Tensor b_up, float scale_gate, float scale_up"

TORCH_LIBRARY_FRAGMENT(patina, m) {
  m.def("dropped_product(Tensor x, Tensor[] a, " PATINA_DROPS ") -> Tensor");
  m.def("dropped_gradients(Tensor dz, Tensor x, int[] ranks, " PATINA_DROPS ") -> Tensor");
  m.def("add_dropped_(Tensor(a!) self, Tensor dz, Tensor[] a, " PATINA_DROPS ") -> Tensor(a!)");
  m.def("swiglu_low_rank(Tensor self, " PATINA_GATED ") -> Tensor");
  m.def("swiglu_low_rank_backward_(Tensor(a!) self, Tensor(b!) grad, " PATINA_GATED ", Tensor? dz, Tensor? a) -> ()");
  // What the kernels are held against.
  m.def("dropped_product_composite(Tensor x, Tensor[] a, " PATINA_DROPS ") -> Tensor", product);
  m.def("dropped_gradients_composite(Tensor dz, Tensor x, int[] ranks, " PATINA_DROPS ") -> Tensor", gradients);
  m.def("add_dropped_composite_(Tensor(a!) self, Tensor dz, Tensor[] a, " PATINA_DROPS ") -> Tensor(a!)", addAll);
  m.def("swiglu_low_rank_composite(Tensor self, " PATINA_GATED ") -> Tensor", gate);
  m.def("swiglu_low_rank_backward_composite_(Tensor(a!) self, Tensor(b!) grad, " PATINA_GATED ", Tensor? dz, Tensor? a) -> ()", gateBackward);
}

TORCH_LIBRARY_IMPL(patina, CPU, m) {
  m.impl("dropped_product", product);
  m.impl("dropped_gradients", gradients);
  m.impl("add_dropped_", addAll);
  m.impl("swiglu_low_rank", gate);
  m.impl("swiglu_low_rank_backward_", gateBackward);
}

// Whoever records them and asks for a gradient is told that there is none.
TORCH_LIBRARY_IMPL(patina, Autograd, m) {
  for (const char* name : {"dropped_product", "dropped_gradients", "add_dropped_", "swiglu_low_rank", "swiglu_low_rank_backward_"})
    m.impl(name, torch::autograd::autogradNotImplementedFallback());
}

TORCH_LIBRARY_IMPL(patina, Meta, m) {
  m.impl("dropped_product", productMeta);
  m.impl("dropped_gradients", gradientsMeta);
  m.impl("add_dropped_", addMeta);
  m.impl("swiglu_low_rank", gateMeta);
  m.impl("swiglu_low_rank_backward_", gateBackwardMeta);
}

}  // namespace patina
