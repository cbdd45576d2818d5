// What a decoder block computes between its products, for CUDA; the mathematics is in native/block_operators.cc. Every kernel is
// deterministic: sums are added in an order that depends on the sizes alone.
#include "rows.h"

namespace patina {

// --- RMSNorm: one block for a row --------------------------------------------------------------------------------------

template <typename T, typename Compute, int N>
__device__ void addRmsNorm(T* x, const T* other, const T* weight, T* y, Compute* rstd, long long channels, double eps) {
  const long long packs = channels / N;
  Pack<T, N> held[HELD];
  const Compute squares = addedSquares<Compute>(x, other, held, packs);
  const Compute scale = Compute(1) / root(blockSum(squares) / static_cast<Compute>(channels) + static_cast<Compute>(eps));
  if (threadIdx.x == 0) *rstd = scale;
  eachPack<HELD>(packs, [&](long long pack, int i) {
    Pack<T, N> own = i < HELD ? held[i] : packAt<N>(x, pack);
    const Pack<T, N> by = packAt<N>(weight, pack);
    for (int k = 0; k < N; k++) narrow(widened(own.at[k]) * scale * widened(by.at[k]), own.at[k]);
    put(y, pack, own);
  });
}

template <typename T, typename Compute, int N>
__device__ void rmsNormBackward(T* g, const T* x, const T* weight, Compute scale, const T* other, long long channels) {
  const long long packs = channels / N;
  // Of three tensors 4 KB of a row are held, the rest is read again from the cache: with more, fewer blocks fit a multiprocessor (H200: 76 us
  // for 8,192 rows of 8 KB, 99 with 16 KB held).
  constexpr int H = 1;
  Pack<T, N> heldG[H], heldX[H], heldOther[H];
  Compute dot = 0;
  eachPack<H>(packs, [&](long long pack, int i) {
    const Pack<T, N> upstream = packAt<N>(g, pack), own = packAt<N>(x, pack), by = packAt<N>(weight, pack);
    // All that is read of a row is on its way before the block waits for its sum.
    if (i < H && other != nullptr) heldOther[i] = packAt<N>(other, pack);
    for (int k = 0; k < N; k++) dot += widened(upstream.at[k]) * widened(by.at[k]) * widened(own.at[k]);
    if (i < H) {
      heldG[i] = upstream;
      heldX[i] = own;
    }
  });
  // mean(g n) with n = x scale
  const Compute mean = blockSum(dot) * scale / static_cast<Compute>(channels);
  eachPack<H>(packs, [&](long long pack, int i) {
    Pack<T, N> upstream = i < H ? heldG[i] : packAt<N>(g, pack);
    const Pack<T, N> own = i < H ? heldX[i] : packAt<N>(x, pack), by = packAt<N>(weight, pack);
    Pack<T, N> added{};
    if (other != nullptr) added = i < H ? heldOther[i] : packAt<N>(other, pack);
    for (int k = 0; k < N; k++) {
      const Compute dx = scale * (widened(upstream.at[k]) * widened(by.at[k]) - widened(own.at[k]) * scale * mean);
      narrow(other == nullptr ? dx : dx + widened(added.at[k]), upstream.at[k]);
    }
    put(g, pack, upstream);
  });
}

// --- rotary positions: one thread for N pairs of a head -------------------------------------------------------------------

// Tensors of (positions, heads, head size) whose last dimension is dense.
template <typename T>
struct Heads {
  T* data;
  long long position, head;  // strides
};

template <typename T, typename Compute, int N>
__device__ void turn(const T* from, T* to, const T* cos, const T* sin, long long half, long long pack, Compute sign) {
  Pack<T, N> first = packAt<N>(from, pack), second = packAt<N>(from + half, pack);
  const Pack<T, N> c = packAt<N>(cos, pack), s = packAt<N>(sin, pack);
  for (int k = 0; k < N; k++) {
    const Compute x = widened(first.at[k]), y = widened(second.at[k]), by = sign * widened(s.at[k]);
    narrow(x * widened(c.at[k]) - y * by, first.at[k]);
    narrow(y * widened(c.at[k]) + x * by, second.at[k]);
  }
  put(to, pack, first);
  put(to + half, pack, second);
}

struct Place {
  long long position, head, pack;
};

// Where a thread works, of `heads` heads and `packs` packs of a half.
__device__ inline Place placeOf(long long heads, long long packs) {
  const long long thread = static_cast<long long>(blockIdx.x) * BLOCK + threadIdx.x;
  const long long row = quotient(thread, packs), position = quotient(row, heads);
  return {position, row - position * heads, thread - row * packs};
}

template <typename T, typename Compute, int N>
__device__ void rotary(Heads<T> x, const T* cos, const T* sin, long long positions, long long heads, long long half) {
  const Place at = placeOf(heads, half / N);
  if (at.position >= positions) return;
  T* own = x.data + at.position * x.position + at.head * x.head;
  turn<T, Compute, N>(own, own, cos + at.position * 2 * half, sin + at.position * 2 * half, half, at.pack, Compute(1));
}

// The same by tiles of 32 positions of one head: gradients of heads may lie head by head, where neighbouring heads are megabytes apart.
__device__ inline Place placeInTile(long long heads, long long packs) {
  constexpr long long TILE = 32;
  const long long thread = static_cast<long long>(blockIdx.x) * BLOCK + threadIdx.x;
  const long long row = quotient(thread, packs), ofHead = row / TILE, tile = quotient(ofHead, heads);
  return {tile * TILE + row % TILE, ofHead - tile * heads, thread - row * packs};
}

template <typename T, typename Compute, int N>
__device__ void rotaryBackward(Heads<const T> q, Heads<const T> k, Heads<const T> v, const T* cos, const T* sin, T* to, long long positions,
                               long long queries, long long keys, long long half) {
  const long long heads = queries + 2 * keys;
  const Place at = placeInTile(heads, half / N);
  if (at.position >= positions) return;
  T* own = to + (at.position * heads + at.head) * 2 * half;
  const auto of = [&](const Heads<const T>& x, long long first) { return x.data + at.position * x.position + (at.head - first) * x.head; };
  if (at.head >= queries + keys) {
    const T* from = of(v, queries + keys);
    put(own, at.pack, packAt<N>(from, at.pack));
    put(own + half, at.pack, packAt<N>(from + half, at.pack));
    return;
  }
  const T* from = at.head < queries ? of(q, 0) : of(k, queries);
  turn<T, Compute, N>(from, own, cos + at.position * 2 * half, sin + at.position * 2 * half, half, at.pack, Compute(-1));
}

// --- SwiGLU: one thread for N products ------------------------------------------------------------------------------------

template <typename T, typename Compute, int N>
__device__ void swiglu(const T* both, long long stride, T* product, long long rows, long long features) {
  const Place at = placeOf(1, features / N);
  if (at.position >= rows) return;
  const T* own = both + at.position * stride;
  Pack<T, N> gate = packAt<N>(own, at.pack);
  const Pack<T, N> up = packAt<N>(own + features, at.pack);
  for (int k = 0; k < N; k++) {
    const Compute x = widened(gate.at[k]);
    narrow(x * sigmoid(x) * widened(up.at[k]), gate.at[k]);
  }
  put(product + at.position * features, at.pack, gate);
}

template <typename T, typename Compute, int N>
__device__ void swigluBackward(T* both, long long stride, T* g, long long gStride, long long rows, long long features) {
  const Place at = placeOf(1, features / N);
  if (at.position >= rows) return;
  T *own = both + at.position * stride, *upstream = g + at.position * gStride;
  Pack<T, N> gate = packAt<N>(own, at.pack), up = packAt<N>(own + features, at.pack), given = packAt<N>(upstream, at.pack);
  for (int k = 0; k < N; k++) {
    const Compute x = widened(gate.at[k]), y = widened(up.at[k]), d = widened(given.at[k]), s = sigmoid(x), act = x * s;
    narrow(act * y, given.at[k]);
    narrow(d * y * (s + act * (Compute(1) - s)), gate.at[k]);
    narrow(d * act, up.at[k]);
  }
  put(own, at.pack, gate);
  put(own + features, at.pack, up);
  put(upstream, at.pack, given);
}

}  // namespace patina

// `wide`: rows are whole packs of 16 bytes, and all of them begin where 16 bytes can be moved at once.
#define PATINA_BLOCK_KERNELS(type, T, Compute)                                                                                            \
  extern "C" __global__ void __launch_bounds__(256)                                                                                       \
      add_rms_norm_##type(T* x, long long xStride, const T* other, long long otherStride, const T* weight, T* y, Compute* rstd,           \
                          long long channels, double eps, bool wide) {                                                                    \
    constexpr int N = 16 / sizeof(T);                                                                                                     \
    const long long row = blockIdx.x;                                                                                                     \
    T* const own = x + row * xStride;                                                                                                     \
    const T* const added = other == nullptr ? nullptr : other + row * otherStride;                                                        \
    if (wide) patina::addRmsNorm<T, Compute, N>(own, added, weight, y + row * channels, rstd + row, channels, eps);                       \
    else patina::addRmsNorm<T, Compute, 1>(own, added, weight, y + row * channels, rstd + row, channels, eps);                            \
  }                                                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256)                                                                                       \
      rms_norm_backward_##type(T* g, long long gStride, const T* x, long long xStride, const T* weight, const Compute* rstd,              \
                               const T* other, long long otherStride, long long channels, bool wide) {                                    \
    constexpr int N = 16 / sizeof(T);                                                                                                     \
    const long long row = blockIdx.x;                                                                                                     \
    const T* const added = other == nullptr ? nullptr : other + row * otherStride;                                                        \
    if (wide) patina::rmsNormBackward<T, Compute, N>(g + row * gStride, x + row * xStride, weight, rstd[row], added, channels);           \
    else patina::rmsNormBackward<T, Compute, 1>(g + row * gStride, x + row * xStride, weight, rstd[row], added, channels);                \
  }                                                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256) rotary_##type(patina::Heads<T> x, const T* cos, const T* sin, long long positions,    \
                                                                  long long heads, long long half, bool wide) {                           \
    if (wide) patina::rotary<T, Compute, 16 / sizeof(T)>(x, cos, sin, positions, heads, half);                                            \
    else patina::rotary<T, Compute, 1>(x, cos, sin, positions, heads, half);                                                              \
  }                                                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256)                                                                                       \
      rotary_backward_##type(patina::Heads<const T> q, patina::Heads<const T> k, patina::Heads<const T> v, const T* cos, const T* sin,    \
                             T* to, long long positions, long long queries, long long keys, long long half, bool wide) {                  \
    if (wide) patina::rotaryBackward<T, Compute, 16 / sizeof(T)>(q, k, v, cos, sin, to, positions, queries, keys, half);                  \
    else patina::rotaryBackward<T, Compute, 1>(q, k, v, cos, sin, to, positions, queries, keys, half);                                    \
  }                                                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256) swiglu_##type(const T* both, long long stride, T* product, long long rows,            \
                                                                  long long features, bool wide) {                                        \
    if (wide) patina::swiglu<T, Compute, 16 / sizeof(T)>(both, stride, product, rows, features);                                          \
    else patina::swiglu<T, Compute, 1>(both, stride, product, rows, features);                                                            \
  }                                                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256) swiglu_backward_##type(T* both, long long stride, T* g, long long gStride,            \
                                                                           long long rows, long long features, bool wide) {               \
    if (wide) patina::swigluBackward<T, Compute, 16 / sizeof(T)>(both, stride, g, gStride, rows, features);                               \
    else patina::swigluBackward<T, Compute, 1>(both, stride, g, gStride, rows, features);                                                 \
  }

PATINA_BLOCK_KERNELS(float32, float, float)
PATINA_BLOCK_KERNELS(float64, double, double)
PATINA_BLOCK_KERNELS(float16, patina::Half, float)
PATINA_BLOCK_KERNELS(bfloat16, patina::BFloat16, float)
