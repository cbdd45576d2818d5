// Cross entropy of rows of logits and its gradient in their place, for CUDA; the mathematics is in native/cross_entropy.cc. One block for a
// row, which is read twice: the second time from the cache.
#include "numbers.h"

namespace patina {

constexpr int ROW_BLOCK = 256;
// -inf, which is what no elements have at most.
__device__ inline float nothing() { return __int_as_float(0xFF800000); }
__device__ inline float notANumber() { return __int_as_float(0x7FC00000); }

// The largest element of what was seen, and the sum of exp(element - largest).
struct Exponentials {
  float largest, sum;
};

__device__ inline Exponentials joined(Exponentials a, Exponentials b) {
  const float largest = fmaxf(a.largest, b.largest);
  // Nothing but -inf, whose differences are no numbers.
  if (largest == nothing()) return {largest, a.sum + b.sum};
  return {largest, a.sum * expf(a.largest - largest) + b.sum * expf(b.largest - largest)};
}

// Over all threads of a block, which all of them get.
__device__ inline Exponentials ofBlock(Exponentials own) {
  __shared__ Exponentials parts[ROW_BLOCK / 32];
  for (int distance = 16; distance > 0; distance /= 2) {
    const Exponentials other{__shfl_xor_sync(0xFFFFFFFFu, own.largest, distance), __shfl_xor_sync(0xFFFFFFFFu, own.sum, distance)};
    own = joined(own, other);
  }
  if (threadIdx.x % 32 == 0) parts[threadIdx.x / 32] = own;
  __syncthreads();
  own = parts[0];
  for (int warp = 1; warp < ROW_BLOCK / 32; warp++) own = joined(own, parts[warp]);
  return own;
}

template <typename T, int N>
__device__ void crossEntropy(T* z, long long target, const float* factor, float* loss, long long columns) {
  const long long packs = columns / N;
  Exponentials own{nothing(), 0.0f};
  bool isBad = false;
  for (long long pack = threadIdx.x; pack < packs; pack += ROW_BLOCK) {
    const Pack<T, N> some = packAt<N>(z, pack);
    float largest = widened(some.at[0]);
    for (int k = 0; k < N; k++) {
      const float x = widened(some.at[k]);
      largest = fmaxf(largest, x);
      isBad = isBad || isnan(x);
    }
    if (largest > own.largest) own = {largest, own.sum * expf(own.largest - largest)};
    if (own.largest != nothing())
      for (int k = 0; k < N; k++) own.sum += expf(widened(some.at[k]) - own.largest);
  }
  // Maxima pass over what is no number; the sum must not.
  if (isBad) own.sum = notANumber();
  const Exponentials all = ofBlock(own);
  const float logSum = all.largest + logf(all.sum);
  const bool isColumn = target >= 0 && target < columns;
  if (threadIdx.x == 0) *loss = isColumn ? logSum - widened(z[target]) : notANumber();
  if (factor == nullptr) return;
  // The target's logit was read before anything is overwritten.
  __syncthreads();
  const float by = *factor;
  for (long long pack = threadIdx.x; pack < packs; pack += ROW_BLOCK) {
    Pack<T, N> some = packAt<N>(z, pack);
    for (int k = 0; k < N; k++) {
      const float probability = expf(widened(some.at[k]) - logSum);
      narrow(by * (probability - (pack * N + k == target ? 1.0f : 0.0f)), some.at[k]);
    }
    put(z, pack, some);
  }
}

}  // namespace patina

#define PATINA_CROSS_ENTROPY(name, T)                                                                                                 \
  extern "C" __global__ void __launch_bounds__(256)                                                                                   \
      name(T* z, long long stride, const long long* targets, const float* factor, float* losses, long long columns, bool wide) {      \
    const long long row = blockIdx.x;                                                                                                 \
    if (wide) patina::crossEntropy<T, 16 / sizeof(T)>(z + row * stride, targets[row], factor, losses + row, columns);                 \
    else patina::crossEntropy<T, 1>(z + row * stride, targets[row], factor, losses + row, columns);                                   \
  }
PATINA_CROSS_ENTROPY(cross_entropy_float32, float)
PATINA_CROSS_ENTROPY(cross_entropy_float16, patina::Half)
PATINA_CROSS_ENTROPY(cross_entropy_bfloat16, patina::BFloat16)
