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
// By hand it takes seven instructions, which kernels of several results an element wait for more than for memory.
#if __CUDA_ARCH__ >= 800
__device__ inline void narrow(float x, BFloat16& y) { asm("cvt.rn.bf16.f32 %0, %1;" : "=h"(y.bits) : "f"(x)); }
#else
__device__ inline void narrow(float x, BFloat16& y) {
  const unsigned int bits = __float_as_uint(x);
  y.bits = (bits & 0x7FFFFFFFu) > 0x7F800000u ? 0x7FC0 : static_cast<unsigned short>((bits + 0x7FFFu + (bits >> 16 & 1u)) >> 16);
}
#endif
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

// By instructions of their own: a compiler that takes elements apart, as it does with structs, writes them two by two.
__device__ inline void store(void* to, unsigned short word) { *static_cast<unsigned short*>(to) = word; }
__device__ inline void store(void* to, unsigned int word) { *static_cast<unsigned int*>(to) = word; }
__device__ inline void store(void* to, uint2 words) {
  asm volatile("st.global.v2.u32 [%0], {%1, %2};" ::"l"(__cvta_generic_to_global(to)), "r"(words.x), "r"(words.y) : "memory");
}
__device__ inline void store(void* to, uint4 words) {
  asm volatile("st.global.v4.u32 [%0], {%1, %2, %3, %4};" ::"l"(__cvta_generic_to_global(to)), "r"(words.x), "r"(words.y), "r"(words.z),
               "r"(words.w)
               : "memory");
}

template <int bytes>
struct Word;
template <>
struct Word<2> {
  using type = unsigned short;
};
template <>
struct Word<4> {
  using type = unsigned int;
};
template <>
struct Word<8> {
  using type = uint2;
};
template <>
struct Word<16> {
  using type = uint4;
};

// To global memory.
template <int N, typename T>
__device__ inline void put(T* to, long long index, const Pack<T, N>& pack) {
  constexpr int size = N * sizeof(T), bytes = size < 16 ? size : 16;
  using W = typename Word<bytes>::type;
#pragma unroll
  for (int i = 0; i < size / bytes; i++) {
    W words;
    memcpy(&words, reinterpret_cast<const char*>(&pack) + i * bytes, bytes);
    store(reinterpret_cast<char*>(to + index * N) + i * bytes, words);
  }
}

}  // namespace patina

#endif
