// What the operators that draw by counters share (philox.cc, dropout.cc, stochastic_round.cc).
#pragma once

#include "common.h"
#include "philox.h"

#include <array>

namespace patina {

// The words of a key, as operators take them.
PhiloxKey keyOf(at::IntArrayRef words);

// An element is dropped where its 16 bits are below it: with probability p to 2^-16.
inline unsigned int dropoutThreshold(double p) { return static_cast<unsigned int>(p * 65536.0); }

// x (..., C) has R rows; records and indices have G elements, and R / G neighbouring rows share one: row r is token
// index * R / G + r mod R / G of its record.
struct DropoutLayout {
  int64_t rows, channels, perPlace;
};

// Throws where places do not fit the rows, or a probability is none.
DropoutLayout dropoutLayout(const at::Tensor& x, double p, const at::Tensor& records, const at::Tensor& indices);

// The same function by libtorch's operators, on any device: words are int64 tensors that broadcast.
std::array<at::Tensor, 4> philoxComposite(std::array<at::Tensor, 4> counter, PhiloxKey key);

at::Tensor philoxOf(const at::Tensor& counters, at::IntArrayRef key);
at::Tensor philoxCompositeOf(const at::Tensor& counters, at::IntArrayRef key);
at::Tensor dropoutComposite(const at::Tensor& x, double p, const at::Tensor& records, const at::Tensor& indices, at::IntArrayRef key,
                            int64_t layer);
// By the kernel of the device.
at::Tensor& roundStochastic(at::Tensor& target, const at::Tensor& source, at::IntArrayRef key, int64_t from);
at::Tensor& roundStochasticComposite(at::Tensor& target, const at::Tensor& source, at::IntArrayRef key, int64_t from);

}  // namespace patina
