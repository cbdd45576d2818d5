// 4-bit NormalFloat for CUDA, to the bit as native/nf4.cc computes it: roundings stand as they are written, without fused multiply-adds.
#include "numbers.h"

namespace patina {

constexpr int NF4_BLOCK = 64, NF4_NESTED_BLOCK = 256;

// A warp for each block, two neighbouring weights for each of its threads.
template <typename T>
__device__ void quantise(const T* weights, const float* code, unsigned char* packed, float* absmax, long long count) {
  const long long thread = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x, block = thread >> 5;
  const long long begin = block * NF4_BLOCK, at = 2 * thread;
  if (begin >= count) return;
  float points[15], pair[2];
  for (int i = 0; i < 15; i++) points[i] = 0.5f * __fadd_rn(code[i], code[i + 1]);
  float largest = 0;
  for (int k = 0; k < 2; k++) {
    pair[k] = at + k < count ? widened(weights[at + k]) : 0.0f;
    largest = fmaxf(largest, fabsf(pair[k]));
  }
  for (int step = 16; step > 0; step >>= 1) largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, step));
  const bool whole = begin + NF4_BLOCK <= count;
  const float divisor = fmaxf(largest, 1e-38f), factor = __fdiv_rn(1.0f, divisor);
  if (at == begin) absmax[block] = whole ? largest : divisor;
  if (at >= count) return;
  unsigned int codes[2];
  for (int k = 0; k < 2; k++) {
    const float scaled = whole ? __fmul_rn(pair[k], factor) : __fdiv_rn(pair[k], divisor);
    codes[k] = 0;
    for (int i = 0; i < 15; i++) codes[k] += points[i] < scaled;
    // A last byte is filled up with the code of 0.
    if (at + k >= count) codes[k] = 7;
  }
  packed[thread] = static_cast<unsigned char>(codes[0] << 4 | codes[1]);
}

// Rounded to fp16 (1) or bf16 (2) on its way.
__device__ inline float roundedThrough(float x, int through) {
  if (through == 0) return x;
  Half half;
  BFloat16 brain;
  if (through == 1) narrow(x, half);
  else narrow(x, brain);
  return through == 1 ? widened(half) : widened(brain);
}

// A thread for eight weights. `nested` is null where scales are not quantised; `wide`: both ends lie where they can be moved at once.
template <typename T>
__device__ void dequantise(const unsigned char* packed, const void* absmax, const float* code, const float* nested, const float* nestedCode,
                           const float* offset, T* weights, long long count, int through, bool wide) {
  __shared__ float values[16];
  if (threadIdx.x < 16) values[threadIdx.x] = code[threadIdx.x];
  __syncthreads();
  const long long thread = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x, first = 8 * thread;
  if (first >= count) return;
  const long long block = first / NF4_BLOCK;
  float scale;
  if (nested == nullptr) scale = static_cast<const float*>(absmax)[block];
  else scale = __fadd_rn(__fmul_rn(nestedCode[static_cast<const unsigned char*>(absmax)[block]], nested[block / NF4_NESTED_BLOCK]), *offset);
  if (wide && first + 8 <= count) {
    const unsigned int bytes = reinterpret_cast<const unsigned int*>(packed)[thread];
    Pack<T, 8> eight;
#pragma unroll
    for (int i = 0; i < 8; i++) {
      const float value = __fmul_rn(values[bytes >> (i / 2 * 8 + (i % 2 == 0 ? 4 : 0)) & 15u], scale);
      narrow(roundedThrough(value, through), eight.at[i]);
    }
    put(weights + first, 0, eight);
    return;
  }
  for (long long i = first; i < first + 8 && i < count; i++)
    narrow(roundedThrough(__fmul_rn(values[packed[i / 2] >> (i % 2 == 0 ? 4 : 0) & 15u], scale), through), weights[i]);
}

}  // namespace patina

#define PATINA_NF4(type, T)                                                                                                              \
  extern "C" __global__ void nf4_quantise_##type(const T* weights, const float* code, unsigned char* packed, float* absmax,             \
                                                 long long count) {                                                                     \
    patina::quantise<T>(weights, code, packed, absmax, count);                                                                          \
  }                                                                                                                                      \
  extern "C" __global__ void nf4_dequantise_##type(const unsigned char* packed, const void* absmax, const float* code,                  \
                                                   const float* nested, const float* nestedCode, const float* offset, T* weights,       \
                                                   long long count, int through, bool wide) {                                           \
    patina::dequantise<T>(packed, absmax, code, nested, nestedCode, offset, weights, count, through, wide);                                      \
  }
PATINA_NF4(float32, float)
PATINA_NF4(float16, patina::Half)
PATINA_NF4(bfloat16, patina::BFloat16)
