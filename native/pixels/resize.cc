// Two passes, first along x and then along y, each rounded to bytes, as Pillow's ImagingResample does: an output byte is
// clip((sum + 2^21) >> 22), and the sums fit in 32 bits. The part of the canvas beside the image enters as one weight.
#include "resize.h"

#include <algorithm>
#include <cstring>
#include <vector>

#include "across.h"
#include "axis.h"

#if defined(__x86_64__) && defined(__gnu_linux__)
#define VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define VECTORISED
#endif

namespace pixels {
namespace {

// sums += weight * row
VECTORISED
void accumulate(const uint8_t* row, int32_t weight, int32_t* sums, int64_t length) {
  for (int64_t x = 0; x < length; x++) sums[x] += weight * row[x];
}

VECTORISED
void round_row(const int32_t* sums, uint8_t* out, int64_t length) {
  for (int64_t x = 0; x < length; x++) {
    out[x] = static_cast<uint8_t>(std::clamp(sums[x] >> kFractionBits, 0, 255));
  }
}

}  // namespace

void resize(const Request& r, bool vectors) {
  const Axis down = make_axis(r.canvas.height, r.resized.height, r.corner.y, r.window.height, r.place.y, r.image.height);
  const Across across(
      make_axis(r.canvas.width, r.resized.width, r.corner.x, r.window.width, r.place.x, r.image.width), r.background,
      vectors);
  const std::vector<uint8_t> empty_row = across.empty_row();
  const int64_t stride = 3 * r.window.width;
  const int64_t source_stride = 3 * r.image.width;

  // The pass along x may read behind a row, which is harmless but at the end of the image.
  std::vector<uint8_t> copy(static_cast<size_t>(source_stride + Across::kSlack));
  const auto readable_row = [&](int64_t y) {
    const uint8_t* row = r.source + source_stride * y;
    if (source_stride * (r.image.height - y) >= source_stride + Across::kSlack) return row;
    std::memcpy(copy.data(), row, static_cast<size_t>(source_stride));
    return static_cast<const uint8_t*>(copy.data());
  };

  // Rows after the pass along x are kept only as long as an output row needs them: row y lies at y % kept.
  int64_t kept = 1;
  for (const Taps& taps : down.taps) kept = std::max(kept, taps.count);
  const int64_t room = stride + Across::kSlack;
  std::vector<uint8_t> rows(static_cast<size_t>(kept * room));
  std::vector<int32_t> sums(static_cast<size_t>(stride));
  int64_t ready = 0;
  uint8_t* out = r.target;
  for (const Taps& taps : down.taps) {
    for (ready = std::max(ready, taps.first); ready < taps.first + taps.count; ready++) {
      across.row(readable_row(ready), rows.data() + ready % kept * room);
    }
    for (size_t x = 0; x < sums.size(); x++) sums[x] = kHalf + taps.beside * empty_row[x];
    for (int64_t k = 0; k < taps.count; k++) {
      const int32_t weight = down.weights[taps.weights + static_cast<size_t>(k)];
      accumulate(rows.data() + (taps.first + k) % kept * room, weight, sums.data(), stride);
    }
    round_row(sums.data(), out, stride);
    out += stride;
  }
}

}  // namespace pixels
