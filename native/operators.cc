// Operators of our own, in the namespace patina::, which the door calls like any of libtorch's.
#include "common.h"
#include "random_operators.h"

#include <torch/library.h>

namespace patina {
namespace {

// Copies values without moving the version counter, for whoever refills a storage that was freed: the graphs that saved the tensor stay
// valid because the values are those that they saw.
at::Tensor& overwrite(at::Tensor& self, const at::Tensor& source) {
  at::AutoDispatchBelowADInplaceOrView guard;
  return self.copy_(source);
}

}  // namespace

TORCH_LIBRARY(patina, m) {
  m.def("overwrite_(Tensor(a!) self, Tensor source) -> Tensor(a!)", overwrite);
  m.def("dropout(Tensor self, float p, Tensor records, Tensor indices, int[] key, int layer) -> Tensor");
  m.def("round_stochastic_(Tensor(a!) self, Tensor source, int[] key, int from=0) -> Tensor(a!)");
  // What the kernels of the two are held against.
  m.def("philox(Tensor counters, int[] key) -> Tensor", philoxOf);
  m.def("philox_composite(Tensor counters, int[] key) -> Tensor", philoxCompositeOf);
  m.def("dropout_composite(Tensor self, float p, Tensor records, Tensor indices, int[] key, int layer) -> Tensor", dropoutComposite);
  m.def("round_stochastic_composite_(Tensor(a!) self, Tensor source, int[] key, int from=0) -> Tensor(a!)", roundStochasticComposite);
}

}  // namespace patina
