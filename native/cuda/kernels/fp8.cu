// Rows in 8-bit floating point for CUDA, to the bit as native/fp8.cc computes them; all kernels are deterministic. For cards that convert to
// these formats, from compute capability 8.9 on.
#include "rows.h"

namespace patina {

// The same for the scale and the codes of a row: of up to 8 KB; of longer ones the rest is read again, from the cache. More in registers leaves
// fewer blocks to a multiprocessor, and is slower for every length of row (H200: rows of 57 KB in 215 us, 339 with 32 KB of them held).
constexpr int FP8_HELD = 2;
// The factors of that many channels are read at once.
constexpr int FACTORS = 4;

struct E4m3 {
  static constexpr float MOST = 448.0f;
  __device__ static unsigned short pair(float low, float high) {
    unsigned short codes;
    asm("cvt.rn.satfinite.e4m3x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
    return codes;
  }
};

struct E5m2 {
  static constexpr float MOST = 57344.0f;
  __device__ static unsigned short pair(float low, float high) {
    unsigned short codes;
    asm("cvt.rn.satfinite.e5m2x2.f32 %0, %1, %2;" : "=h"(codes) : "f"(high), "f"(low));
    return codes;
  }
};

__device__ inline unsigned int magnitude(float x) { return __float_as_uint(x) & 0x7FFFFFFFu; }

// The scale of a row by its largest magnitude, of which the bits are in the order of the numbers; NaN where one is not finite.
template <typename Format>
__device__ float scaleOf(unsigned int largest) {
  if (largest >= 0x7F800000u) return __uint_as_float(0x7FC00000u);
  return fmaxf(__fdiv_rn(__uint_as_float(largest), Format::MOST), __uint_as_float(0x00800000u));
}

template <typename Format, int N>
__device__ void putCodes(unsigned char* codes, long long pack, const float (&values)[N], float factor) {
  if constexpr (N == 1) {
    codes[pack] = static_cast<unsigned char>(Format::pair(values[0] * factor, 0.0f));
  } else {
    Pack<unsigned short, N / 2> pairs;
    for (int k = 0; k < N; k += 2) pairs.at[k / 2] = Format::pair(values[k] * factor, values[k + 1] * factor);
    put(reinterpret_cast<unsigned short*>(codes), pack, pairs);
  }
}

// The scale of a row by its largest magnitude, and its codes: valuesAt(pack, i, values) gives what becomes codes.
template <typename Format, int MOST, int N, typename Values>
__device__ inline void putRow(unsigned int largest, unsigned char* codes, float* scale, long long packs, const Values& valuesAt) {
  const float own = scaleOf<Format>(blockLargest(largest)), factor = __frcp_rn(own);
  if (threadIdx.x == 0) *scale = own;
  eachPack<MOST>(packs, [&](long long pack, int i) {
    float values[N];
    valuesAt(pack, i, values);
    putCodes<Format>(codes, pack, values, factor);
  });
}

// Codes of a row, of each channel times its factor where there are some.
template <typename Format, typename T, int N>
__device__ void quantiseRow(const T* x, const float* factors, unsigned char* codes, float* scale, long long channels) {
  const long long packs = channels / N;
  Pack<T, N> held[FP8_HELD];
  const auto valuesOf = [&](const Pack<T, N>& own, long long pack, float(&values)[N]) {
    for (int k = 0; k < N; k++) values[k] = widened(own.at[k]);
    if (factors == nullptr) return;
    // One by one, the factors of neighbouring threads lie 32 bytes apart, and reading them takes eight times as long as x.
    constexpr int M = N < FACTORS ? N : FACTORS;
    for (int k = 0; k < N; k += M) {
      const Pack<float, M> by = packAt<M>(factors + pack * N + k, 0);
      for (int j = 0; j < M; j++) values[k + j] *= by.at[j];
    }
  };
  unsigned int largest = 0;
  eachPack<FP8_HELD>(packs, [&](long long pack, int i) {
    const Pack<T, N> own = packAt<N>(x, pack);
    float values[N];
    valuesOf(own, pack, values);
    for (int k = 0; k < N; k++) largest = max(largest, magnitude(values[k]));
    if (i < FP8_HELD) held[i] = own;
  });
  putRow<Format, FP8_HELD, N>(largest, codes, scale, packs, [&](long long pack, int i, float(&values)[N]) {
    valuesOf(i < FP8_HELD ? held[i] : packAt<N>(x, pack), pack, values);
  });
}

// x += other, where there is one; y = x / rms(x) * weight, and codes of y as it was rounded.
template <typename T, int N>
__device__ void addRmsNormFp8(T* x, const T* other, const T* weight, T* y, float* rstd, unsigned char* codes, float* scale, long long channels,
                              double eps) {
  const long long packs = channels / N;
  Pack<T, N> held[HELD];
  const float squares = addedSquares<float>(x, other, held, packs);
  const float by = 1.0f / root(blockSum(squares) / static_cast<float>(channels) + static_cast<float>(eps));
  if (threadIdx.x == 0) *rstd = by;
  unsigned int largest = 0;
  eachPack<HELD>(packs, [&](long long pack, int i) {
    Pack<T, N> own = i < HELD ? held[i] : packAt<N>(x, pack);
    const Pack<T, N> times = packAt<N>(weight, pack);
    for (int k = 0; k < N; k++) {
      narrow(widened(own.at[k]) * by * widened(times.at[k]), own.at[k]);
      largest = max(largest, magnitude(widened(own.at[k])));
    }
    put(y, pack, own);
    if (i < HELD) held[i] = own;
  });
  // What is not held was written by the thread that reads it.
  putRow<E4m3, HELD, N>(largest, codes, scale, packs, [&](long long pack, int i, float(&values)[N]) {
    const Pack<T, N> normal = i < HELD ? held[i] : packAt<N>(y, pack);
    for (int k = 0; k < N; k++) values[k] = widened(normal.at[k]);
  });
}

// silu(gate) * up, and codes of it as it was rounded.
template <typename T, int N>
__device__ void swigluFp8(const T* both, T* product, unsigned char* codes, float* scale, long long features) {
  const long long packs = features / N;
  Pack<T, N> held[FP8_HELD];
  unsigned int largest = 0;
  eachPack<FP8_HELD>(packs, [&](long long pack, int i) {
    Pack<T, N> gate = packAt<N>(both, pack);
    const Pack<T, N> up = packAt<N>(both + features, pack);
    for (int k = 0; k < N; k++) {
      const float x = widened(gate.at[k]);
      narrow(x * sigmoid(x) * widened(up.at[k]), gate.at[k]);
      largest = max(largest, magnitude(widened(gate.at[k])));
    }
    put(product, pack, gate);
    if (i < FP8_HELD) held[i] = gate;
  });
  putRow<E4m3, FP8_HELD, N>(largest, codes, scale, packs, [&](long long pack, int i, float(&values)[N]) {
    const Pack<T, N> made = i < FP8_HELD ? held[i] : packAt<N>(product, pack);
    for (int k = 0; k < N; k++) values[k] = widened(made.at[k]);
  });
}

// --- transposition: one block for 64 x 64 bytes ------------------------------------------------------------------------------

constexpr int FP8_TILE = 64;

// from (rows, columns) dense -> to (columns, stride), where its columns begin. `wide`: both move 16 bytes at once.
__device__ inline void transposeTile(const unsigned char* from, unsigned char* to, long long rows, long long columns, long long stride,
                                     bool wide) {
  // Rows of 17 words: neither reading nor writing a column meets one bank again before long.
  __shared__ alignas(16) unsigned char tile[FP8_TILE][FP8_TILE + 4];
  const long long across = (columns + FP8_TILE - 1) / FP8_TILE, down = quotient(blockIdx.x, across);
  const long long firstRow = down * FP8_TILE, firstColumn = (blockIdx.x - down * across) * FP8_TILE;
  const int line = threadIdx.x / 4, chunk = threadIdx.x % 4 * 16;
  if (firstRow + line < rows) {
    const unsigned char* own = from + (firstRow + line) * columns + firstColumn + chunk;
    const long long left = columns - firstColumn - chunk;
    if (wide && left >= 16) {
      const uint4 words = *reinterpret_cast<const uint4*>(own);
      auto* at = reinterpret_cast<unsigned int*>(&tile[line][chunk]);
      at[0] = words.x, at[1] = words.y, at[2] = words.z, at[3] = words.w;
    } else {
      for (int k = 0; k < 16 && k < left; k++) tile[line][chunk + k] = own[k];
    }
  }
  __syncthreads();
  if (firstColumn + line >= columns) return;
  unsigned char* own = to + (firstColumn + line) * stride + firstRow + chunk;
  const long long left = rows - firstRow - chunk;
  if (wide && left >= 16) {
    unsigned int words[4];
    for (int w = 0; w < 4; w++) {
      words[w] = 0;
      for (int k = 0; k < 4; k++) words[w] |= static_cast<unsigned int>(tile[chunk + 4 * w + k][line]) << 8 * k;
    }
    store(own, make_uint4(words[0], words[1], words[2], words[3]));
  } else {
    for (int k = 0; k < 16 && k < left; k++) own[k] = tile[chunk + k][line];
  }
}

}  // namespace patina

#if __CUDA_ARCH__ >= 890

// `wide`: rows are whole packs of 16 bytes, and all of them begin where 16 bytes, and those of codes where as many elements, can be moved
// at once.
#define PATINA_FP8_KERNELS(type, T)                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256, 4)                                                                                    \
      quantise_rows_fp8_##type(const T* x, long long xStride, const float* factors, unsigned char* codes, float* scales,                  \
                               long long channels, bool e5m2, bool wide) {                                                                \
    constexpr int N = 16 / sizeof(T);                                                                                                     \
    const long long row = blockIdx.x;                                                                                                     \
    const T* const own = x + row * xStride;                                                                                               \
    unsigned char* const to = codes + row * channels;                                                                                     \
    if (e5m2 && wide) patina::quantiseRow<patina::E5m2, T, N>(own, factors, to, scales + row, channels);                                  \
    else if (e5m2) patina::quantiseRow<patina::E5m2, T, 1>(own, factors, to, scales + row, channels);                                     \
    else if (wide) patina::quantiseRow<patina::E4m3, T, N>(own, factors, to, scales + row, channels);                                     \
    else patina::quantiseRow<patina::E4m3, T, 1>(own, factors, to, scales + row, channels);                                               \
  }                                                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256)                                                                                       \
      add_rms_norm_fp8_##type(T* x, long long xStride, const T* other, long long otherStride, const T* weight, T* y, float* rstd,         \
                              unsigned char* codes, float* scales, long long channels, double eps, bool wide) {                           \
    constexpr int N = 16 / sizeof(T);                                                                                                     \
    const long long row = blockIdx.x, at = row * channels;                                                                                \
    T* const own = x + row * xStride;                                                                                                     \
    const T* const added = other == nullptr ? nullptr : other + row * otherStride;                                                        \
    if (wide) patina::addRmsNormFp8<T, N>(own, added, weight, y + at, rstd + row, codes + at, scales + row, channels, eps);               \
    else patina::addRmsNormFp8<T, 1>(own, added, weight, y + at, rstd + row, codes + at, scales + row, channels, eps);                    \
  }                                                                                                                                       \
  extern "C" __global__ void __launch_bounds__(256) swiglu_fp8_##type(const T* both, long long stride, T* product, unsigned char* codes,  \
                                                                      float* scales, long long features, bool wide) {                     \
    constexpr int N = 16 / sizeof(T);                                                                                                     \
    const long long row = blockIdx.x, at = row * features;                                                                                \
    if (wide) patina::swigluFp8<T, N>(both + row * stride, product + at, codes + at, scales + row, features);                             \
    else patina::swigluFp8<T, 1>(both + row * stride, product + at, codes + at, scales + row, features);                                  \
  }

PATINA_FP8_KERNELS(float32, float)
PATINA_FP8_KERNELS(float16, patina::Half)
PATINA_FP8_KERNELS(bfloat16, patina::BFloat16)

#endif

extern "C" __global__ void __launch_bounds__(256) fp8_transpose(const unsigned char* from, unsigned char* to, long long rows, long long columns,
                                                                long long stride, bool wide) {
  patina::transposeTile(from, to, rows, columns, stride, wide);
}
