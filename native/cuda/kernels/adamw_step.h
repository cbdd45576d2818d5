// What the kernels of AdamW share: numbers in whatever type they are kept, and those of a tensor's update.
#ifndef PATINA_ADAMW_H
#define PATINA_ADAMW_H

#include "numbers.h"
#include "philox.h"

namespace patina {

enum class Number : int { float32, float16, bfloat16 };

struct AdamwStep {
  float divided, decay, average, beta2, square, unbiased, eps, size;
};

// N numbers as they lie in memory; two of 16 bits to a word.
template <int N>
struct Bits {
  unsigned int words[N];
};

template <int N>
__device__ inline Bits<N> bitsAt(const void* from, Number type, long long at) {
  Bits<N> bits;
  if (type == Number::float32) {
    const auto pack = *reinterpret_cast<const Pack<unsigned int, N>*>(static_cast<const unsigned int*>(from) + at);
    for (int k = 0; k < N; k++) bits.words[k] = pack.at[k];
  } else if (N == 1) {
    bits.words[0] = static_cast<const unsigned short*>(from)[at];
  } else {
    const auto pack = *reinterpret_cast<const Pack<unsigned int, (N + 1) / 2>*>(static_cast<const unsigned short*>(from) + at);
    for (int k = 0; k < N / 2; k++) bits.words[k] = pack.at[k];
  }
  return bits;
}

template <int N>
__device__ inline void valuesOf(const Bits<N>& bits, Number type, float* values) {
  if (type == Number::float32) {
    for (int k = 0; k < N; k++) values[k] = __uint_as_float(bits.words[k]);
  } else if (type == Number::bfloat16) {
    for (int k = 0; k < N; k++) values[k] = __uint_as_float(k % 2 == 0 ? bits.words[k / 2] << 16 : bits.words[k / 2] & 0xFFFF0000u);
  } else {
    for (int k = 0; k < N; k++) values[k] = widened(Half{static_cast<unsigned short>(bits.words[k / 2] >> (16 * (k % 2)))});
  }
}

template <int N>
__device__ inline void read(const void* from, Number type, long long at, float* values) {
  valuesOf<N>(bitsAt<N>(from, type, at), type, values);
}

template <typename T, int N>
__device__ inline void writeAs(void* to, long long at, const float* values) {
  Pack<T, N> pack;
  for (int k = 0; k < N; k++) narrow(values[k], pack.at[k]);
  put(static_cast<T*>(to) + at, 0, pack);
}

template <int N>
__device__ inline void write(void* to, Number type, long long at, const float* values) {
  if (type == Number::float32) writeAs<float, N>(to, at, values);
  else if (type == Number::bfloat16) writeAs<BFloat16, N>(to, at, values);
  else writeAs<Half, N>(to, at, values);
}

// To bf16 at random; `element`: where the first lies in the whole, which begins an octet if there are eight of them.
template <int N>
__device__ inline Pack<BFloat16, N> drawn(const float* values, long long element, PhiloxKey key) {
  const Words words = roundingWords(element / 8, key);
  Pack<BFloat16, N> pack;
#pragma unroll
  for (int k = 0; k < N; k++) {
    const int place = N == 8 ? k : static_cast<int>(element % 8) + k;
    pack.at[k].bits = roundedAtRandom(__float_as_uint(values[k]), bitsOf(words, place));
  }
  return pack;
}

__device__ inline float squareRoot(float x) {
  float root;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
}

// By one thread of a block.
__device__ inline AdamwStep adamwStep(double t, double lr, double beta1, double beta2, double logBeta1, double logBeta2, double decay, double eps,
                                      const float* divisor) {
  // 1 - beta^t
  const double unbiased1 = -expm1(t * logBeta1), unbiased2 = -expm1(t * logBeta2);
  return {divisor == nullptr ? 1.0f : 1.0f / *divisor,
          static_cast<float>(1 - lr * decay),
          static_cast<float>(1 - beta1),
          static_cast<float>(beta2),
          static_cast<float>(1 - beta2),
          static_cast<float>(1 / sqrt(unbiased2)),
          static_cast<float>(eps),
          static_cast<float>(lr / unbiased1)};
}

}  // namespace patina

#endif
