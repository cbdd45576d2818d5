// What a decoder block computes between its products: the composites of block_operators.cc, and the kernels for CUDA of
// block_kernels.cc, which fall back on them.
#pragma once

#include "common.h"

namespace patina {

std::tuple<at::Tensor, at::Tensor> addRmsNorm(at::Tensor& self, const std::optional<at::Tensor>& other, const at::Tensor& weight, double eps);
at::Tensor& rmsNormBackward(at::Tensor& self, const at::Tensor& x, const at::Tensor& weight, const at::Tensor& rstd,
                            const std::optional<at::Tensor>& other);
at::Tensor& rotary(at::Tensor& self, const at::Tensor& cos, const at::Tensor& sin, int64_t heads);
at::Tensor rotaryBackward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& cos, const at::Tensor& sin);
at::Tensor swiglu(const at::Tensor& self);
void swigluBackward(at::Tensor& self, at::Tensor& grad);

// Their arguments are refused alike on every device.
void checkNorm(const at::Tensor& x, const std::optional<at::Tensor>& other, const at::Tensor& weight, const char* what);
void checkNormBackward(const at::Tensor& self, const at::Tensor& x, const std::optional<at::Tensor>& other, const at::Tensor& weight,
                       const at::Tensor& rstd);
void checkRotary(const at::Tensor& self, const at::Tensor& cos, const at::Tensor& sin, int64_t heads);
void checkRotaryBackward(const at::Tensor& q, const at::Tensor& k, const at::Tensor& v, const at::Tensor& cos, const at::Tensor& sin);
void checkGated(const at::Tensor& self, const char* what);
void checkGatedBackward(const at::Tensor& self, const at::Tensor& grad);

// In which a dtype is computed.
at::ScalarType computeTypeOf(const at::Tensor& x);

}  // namespace patina
