// What every form of patina::adamw_ takes, and what its kernels share.
#pragma once

#include "common.h"

namespace patina {

// Lists of one length; see the schema.
struct AdamwLists {
  at::TensorList weights, gradients, averages, squares, rounded, steps;
  // Six words for each tensor, or none: all is rounded to nearest. The first element of each in its whole, or none: 0.
  at::IntArrayRef keys, from;

  int64_t fromOf(size_t i) const { return from.empty() ? 0 : from[i]; }
  // Of the weights (0), the first moment (1) and the second (2).
  at::IntArrayRef keyOf(size_t i, size_t which) const { return keys.slice(6 * i + 2 * which, 2); }
};

struct AdamwSettings {
  double lr, beta1, beta2, decay, eps;
  const std::optional<at::Tensor>& divisor;
  const std::optional<at::Tensor>& foundInf;
};

inline bool isHalf(const at::Tensor& x) { return x.scalar_type() == at::kHalf || x.scalar_type() == at::kBFloat16; }

// Of kernels for CUDA: the number of a type there, and whether eight elements can be moved at once from where a tensor begins.
inline unsigned char codeOf(const at::Tensor& x) { return x.scalar_type() == at::kFloat ? 0 : x.scalar_type() == at::kHalf ? 1 : 2; }
inline bool isWide(const at::Tensor& x) { return reinterpret_cast<uintptr_t>(x.const_data_ptr()) % (8 * x.element_size()) == 0; }

// Refuses lists that do not belong together, and marks what is written.
void checkAdamw(const AdamwLists& lists);

// One tensor of the lists, in fp32 copies by libtorch's fused AdamW.
void adamwInCopies(const AdamwLists& lists, const AdamwSettings& settings, size_t i);
void adamwComposite(const AdamwLists& lists, const AdamwSettings& settings);

// The operator, of what does its work.
template <void (*work)(const AdamwLists&, const AdamwSettings&)>
void adamw(at::TensorList weights, at::TensorList gradients, at::TensorList averages, at::TensorList squares, at::TensorList rounded,
           at::TensorList steps, double lr, double beta1, double beta2, double decay, double eps, at::IntArrayRef keys, at::IntArrayRef from,
           const std::optional<at::Tensor>& divisor, const std::optional<at::Tensor>& foundInf) {
  const AdamwLists lists{weights, gradients, averages, squares, rounded, steps, keys, from};
  checkAdamw(lists);
  work(lists, {lr, beta1, beta2, decay, eps, divisor, foundInf});
}

}  // namespace patina
