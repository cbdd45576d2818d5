// Kernels in which a block of threads works on one row: sums and largest magnitudes of it, and the parts of it that stay in registers.
#ifndef PATINA_ROWS_H
#define PATINA_ROWS_H

#include "numbers.h"

namespace patina {

constexpr int BLOCK = 256;
// Packs of 16 bytes of a row that a thread of a norm holds in registers between reading and writing: rows of up to 16 KB are read once.
constexpr int HELD = 4;

__device__ inline float root(float x) { return sqrtf(x); }
__device__ inline double root(double x) { return sqrt(x); }
__device__ inline float sigmoid(float x) { return 1.0f / (1.0f + expf(-x)); }
__device__ inline double sigmoid(double x) { return 1.0 / (1.0 + exp(-x)); }

// The sum over all threads of a block, which all of them get.
template <typename Compute>
__device__ Compute blockSum(Compute value) {
  __shared__ Compute sums[BLOCK / 32];
  for (int distance = 16; distance > 0; distance /= 2) value += __shfl_xor_sync(0xFFFFFFFFu, value, distance);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = value;
  __syncthreads();
  Compute sum = 0;
  for (int warp = 0; warp < BLOCK / 32; warp++) sum += sums[warp];
  return sum;
}

// The largest, likewise.
__device__ inline unsigned int blockLargest(unsigned int value) {
  __shared__ unsigned int largest[BLOCK / 32];
  for (int distance = 16; distance > 0; distance /= 2) value = max(value, __shfl_xor_sync(0xFFFFFFFFu, value, distance));
  if (threadIdx.x % 32 == 0) largest[threadIdx.x / 32] = value;
  __syncthreads();
  unsigned int most = 0;
  for (int warp = 0; warp < BLOCK / 32; warp++) most = max(most, largest[warp]);
  return most;
}

// Calls `visit(pack, i)` for the packs of a row that are this thread's: the first MOST with their number, the others with MOST.
template <int MOST, typename Visit>
__device__ inline void eachPack(long long packs, const Visit& visit) {
#pragma unroll
  for (int i = 0; i < MOST; i++) {
    const long long pack = threadIdx.x + static_cast<long long>(i) * BLOCK;
    if (pack < packs) visit(pack, i);
  }
  for (long long pack = threadIdx.x + static_cast<long long>(MOST) * BLOCK; pack < packs; pack += BLOCK) visit(pack, MOST);
}

// x += other, where there is one; the thread's part of the sum of squares of x, of which the first packs stay in `held`.
template <typename Compute, int MOST, typename T, int N>
__device__ inline Compute addedSquares(T* x, const T* other, Pack<T, N> (&held)[MOST], long long packs) {
  Compute squares = 0;
  eachPack<MOST>(packs, [&](long long pack, int i) {
    Pack<T, N> own = packAt<N>(x, pack);
    if (other != nullptr) {
      const Pack<T, N> added = packAt<N>(other, pack);
      for (int k = 0; k < N; k++) narrow(widened(own.at[k]) + widened(added.at[k]), own.at[k]);
      put(x, pack, own);
    }
    for (int k = 0; k < N; k++) squares += widened(own.at[k]) * widened(own.at[k]);
    if (i < MOST) held[i] = own;
  });
  return squares;
}

}  // namespace patina

#endif
