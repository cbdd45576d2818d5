// The floating-point types of tensors, and moving several elements at once. Kernels compute in float, for double in double.
#ifndef PATINA_NUMBERS_H
#define PATINA_NUMBERS_H

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

// N neighbouring elements, which lie where they can be moved at once.
template <typename T, int N>
struct alignas(N * sizeof(T)) Pack {
  T at[N];
};

template <int N, typename T>
__device__ inline Pack<T, N> packAt(const T* from, long long index) {
  return *reinterpret_cast<const Pack<T, N>*>(from + index * N);
}

template <int N, typename T>
__device__ inline void put(T* to, long long index, const Pack<T, N>& pack) {
  *reinterpret_cast<Pack<T, N>*>(to + index * N) = pack;
}

}  // namespace patina

#endif
