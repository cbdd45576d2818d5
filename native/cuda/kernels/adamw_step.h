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

template <int N>
__device__ inline void read(const void* from, Number type, long long at, float* values) {
  if (type == Number::float32) {
    const auto pack = *reinterpret_cast<const Pack<float, N>*>(static_cast<const float*>(from) + at);
    for (int k = 0; k < N; k++) values[k] = pack.at[k];
  } else if (type == Number::bfloat16) {
    const auto pack = *reinterpret_cast<const Pack<BFloat16, N>*>(static_cast<const BFloat16*>(from) + at);
    for (int k = 0; k < N; k++) values[k] = widened(pack.at[k]);
  } else {
    const auto pack = *reinterpret_cast<const Pack<Half, N>*>(static_cast<const Half*>(from) + at);
    for (int k = 0; k < N; k++) values[k] = widened(pack.at[k]);
  }
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
