// Output i of n_out from n_in inputs: scale = n_in / n_out, f = max(scale, 1), centre = (i + 0.5) scale, inputs from
// trunc(centre - 2f + 0.5) up to, not including, trunc(centre + 2f + 0.5), cut to the canvas, each weighted by the cubic of
// (x - centre + 0.5) / f in double precision, divided by the weights' sum and rounded to 22 fractional bits. An axis that
// keeps its length gets the weights 0 1 0 0, so it needs no case of its own.
#include "axis.h"

#include <algorithm>
#include <cmath>

namespace pixels {
namespace {

// Keys' cubic with a = -0.5. The order of operations is Pillow's, as another one rounds differently.
double cubic(double x) {
  constexpr double a = -0.5;
  x = std::abs(x);
  if (x < 1.0) return ((a + 2.0) * x - (a + 3.0)) * x * x + 1;
  if (x < 2.0) return (((x - 5) * x + 8) * x - 4) * a;
  return 0.0;
}

}  // namespace

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

}  // namespace pixels
