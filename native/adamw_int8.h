// What every form of patina::adamw_int8_ takes, and what its kernels share.
#pragma once

#include "adamw.h"
#include "dynamic_map.h"

namespace patina {

// Blocks of a tensor, the last of which may be shorter.
inline int64_t dynamicBlocks(int64_t count) { return (count + DYNAMIC_BLOCK - 1) / DYNAMIC_BLOCK; }

const DynamicMaps& dynamicMaps();
// The same where a kernel of a device reads it.
const void* dynamicMapsOn(c10::Device device);

// Lists of one length; see the schema.
struct Int8Lists {
  at::TensorList weights, gradients, averages, averageScales, squares, squareScales, rounded, steps;
  // Two words for each tensor, or none: weights are rounded to nearest. The first element of each in its whole, or none: 0.
  at::IntArrayRef keys, from;

  int64_t fromOf(size_t i) const { return from.empty() ? 0 : from[i]; }
  at::IntArrayRef keyOf(size_t i) const { return keys.slice(2 * i, 2); }
};

// Refuses lists that do not belong together, and marks what is written.
void checkInt8(const Int8Lists& lists);

// Tensors of fp32 in the dynamic type and back; scales are of blocks of the flattened tensor.
std::tuple<at::Tensor, at::Tensor> dynamicQuantise(const at::Tensor& x, bool isSigned);
at::Tensor dynamicDequantise(const at::Tensor& codes, const at::Tensor& absmax, bool isSigned);

void adamwInt8Composite(const Int8Lists& lists, const AdamwSettings& settings);

// The operator, of what does its work.
template <void (*work)(const Int8Lists&, const AdamwSettings&)>
void adamwInt8(at::TensorList weights, at::TensorList gradients, at::TensorList averages, at::TensorList averageScales, at::TensorList squares,
               at::TensorList squareScales, at::TensorList rounded, at::TensorList steps, double lr, double beta1, double beta2, double decay,
               double eps, at::IntArrayRef keys, at::IntArrayRef from, const std::optional<at::Tensor>& divisor,
               const std::optional<at::Tensor>& foundInf) {
  const Int8Lists lists{weights, gradients, averages, averageScales, squares, squareScales, rounded, steps, keys, from};
  checkInt8(lists);
  work(lists, {lr, beta1, beta2, decay, eps, divisor, foundInf});
}

}  // namespace patina
