// The dynamic 8-bit data type (Dettmers 2016, "8-Bit Approximations for Parallelism in Deep Learning"), with the values of bitsandbytes: seven
// decades below 1, each divided evenly, the higher the finer; 0 and 1. Kernels for CUDA include it as text.
#ifndef PATINA_DYNAMIC_MAP_H
#define PATINA_DYNAMIC_MAP_H

#ifdef __CUDACC_RTC__
#define PATINA_ANYWHERE __device__ inline
#else
#include <bit>
#define PATINA_ANYWHERE inline __attribute__((always_inline))
#endif

namespace patina {

// Values that share a scale, their largest magnitude.
constexpr int DYNAMIC_BLOCK = 256;
// A scale below the least normal number counts as 0: it has no finite reciprocal.
constexpr float DYNAMIC_LEAST = 1.17549435e-38f;

// Stretches of [2^-23, 1], each of which the upper 16 bits of its numbers name; below the first there is no line.
constexpr int DYNAMIC_CELLS = 0x3F80 - 0x3400 + 1;

struct DynamicMap {
  // By code, ascending.
  float values[256];
  // Midpoints between the magnitudes from 0 on; then infinity.
  float lines[256];
  // How many lines lie below the beginning of a stretch. None holds two lines.
  unsigned char first[DYNAMIC_CELLS];
};

// With signs for first moments, without for second ones.
struct DynamicMaps {
  DynamicMap averages, squares;
};

// The code of 0 where there are signs. There is a code of 1, and none of -1.
constexpr int DYNAMIC_ZERO = 127;

// Which magnitude, from 0 on, is nearest to one in [0, 1]; of two as near the smaller.
PATINA_ANYWHERE int nearestMagnitude(const DynamicMap& map, float x) {
#ifdef __CUDACC_RTC__
  const int bits = __float_as_int(x);
#else
  const int bits = std::bit_cast<int>(x);
#endif
  const int cell = (bits >> 16) - 0x3400, inside = cell < 0 ? 0 : cell >= DYNAMIC_CELLS ? DYNAMIC_CELLS - 1 : cell;
  const int below = map.first[inside];
  return below + (x > map.lines[below]);
}

// `x` in [-1, 1].
PATINA_ANYWHERE unsigned char codeOfAverage(const DynamicMap& map, float x) {
  const int magnitude = nearestMagnitude(map, x < 0 ? -x : x);
  if (!(x < 0)) return static_cast<unsigned char>(DYNAMIC_ZERO + magnitude);
  return static_cast<unsigned char>(magnitude < DYNAMIC_ZERO ? DYNAMIC_ZERO - magnitude : 0);
}

// `x` in [0, 1]. What is not 0 does not become 0: a first moment would be divided by epsilon alone in the next update.
PATINA_ANYWHERE unsigned char codeOfSquare(const DynamicMap& map, float x) {
  const int magnitude = nearestMagnitude(map, x);
  return static_cast<unsigned char>(magnitude == 0 && x > 0 ? 1 : magnitude);
}

}  // namespace patina

#endif
