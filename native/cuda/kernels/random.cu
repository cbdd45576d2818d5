// Dropout and stochastic rounding by counters, for CUDA; the same bits as native/dropout.cc and native/stochastic_round.cc give.
#include "philox.h"

namespace patina {

struct Half {
  unsigned short bits;
};

struct BFloat16 {
  unsigned short bits;
};

__device__ inline float widened(float x) { return x; }
__device__ inline double widened(double x) { return x; }
__device__ inline float widened(BFloat16 x) { return __uint_as_float(static_cast<unsigned int>(x.bits) << 16); }
__device__ inline float widened(Half x) {
  float wide;
  asm("cvt.f32.f16 %0, %1;" : "=f"(wide) : "h"(x.bits));
  return wide;
}

__device__ inline void narrow(float x, float& y) { y = x; }
__device__ inline void narrow(double x, double& y) { y = x; }
__device__ inline void narrow(float x, BFloat16& y) {
  const unsigned int bits = __float_as_uint(x);
  y.bits = (bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0 : static_cast<unsigned short>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}
__device__ inline void narrow(float x, Half& y) { asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }

// Division of 64 bits takes a hundred instructions, and is hardly ever needed.
__device__ inline long long quotient(long long a, long long b) {
  return ((a | b) >> 32) == 0 ? static_cast<unsigned int>(a) / static_cast<unsigned int>(b) : a / b;
}

template <typename T>
struct alignas(4 * sizeof(T)) Four {
  T at[4];
};

// One thread for four channels. `wide`: rows are whole quads, and both tensors begin where four elements can be moved at once.
template <typename T, typename Compute>
__device__ void dropFour(const T* x, T* y, const long long* records, const long long* indices, long long rows, long long channels,
                         long long perPlace, unsigned int threshold, double scale, PhiloxKey key, long long layer, bool wide) {
  const long long quads = (channels + 3) / 4;
  const long long thread = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread >= rows * quads) return;
  const long long row = quotient(thread, quads), quad = thread - row * quads;
  const long long place = quotient(row, perPlace), token = indices[place] * perPlace + row - place * perPlace;
  const Words words = dropoutWords(quad, token, records[place], layer, key);
  const Compute kept = static_cast<Compute>(scale);
  const long long first = row * channels + 4 * quad;
  if (wide) {
    Four<T> four = *reinterpret_cast<const Four<T>*>(x + first);
    for (int i = 0; i < 4; i++) narrow(widened(four.at[i]) * (words.at[i] < threshold ? Compute(0) : kept), four.at[i]);
    *reinterpret_cast<Four<T>*>(y + first) = four;
    return;
  }
  for (int i = 0; i < 4 && 4 * quad + i < channels; i++)
    narrow(widened(x[first + i]) * (words.at[i] < threshold ? Compute(0) : kept), y[first + i]);
}

}  // namespace patina

#define PATINA_DROPOUT(name, T, Compute)                                                                                            \
  extern "C" __global__ void name(const T* x, T* y, const long long* records, const long long* indices, long long rows,             \
                                  long long channels, long long perPlace, unsigned int threshold, double scale,                     \
                                  patina::PhiloxKey key, long long layer, bool wide) {                                              \
    patina::dropFour<T, Compute>(x, y, records, indices, rows, channels, perPlace, threshold, scale, key, layer, wide);             \
  }
PATINA_DROPOUT(dropout_float32, float, float)
PATINA_DROPOUT(dropout_float64, double, double)
PATINA_DROPOUT(dropout_float16, patina::Half, float)
PATINA_DROPOUT(dropout_bfloat16, patina::BFloat16, float)

// One thread for the eight elements that share four words; the first and the last may have fewer here.
extern "C" __global__ void round_stochastic(unsigned short* target, const unsigned int* source, long long from, long long count,
                                            patina::PhiloxKey key) {
  const long long octet = from / 8 + static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (octet * 8 >= from + count) return;
  const patina::Words words = patina::roundingWords(octet, key);
  for (int i = 0; i < 8; i++) {
    const long long element = octet * 8 + i - from;
    if (element >= 0 && element < count) target[element] = patina::roundedAtRandom(source[element], patina::roundingBits(words, i));
  }
}
