// The pass along x: one row of pixels to the outputs of an axis.
#pragma once

#include <cstdint>
#include <vector>

#include "axis.h"

namespace pixels {

// Four taps for AVX2: a weight w is high * 2^11 + low, so that both halves fit into 16 bits. Each half is laid out as
// [w0 w1] four times, then [w2 w3] four times: for red, green, blue and an idle lane.
struct alignas(32) FourWeights {
  int16_t high[16];
  int16_t low[16];
};

class Across {
 public:
  // `vectors` asks for AVX2 where the processor has it.
  Across(Axis axis, const uint8_t background[3], bool vectors);

  // Bytes that must be readable behind a row and writable behind its outputs.
  static constexpr int64_t kSlack = 16;

  void row(const uint8_t* pixels, uint8_t* out) const { fours_.empty() ? plain(pixels, out) : avx2(pixels, out); }

  // The outputs of a row that is all background.
  std::vector<uint8_t> empty_row() const;

 private:
  void plain(const uint8_t* pixels, uint8_t* out) const;
  void avx2(const uint8_t* pixels, uint8_t* out) const;

  Axis axis_;
  int32_t background_[3];
  std::vector<FourWeights> fours_;
};

}  // namespace pixels
