// Operators of our own, in the namespace patina::, which the door calls like any of libtorch's.
#include "common.h"

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

TORCH_LIBRARY(patina, m) { m.def("overwrite_(Tensor(a!) self, Tensor source) -> Tensor(a!)", overwrite); }

}  // namespace patina
