// Rows of numbers in 8 bits, each with a scale in fp32: the composites of fp8.cc, which the kernels for CUDA of fp8_kernels.cc fall back on.
#pragma once

#include "common.h"

namespace patina {

// Codes and scales.
using Fp8Rows = std::tuple<at::Tensor, at::Tensor>;

Fp8Rows quantiseRowsFp8Composite(const at::Tensor& x, const std::optional<at::Tensor>& factors, at::ScalarType type);
std::tuple<at::Tensor, at::Tensor, at::Tensor, at::Tensor> addRmsNormFp8Composite(at::Tensor& self, const std::optional<at::Tensor>& other,
                                                                                 const at::Tensor& weight, double eps);
std::tuple<at::Tensor, at::Tensor, at::Tensor> swigluFp8Composite(const at::Tensor& self);
at::Tensor fp8TransposeComposite(at::TensorList codes);
at::Tensor fp8ProductComposite(const at::Tensor& a, const at::Tensor& b, const at::Tensor& aScales, const std::optional<at::Tensor>& bScales,
                               at::ScalarType type);

// Their arguments are refused alike on every device.
void checkQuantiseRowsFp8(const at::Tensor& x, const std::optional<at::Tensor>& factors, at::ScalarType type);
void checkFp8Transpose(at::TensorList codes);
void checkFp8Product(const at::Tensor& a, const at::Tensor& b, const at::Tensor& aScales, const std::optional<at::Tensor>& bScales,
                     at::ScalarType type);

// Codes and scales of so many rows, uninitialised.
Fp8Rows emptyFp8Rows(const at::Tensor& like, int64_t channels, at::ScalarType type);

// The columns of a matrix that is made of all rows.
int64_t rowsOf(at::TensorList matrices);

}  // namespace patina
