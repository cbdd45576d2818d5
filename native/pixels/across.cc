#include "across.h"

#include <algorithm>
#include <utility>

#if defined(__x86_64__)
#include <immintrin.h>
#endif

namespace pixels {
namespace {

constexpr int kLowBits = 11;

uint8_t to_byte(int32_t sum) { return static_cast<uint8_t>(std::clamp(sum >> kFractionBits, 0, 255)); }

bool has_avx2() {
#if defined(__x86_64__)
  return __builtin_cpu_supports("avx2");
#else
  return false;
#endif
}

}  // namespace

Across::Across(Axis axis, const uint8_t background[3], bool vectors)
    : axis_(std::move(axis)), background_{background[0], background[1], background[2]} {
  if (!vectors || !has_avx2()) return;
  for (const Taps& taps : axis_.taps) {
    for (int64_t k = 0; k < taps.count; k += 4) {
      FourWeights four{};
      for (int64_t i = 0; i < std::min<int64_t>(taps.count - k, 4); i++) {
        const int32_t weight = axis_.weights[taps.weights + static_cast<size_t>(k + i)];
        for (int64_t lane = 0; lane < 4; lane++) {
          const int64_t at = 8 * (i / 2) + 2 * lane + i % 2;
          four.high[at] = static_cast<int16_t>(weight >> kLowBits);
          four.low[at] = static_cast<int16_t>(weight & ((1 << kLowBits) - 1));
        }
      }
      fours_.push_back(four);
    }
  }
}

std::vector<uint8_t> Across::empty_row() const {
  std::vector<uint8_t> row;
  for (const Taps& taps : axis_.taps) {
    int32_t total = taps.beside;
    for (int64_t k = 0; k < taps.count; k++) total += axis_.weights[taps.weights + static_cast<size_t>(k)];
    for (const int32_t colour : background_) row.push_back(to_byte(kHalf + total * colour));
  }
  return row;
}

void Across::plain(const uint8_t* pixels, uint8_t* out) const {
  for (const Taps& taps : axis_.taps) {
    const int32_t* weights = axis_.weights.data() + taps.weights;
    const uint8_t* pixel = pixels + 3 * taps.first;
    int32_t red = kHalf + taps.beside * background_[0];
    int32_t green = kHalf + taps.beside * background_[1];
    int32_t blue = kHalf + taps.beside * background_[2];
    for (int64_t k = 0; k < taps.count; k++, pixel += 3) {
      red += weights[k] * pixel[0];
      green += weights[k] * pixel[1];
      blue += weights[k] * pixel[2];
    }
    *out++ = to_byte(red);
    *out++ = to_byte(green);
    *out++ = to_byte(blue);
  }
}

#if defined(__x86_64__)

// Four pixels a step: their bytes are spread to 16 bits, the two of a pair beside each other, and vpmaddwd multiplies and
// adds the pairs. Pixels behind the last tap have the weight 0.
__attribute__((target("avx2"))) void Across::avx2(const uint8_t* pixels, uint8_t* out) const {
  const __m256i spread = _mm256_setr_epi8(  //
      0, -1, 3, -1, 1, -1, 4, -1, 2, -1, 5, -1, -1, -1, -1, -1,  //
      6, -1, 9, -1, 7, -1, 10, -1, 8, -1, 11, -1, -1, -1, -1, -1);
  const __m128i background = _mm_setr_epi32(background_[0], background_[1], background_[2], 0);
  const FourWeights* four = fours_.data();
  for (const Taps& taps : axis_.taps) {
    const uint8_t* pixel = pixels + 3 * taps.first;
    __m256i high = _mm256_setzero_si256();
    __m256i low = _mm256_setzero_si256();
    for (int64_t k = 0; k < taps.count; k += 4, pixel += 12, four++) {
      const __m128i bytes = _mm_loadu_si128(reinterpret_cast<const __m128i*>(pixel));
      const __m256i words = _mm256_shuffle_epi8(_mm256_broadcastsi128_si256(bytes), spread);
      const __m256i high_weights = _mm256_load_si256(reinterpret_cast<const __m256i*>(four->high));
      const __m256i low_weights = _mm256_load_si256(reinterpret_cast<const __m256i*>(four->low));
      high = _mm256_add_epi32(high, _mm256_madd_epi16(words, high_weights));
      low = _mm256_add_epi32(low, _mm256_madd_epi16(words, low_weights));
    }
    const __m256i both = _mm256_add_epi32(_mm256_slli_epi32(high, kLowBits), low);
    const __m128i beside = _mm_mullo_epi32(_mm_set1_epi32(taps.beside), background);
    __m128i sum = _mm_add_epi32(_mm256_castsi256_si128(both), _mm256_extracti128_si256(both, 1));
    sum = _mm_add_epi32(_mm_add_epi32(sum, beside), _mm_set1_epi32(kHalf));
    sum = _mm_srai_epi32(sum, kFractionBits);
    const __m128i bytes = _mm_packus_epi16(_mm_packs_epi32(sum, sum), sum);
    _mm_storeu_si32(out, bytes);  // the fourth byte is the next output's, or slack
    out += 3;
  }
}

#else

void Across::avx2(const uint8_t* pixels, uint8_t* out) const { plain(pixels, out); }

#endif

}  // namespace pixels
