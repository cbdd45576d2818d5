// Which inputs make an output along one axis, and with which weights.
#pragma once

#include <cstddef>
#include <cstdint>
#include <vector>

namespace pixels {

constexpr int kFractionBits = 22;
constexpr int32_t kHalf = 1 << (kFractionBits - 1);

// The inputs of one output: those on the image, and the weight of all that lie on the canvas beside it.
struct Taps {
  int64_t first;   // index on the image
  int64_t count;
  size_t weights;  // where its weights begin in Axis::weights
  int32_t beside;
};

struct Axis {
  std::vector<Taps> taps;
  std::vector<int32_t> weights;  // kFractionBits fractional bits
};

// The taps of outputs from ... from + count - 1 of `resized`, where the image covers the inputs place ... place + image - 1
// of `canvas`.
Axis make_axis(int64_t canvas, int64_t resized, int64_t from, int64_t count, int64_t place, int64_t image);

}  // namespace pixels
