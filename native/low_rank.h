// The low-rank pieces of LoRA: the composites of low_rank.cc, and the kernels for CUDA of low_rank_kernels.cc, which fall back on them.
#pragma once

#include "common.h"

namespace patina {

// The masks of a group of adapters, one layer for each.
struct DropCall {
  double p;
  const at::Tensor& records;
  const at::Tensor& indices;
  at::IntArrayRef key;
  at::IntArrayRef layers;
};

at::Tensor droppedProduct(const at::Tensor& x, at::TensorList a, const DropCall& call);
at::Tensor droppedGradients(const at::Tensor& dz, const at::Tensor& x, at::IntArrayRef ranks, const DropCall& call);
at::Tensor& addDropped(at::Tensor& self, const at::Tensor& dz, at::TensorList a, const DropCall& call);

// What is added to gate and up: `scale z b^T`, z (N, rank), b (F, rank).
struct LowGate {
  const at::Tensor& zGate;
  const at::Tensor& zUp;
  const at::Tensor& bGate;
  const at::Tensor& bUp;
  double scaleGate, scaleUp;
};

at::Tensor swigluLowRank(const at::Tensor& self, const LowGate& low);
void swigluLowRankBackward(at::Tensor& self, at::Tensor& grad, const LowGate& low, const std::optional<at::Tensor>& dz,
                           const std::optional<at::Tensor>& a);

// They throw where tensors do not fit each other: kernels go by the sizes of one of them.
void checkDropped(const at::Tensor& x, at::TensorList a, const DropCall& call);
void checkDroppedGradients(const at::Tensor& dz, const at::Tensor& x, at::IntArrayRef ranks, const DropCall& call);
void checkAddDropped(const at::Tensor& self, const at::Tensor& dz, at::TensorList a, const DropCall& call);
void checkGatedLowRank(const at::Tensor& self, const LowGate& low);
void checkGatedLowRankBackward(const at::Tensor& self, const at::Tensor& grad, const LowGate& low, const std::optional<at::Tensor>& dz,
                               const std::optional<at::Tensor>& a);

}  // namespace patina
