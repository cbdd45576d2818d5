// What every form of the NF4 operators takes: nf4.cc, and the kernels for CUDA of nf4_kernels.cc.
#pragma once

#include "common.h"

namespace patina {

constexpr int64_t NF4_BLOCK = 64, NF4_NESTED_BLOCK = 256;

// A matrix in NF4. `nested`, `nestedCode` and `offset` are there where the scales are quantised too.
struct Nf4 {
  // Two codes a byte, the first in the high half.
  const at::Tensor& packed;
  // A scale for each block: float, or a byte.
  const at::Tensor& absmax;
  const at::Tensor& code;
  const std::optional<at::Tensor>& nested;
  const std::optional<at::Tensor>& nestedCode;
  const std::optional<at::Tensor>& offset;
  // What codes stand for is rounded to this type, and then to that of the tensor which it is written to.
  std::optional<at::ScalarType> type;
};

void checkQuantise(const at::Tensor& weight, const at::Tensor& code);
void checkNf4(const at::Tensor& weight, const Nf4& nf4);

std::tuple<at::Tensor, at::Tensor> nf4QuantiseComposite(const at::Tensor& weight, const at::Tensor& code);
at::Tensor& nf4DequantiseComposite(at::Tensor& weight, const Nf4& nf4);

}  // namespace patina
