// Two passes, first along x and then along y, each rounded to bytes, as Pillow's ImagingResample does.
//
// Output i of n_out from n_in inputs: scale = n_in / n_out, f = max(scale, 1), centre = (i + 0.5) scale, inputs from
// trunc(centre - 2f + 0.5) up to, not including, trunc(centre + 2f + 0.5), cut to the image, each weighted by the cubic of
// (x - centre + 0.5) / f in double precision, divided by the weights' sum and rounded to 22 fractional bits. An output
// byte is clip((sum + 2^21) >> 22). The sums fit in 32 bits. An axis that keeps its length gets the weights 0 1 0 0, so
// it needs no case of its own.
#include "resize.h"

#include <algorithm>
#include <cmath>
#include <vector>

#if defined(__x86_64__) && defined(__gnu_linux__)
#define VECTORISED __attribute__((target_clones("avx2", "default")))
#else
#define VECTORISED
#endif

namespace pixels {
namespace {

constexpr int kFractionBits = 22;
constexpr int32_t kHalf = 1 << (kFractionBits - 1);

// Four 32-bit integers that are added and multiplied at once.
typedef int32_t Lanes __attribute__((vector_size(16)));

uint8_t to_byte(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

// Keys' cubic with a = -0.5. The order of operations is Pillow's, as another one rounds differently.
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

// The inputs of one output: those on the image, and the weight of all that lie on the canvas beside it.
struct Taps {
  int64_t first;   // index on the image
  int64_t count;
  size_t weights;  // where its weights begin in Axis::weights
  int32_t beside;
};

struct Axis {
  std::vector<Taps> taps;
  std::vector<int32_t> weights;
};

// The taps of outputs from ... from + count - 1, where the image covers canvas inputs place ... place + image - 1.
Axis make_axis(int64_t canvas, int64_t resized, int64_t from, int64_t count, int64_t place, int64_t image) {
  const double scale = static_cast<double>(canvas) / static_cast<double>(resized);
  const double filter_scale = std::max(scale, 1.0);
  const double support = 2.0 * filter_scale;
  const double inverse = 1.0 / filter_scale;
  Axis axis;
  std::vector<double> cubics;
  for (int64_t i = from; i < from + count; i++) {
    const double centre = (static_cast<double>(i) + 0.5) * scale;
    const int64_t low = std::max<int64_t>(static_cast<int64_t>(centre - support + 0.5), 0);
    const int64_t high = std::min<int64_t>(static_cast<int64_t>(centre + support + 0.5), canvas);
    double total = 0;
    cubics.clear();
    for (int64_t x = low; x < high; x++) {
      cubics.push_back(cubic((static_cast<double>(x) - centre + 0.5) * inverse));
      total += cubics.back();
    }
    Taps taps{std::clamp<int64_t>(low - place, 0, image), 0, axis.weights.size(), 0};
    for (int64_t x = low; x < high; x++) {
      double weight = cubics[static_cast<size_t>(x - low)];
      if (total != 0.0) weight /= total;
      const auto fixed = static_cast<int32_t>(weight * (1 << kFractionBits) + (weight < 0 ? -0.5 : 0.5));
      if (x >= place && x < place + image) {
        axis.weights.push_back(fixed);
        taps.count++;
      } else {
        taps.beside += fixed;
      }
    }
    axis.taps.push_back(taps);
  }
  return axis;
}

// One row along x. `wide` is room for the row with four 32-bit lanes per pixel, of which the last is idle: a tap is then
// one multiplication and one addition of four lanes.
VECTORISED
void resize_row(const uint8_t* row, const Axis& axis, const uint8_t* background, std::vector<Lanes>& wide, uint8_t* out) {
  for (size_t x = 0; x < wide.size(); x++, row += 3) wide[x] = Lanes{row[0], row[1], row[2], 0};
  const Lanes beside{background[0], background[1], background[2], 0};
  for (const Taps& taps : axis.taps) {
    const int32_t* weights = axis.weights.data() + taps.weights;
    const Lanes* pixels = wide.data() + taps.first;
    Lanes sum = kHalf + taps.beside * beside;
    for (int64_t k = 0; k < taps.count; k++) sum += weights[k] * pixels[k];
    for (int c = 0; c < 3; c++) *out++ = to_byte(sum[c]);
  }
}

// sums += weight * row
VECTORISED
void accumulate(const uint8_t* row, int32_t weight, int32_t* sums, int64_t length) {
  for (int64_t x = 0; x < length; x++) sums[x] += weight * row[x];
}

VECTORISED
void round_row(const int32_t* sums, uint8_t* out, int64_t length) {
  for (int64_t x = 0; x < length; x++) out[x] = to_byte(sums[x]);
}

}  // namespace

void resize(const Request& r) {
  const Axis across = make_axis(r.canvas.width, r.resized.width, r.corner.x, r.window.width, r.place.x, r.image.width);
  const Axis down = make_axis(r.canvas.height, r.resized.height, r.corner.y, r.window.height, r.place.y, r.image.height);
  const int64_t stride = 3 * r.window.width;

  // A canvas row without image, after the pass along x.
  std::vector<uint8_t> empty_row(static_cast<size_t>(stride));
  for (size_t i = 0; i < across.taps.size(); i++) {
    const Taps& taps = across.taps[i];
    int32_t total = taps.beside;
    for (int64_t k = 0; k < taps.count; k++) total += across.weights[taps.weights + static_cast<size_t>(k)];
    for (size_t c = 0; c < 3; c++) empty_row[3 * i + c] = to_byte(kHalf + total * r.background[c]);
  }

  int64_t first = r.image.height;
  int64_t last = 0;
  for (const Taps& taps : down.taps) {
    if (taps.count == 0) continue;
    first = std::min(first, taps.first);
    last = std::max(last, taps.first + taps.count);
  }
  std::vector<Lanes> wide(static_cast<size_t>(r.image.width));
  std::vector<uint8_t> rows(static_cast<size_t>(std::max<int64_t>(last - first, 0) * stride));
  for (int64_t y = first; y < last; y++) {
    resize_row(r.source + 3 * r.image.width * y, across, r.background, wide, rows.data() + (y - first) * stride);
  }

  std::vector<int32_t> sums(static_cast<size_t>(stride));
  uint8_t* out = r.target;
  for (const Taps& taps : down.taps) {
    for (size_t x = 0; x < sums.size(); x++) sums[x] = kHalf + taps.beside * empty_row[x];
    for (int64_t k = 0; k < taps.count; k++) {
      const int32_t weight = down.weights[taps.weights + static_cast<size_t>(k)];
      accumulate(rows.data() + (taps.first + k - first) * stride, weight, sums.data(), stride);
    }
    round_row(sums.data(), out, stride);
    out += stride;
  }
}

}  // namespace pixels
