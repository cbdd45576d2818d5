// The low-rank pieces of LoRA for CUDA, on tensor cores; what they compute is in native/low_rank.cc.
//
// A warp multiplies by m16n8k16: of A lane (g, c) = (lane / 4, lane % 4) holds rows g and g + 8 at k = 2c, 2c + 1, 2c + 8, 2c + 9, of B column g
// at those k, of the result rows g and g + 8 at columns 2c, 2c + 1. Which element of a sum is its k-th term, and which channel is the n-th
// column, is ours to say: they are numbered so that every lane moves neighbouring channels, 16 bytes at once. Sums are added in an order
// that depends on the sizes alone.
#include "numbers.h"
#include "philox.h"

namespace patina {

constexpr int LOW_WARPS = 8;
// Channels of a tile; rows of a block.
constexpr int LOW_TILE = 64, LOW_ROWS = 512;
constexpr int LOW_PARTS = 8, LOW_STEPS = 12;

__device__ inline void multiply(BFloat16, float (&c)[4], const unsigned int (&a)[4], unsigned int b0, unsigned int b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.bf16.bf16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

__device__ inline void multiply(Half, float (&c)[4], const unsigned int (&a)[4], unsigned int b0, unsigned int b1) {
  asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
               : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
               : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}

// As native/low_rank_kernels.cc lays them out.
struct Masks {
  const long long *records, *indices;
  long long perPlace;
  unsigned int threshold;
  PhiloxKey key;
};

// Matrices of adapters, or parts of their ranks. `column`: where they begin in z.
struct LowParts {
  const void* matrix[LOW_PARTS];
  long long layer[LOW_PARTS];
  int column[LOW_PARTS], ranks[LOW_PARTS];
  int count;
};

struct LowRow {
  long long token, record;
};

__device__ inline LowRow rowOf(const Masks& masks, long long row) {
  const long long place = quotient(row, masks.perPlace);
  return {masks.indices[place] * masks.perPlace + row - place * masks.perPlace, masks.records[place]};
}

// Which of eight channels are kept, as bits of four words of 16-bit elements.
__device__ inline uint4 keptOf(const Masks& masks, const LowRow& row, long long octet, long long layer) {
  const Words words = dropoutWords(octet, row.token, row.record, layer, masks.key);
  const auto kept = [&](unsigned int word) {
    return ((word & 0xFFFFu) < masks.threshold ? 0u : 0xFFFFu) | (word >> 16 < masks.threshold ? 0u : 0xFFFF0000u);
  };
  return {kept(words.at[0]), kept(words.at[1]), kept(words.at[2]), kept(words.at[3])};
}

__device__ inline uint4 wordsAt(const void* from) { return *static_cast<const uint4*>(from); }

template <typename T>
__device__ inline float element(unsigned int word, int which) {
  T x;
  x.bits = static_cast<unsigned short>(which == 0 ? word : word >> 16);
  return widened(x);
}

template <typename T>
__device__ inline unsigned int joinedWord(float low, float high) {
  T x, y;
  narrow(low, x);
  narrow(high, y);
  return x.bits | static_cast<unsigned int>(y.bits) << 16;
}

// --- z_i = drop_i(x) A_i^T: a block for 16 rows of one adapter, whose warps share the channels ----------------------------------

template <typename T, int TILES>
__device__ void droppedProduct(const T* x, long long xStride, const LowParts& parts, T* z, long long zStride, long long rows,
                               long long channels, const Masks& masks, float scale) {
  __shared__ float all[LOW_WARPS][16][TILES * 8];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  const int part = blockIdx.x % parts.count;
  const long long tile = blockIdx.x / parts.count, layer = parts.layer[part];
  const T* a = static_cast<const T*>(parts.matrix[part]);
  const int ranks = parts.ranks[part];
  const long long row[2] = {tile * 16 + g, tile * 16 + g + 8};
  LowRow of[2] = {};
  for (int r = 0; r < 2; r++)
    if (row[r] < rows) of[r] = rowOf(masks, row[r]);
  float sums[TILES][4] = {};
  for (long long first = warp * LOW_TILE; first < channels; first += LOW_WARPS * LOW_TILE) {
    unsigned int d[2][8];
#pragma unroll
    for (int r = 0; r < 2; r++)
#pragma unroll
      for (int half = 0; half < 2; half++) {
        const long long channel = first + 32 * half + 8 * c;
        const uint4 words = row[r] < rows ? wordsAt(x + row[r] * xStride + channel) : uint4{};
        const uint4 kept = keptOf(masks, of[r], channel / 8, layer);
        d[r][4 * half] = words.x & kept.x, d[r][4 * half + 1] = words.y & kept.y;
        d[r][4 * half + 2] = words.z & kept.z, d[r][4 * half + 3] = words.w & kept.w;
      }
#pragma unroll
    for (int t = 0; t < TILES; t++) {
      const int rank = t * 8 + g;
      const bool isRank = rank < ranks;
      const T* at = a + rank * channels + first + 8 * c;
      const uint4 low = isRank ? wordsAt(at) : uint4{}, high = isRank ? wordsAt(at + 32) : uint4{};
      const unsigned int b[8] = {low.x, low.y, low.z, low.w, high.x, high.y, high.z, high.w};
#pragma unroll
      for (int j = 0; j < 4; j++) multiply(T{}, sums[t], {d[0][2 * j], d[1][2 * j], d[0][2 * j + 1], d[1][2 * j + 1]}, b[2 * j], b[2 * j + 1]);
    }
  }
#pragma unroll
  for (int t = 0; t < TILES; t++)
    for (int i = 0; i < 4; i++) all[warp][g + 8 * (i / 2)][t * 8 + 2 * c + i % 2] = sums[t][i];
  __syncthreads();
  for (int i = threadIdx.x; i < 16 * TILES * 8; i += LOW_WARPS * 32) {
    const int own = i / (TILES * 8), rank = i % (TILES * 8);
    if (rank >= ranks || tile * 16 + own >= rows) continue;
    float sum = 0;
    for (int w = 0; w < LOW_WARPS; w++) sum += all[w][own][rank];
    narrow(sum * scale, z[(tile * 16 + own) * zStride + parts.column[part] + rank]);
  }
}

// --- dA_i = dz_i^T drop_i(x): a block for a tile of channels and some of the rows, which its warps share; sums of blocks are added by sumParts ---

template <typename T, int TILES>
__device__ void droppedGradients(const T* dz, long long dzStride, const T* x, long long xStride, const LowParts& parts, float* partial,
                                 long long rows, long long channels, long long allRanks, long long splits, const Masks& masks) {
  __shared__ float all[TILES * 16][LOW_TILE];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  const long long tiles = channels / LOW_TILE;
  const int part = blockIdx.x % parts.count;
  const long long rest = blockIdx.x / parts.count, first = rest % tiles * LOW_TILE, split = rest / tiles;
  const long long layer = parts.layer[part], rowTiles = (rows + 15) / 16, perSplit = (rowTiles + splits - 1) / splits;
  const long long end = (split + 1) * perSplit < rowTiles ? (split + 1) * perSplit : rowTiles;
  const int ranks = parts.ranks[part];
  const T* own = dz + parts.column[part];
  float sums[TILES][8][4] = {};
  for (long long tile = split * perSplit + warp; tile < end; tile += LOW_WARPS) {
    long long row[4];
    unsigned int d[4][4];
    for (int k = 0; k < 4; k++) {
      row[k] = tile * 16 + 2 * c + k % 2 + k / 2 * 8;
      uint4 words{};
      if (row[k] < rows) {
        words = wordsAt(x + row[k] * xStride + first + 8 * g);
        const uint4 kept = keptOf(masks, rowOf(masks, row[k]), first / 8 + g, layer);
        words = {words.x & kept.x, words.y & kept.y, words.z & kept.z, words.w & kept.w};
      }
      d[k][0] = words.x, d[k][1] = words.y, d[k][2] = words.z, d[k][3] = words.w;
    }
#pragma unroll
    for (int m = 0; m < TILES; m++) {
      const auto bits = [&](int k, int rank) -> unsigned int { return row[k] < rows && rank < ranks ? own[row[k] * dzStride + rank].bits : 0u; };
      const auto pair = [&](int k, int rank) { return bits(k, rank) | bits(k + 1, rank) << 16; };
      const int rank = m * 16 + g;
      const unsigned int a[4] = {pair(0, rank), pair(0, rank + 8), pair(2, rank), pair(2, rank + 8)};
#pragma unroll
      for (int j = 0; j < 8; j++) {
        const unsigned int which = j % 2 == 0 ? 0x5410 : 0x7632;
        multiply(T{}, sums[m][j], a, __byte_perm(d[0][j / 2], d[1][j / 2], which), __byte_perm(d[2][j / 2], d[3][j / 2], which));
      }
    }
  }
  for (int turn = 0; turn < LOW_WARPS; turn++) {
    if (warp == turn) {
#pragma unroll
      for (int m = 0; m < TILES; m++)
#pragma unroll
        for (int j = 0; j < 8; j++)
          for (int i = 0; i < 4; i++) {
            float& sum = all[m * 16 + g + 8 * (i / 2)][8 * (2 * c + i % 2) + j];
            sum = turn == 0 ? sums[m][j][i] : sum + sums[m][j][i];
          }
    }
    __syncthreads();
  }
  for (int i = threadIdx.x; i < TILES * 16 * LOW_TILE; i += LOW_WARPS * 32) {
    const int rank = i / LOW_TILE, channel = i % LOW_TILE;
    if (rank < ranks) partial[(split * allRanks + parts.column[part] + rank) * channels + first + channel] = all[rank][channel];
  }
}

template <typename T>
__device__ void sumParts(const float* partial, T* to, long long splits, long long count, float scale) {
  const long long i = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (i >= count) return;
  float sum = 0;
  for (long long split = 0; split < splits; split++) sum += partial[split * count + i];
  narrow(sum * scale, to[i]);
}

// --- What is added to a tile of channels, z M, for the lanes of a warp -----------------------------------------------------------

// Matrices of a tile as B, lane by lane: step, columns, lane. Column n of columns j is channel 32 (j / 4) + 8 (n / 2) + 2 (j % 4) + n % 2 of the
// tile, so that lane c has channels 8 c to 8 c + 7 of either half of the result.
struct Fragments {
  uint2 at[LOW_STEPS][8][32];
};

// `rankFirst`: the matrix is (ranks, channels), else (channels, ranks).
template <typename T>
__device__ void fill(Fragments& to, int step, const T* matrix, int ranks, long long channels, long long first, bool rankFirst) {
  const int steps = (ranks + 15) / 16;
  for (int i = threadIdx.x; i < steps * 8 * 32; i += LOW_WARPS * 32) {
    const int lane = i % 32, j = i / 32 % 8, s = i / 256, g = lane / 4, c = lane % 4;
    const long long channel = first + 32 * (j / 4) + 8 * (g / 2) + 2 * (j % 4) + g % 2;
    const auto bits = [&](int rank) -> unsigned int {
      if (rank >= ranks) return 0;
      return rankFirst ? matrix[rank * channels + channel].bits : matrix[channel * ranks + rank].bits;
    };
    const int rank = 16 * s + 2 * c;
    to.at[step + s][j][lane] = {bits(rank) | bits(rank + 1) << 16, bits(rank + 8) | bits(rank + 9) << 16};
  }
}

// Adds z M of rows `row` and `row` + 8 to columns `from` to `from` + COUNT.
template <typename T, int COUNT>
__device__ inline void lowRank(float (&sums)[COUNT][4], const Fragments& fragments, int step, int from, const T* z, long long zStride,
                               int ranks, long long row, long long rows) {
  const int lane = threadIdx.x % 32, c = lane % 4;
  for (int s = 0; s * 16 < ranks; s++) {
    const auto pair = [&](long long of, int rank) {
      return of < rows && rank < ranks ? *reinterpret_cast<const unsigned int*>(z + of * zStride + rank) : 0u;
    };
    const int rank = 16 * s + 2 * c;
    const unsigned int a[4] = {pair(row, rank), pair(row + 8, rank), pair(row, rank + 8), pair(row + 8, rank + 8)};
#pragma unroll
    for (int j = 0; j < COUNT; j++) {
      const uint2 b = fragments.at[step + s][from + j][lane];
      multiply(T{}, sums[j], a, b.x, b.y);
    }
  }
}

// --- x += sum of drop_i(dz_i A_i) -----------------------------------------------------------------------------------------------

template <typename T>
__device__ void addDropped(T* x, long long xStride, const T* dz, long long dzStride, const LowParts& parts, long long rows, long long channels,
                           const Masks& masks, float scale) {
  __shared__ Fragments fragments;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  const long long tiles = channels / LOW_TILE, first = blockIdx.x % tiles * LOW_TILE, start = blockIdx.x / tiles * LOW_ROWS;
  for (int part = 0, step = 0; part < parts.count; step += (parts.ranks[part] + 15) / 16, part++)
    fill(fragments, step, static_cast<const T*>(parts.matrix[part]), parts.ranks[part], channels, first, true);
  __syncthreads();
  for (long long base = start + warp * 16; base < start + LOW_ROWS && base < rows; base += LOW_WARPS * 16) {
    const long long row[2] = {base + g, base + g + 8};
    LowRow of[2] = {};
    for (int r = 0; r < 2; r++)
      if (row[r] < rows) of[r] = rowOf(masks, row[r]);
    float added[2][16] = {};
    for (int part = 0, step = 0; part < parts.count; step += (parts.ranks[part] + 15) / 16, part++) {
      float sums[8][4] = {};
      lowRank<T, 8>(sums, fragments, step, 0, dz + parts.column[part], dzStride, parts.ranks[part], row[0], rows);
#pragma unroll
      for (int r = 0; r < 2; r++)
#pragma unroll
        for (int half = 0; half < 2; half++) {
          const uint4 kept = keptOf(masks, of[r], first / 8 + 4 * half + c, parts.layer[part]);
          const unsigned int words[4] = {kept.x, kept.y, kept.z, kept.w};
#pragma unroll
          for (int j = 0; j < 4; j++) {
            added[r][8 * half + 2 * j] += words[j] & 0xFFFFu ? sums[4 * half + j][2 * r] : 0.0f;
            added[r][8 * half + 2 * j + 1] += words[j] >> 16 ? sums[4 * half + j][2 * r + 1] : 0.0f;
          }
        }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (row[r] >= rows) continue;
#pragma unroll
      for (int half = 0; half < 2; half++) {
        T* at = x + row[r] * xStride + first + 32 * half + 8 * c;
        const uint4 words = wordsAt(at);
        const float* more = added[r] + 8 * half;
        const auto sum = [&](unsigned int word, int i) {
          return joinedWord<T>(element<T>(word, 0) + scale * more[2 * i], element<T>(word, 1) + scale * more[2 * i + 1]);
        };
        store(at, uint4{sum(words.x, 0), sum(words.y, 1), sum(words.z, 2), sum(words.w, 3)});
      }
    }
  }
}

// --- SwiGLU of gate and up to which low-rank products are added on the way ------------------------------------------------------

// What is added to gate, to up, and to the gradient of the product; `ranks` 0 for nothing.
struct LowGated {
  const void *z[3], *matrix[3];
  long long zStride[3];
  float scale[3];
  int ranks[3];
};

template <typename T, bool backward>
__device__ void swigluLowRank(T* both, long long stride, T* product, long long productStride, const LowGated& low, long long rows,
                              long long features) {
  __shared__ Fragments fragments;
  constexpr int KINDS = backward ? 3 : 2;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  const long long tiles = features / LOW_TILE, first = blockIdx.x % tiles * LOW_TILE, start = blockIdx.x / tiles * LOW_ROWS;
  int step[4] = {};
  for (int kind = 0; kind < KINDS; kind++) {
    fill(fragments, step[kind], static_cast<const T*>(low.matrix[kind]), low.ranks[kind], features, first, kind == 2);
    step[kind + 1] = step[kind] + (low.ranks[kind] + 15) / 16;
  }
  __syncthreads();
  for (long long base = start + warp * 16; base < start + LOW_ROWS && base < rows; base += LOW_WARPS * 16) {
#pragma unroll 1
    for (int half = 0; half < 2; half++) {
      const long long channel = first + 32 * half + 8 * c;
      // All that is read of the wide tensors is on its way before the first product.
      uint4 gates[2], ups[2], given[2];
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const long long row = base + g + 8 * r;
        const bool isRow = row < rows;
        gates[r] = isRow ? wordsAt(both + row * stride + channel) : uint4{};
        ups[r] = isRow ? wordsAt(both + row * stride + features + channel) : uint4{};
        given[r] = backward && isRow ? wordsAt(product + row * productStride + channel) : uint4{};
      }
      float sums[KINDS][4][4] = {};
#pragma unroll
      for (int kind = 0; kind < KINDS; kind++)
        lowRank<T, 4>(sums[kind], fragments, step[kind], 4 * half, static_cast<const T*>(low.z[kind]), low.zStride[kind], low.ranks[kind],
                      base + g, rows);
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const long long row = base + g + 8 * r;
        if (row >= rows) continue;
        T *gateAt = both + row * stride + channel, *upAt = gateAt + features, *productAt = product + row * productStride + channel;
        const unsigned int gateWords[4] = {gates[r].x, gates[r].y, gates[r].z, gates[r].w},
                           upWords[4] = {ups[r].x, ups[r].y, ups[r].z, ups[r].w},
                           givenWords[4] = {given[r].x, given[r].y, given[r].z, given[r].w};
        unsigned int newGates[4], newUps[4], products[4];
#pragma unroll
        for (int j = 0; j < 4; j++) {
          float dGate[2], dUp[2], p[2];
#pragma unroll
          for (int e = 0; e < 2; e++) {
            const float x = element<T>(gateWords[j], e) + low.scale[0] * sums[0][j][2 * r + e],
                        y = element<T>(upWords[j], e) + low.scale[1] * sums[1][j][2 * r + e], s = __fdividef(1.0f, 1.0f + __expf(-x)), act = x * s;
            p[e] = act * y;
            if constexpr (backward) {
              const float d = element<T>(givenWords[j], e) + low.scale[2] * sums[2][j][2 * r + e];
              dGate[e] = d * y * (s + act * (1.0f - s));
              dUp[e] = d * act;
            }
          }
          products[j] = joinedWord<T>(p[0], p[1]);
          if constexpr (backward) {
            newGates[j] = joinedWord<T>(dGate[0], dGate[1]);
            newUps[j] = joinedWord<T>(dUp[0], dUp[1]);
          }
        }
        store(productAt, uint4{products[0], products[1], products[2], products[3]});
        if constexpr (backward) {
          store(gateAt, uint4{newGates[0], newGates[1], newGates[2], newGates[3]});
          store(upAt, uint4{newUps[0], newUps[1], newUps[2], newUps[3]});
        }
      }
    }
  }
}

}  // namespace patina

// `3`: these wait for memory, and more blocks hide more of it than registers are worth.
#define PATINA_DROPPED(type, T, TILES)                                                                                                      \
  extern "C" __global__ void __launch_bounds__(256)                                                                                         \
      dropped_product_##TILES##_##type(const T* x, long long xStride, const patina::LowParts parts, T* z, long long zStride, long long rows, \
                                       long long channels, const patina::Masks masks, float scale) {                                        \
    patina::droppedProduct<T, TILES>(x, xStride, parts, z, zStride, rows, channels, masks, scale);                                          \
  }
#define PATINA_LOW_RANK(type, T)                                                                                                            \
  PATINA_DROPPED(type, T, 2) PATINA_DROPPED(type, T, 4) PATINA_DROPPED(type, T, 8)                                                          \
  extern "C" __global__ void __launch_bounds__(256, 3)                                                                                         \
      dropped_gradients_##type(const T* dz, long long dzStride, const T* x, long long xStride, const patina::LowParts parts, float* partial, \
                               long long rows, long long channels, long long allRanks, long long splits, const patina::Masks masks) {       \
    patina::droppedGradients<T, 1>(dz, dzStride, x, xStride, parts, partial, rows, channels, allRanks, splits, masks);                      \
  }                                                                                                                                         \
  extern "C" __global__ void sum_parts_##type(const float* partial, T* to, long long splits, long long count, float scale) {                \
    patina::sumParts(partial, to, splits, count, scale);                                                                                    \
  }                                                                                                                                         \
  extern "C" __global__ void __launch_bounds__(256)                                                                                         \
      add_dropped_##type(T* x, long long xStride, const T* dz, long long dzStride, const patina::LowParts parts, long long rows,            \
                         long long channels, const patina::Masks masks, float scale) {                                                      \
    patina::addDropped(x, xStride, dz, dzStride, parts, rows, channels, masks, scale);                                                      \
  }                                                                                                                                         \
  extern "C" __global__ void __launch_bounds__(256, 3)                                                                                         \
      swiglu_low_rank_##type(T* both, long long stride, T* product, long long productStride, const patina::LowGated low, long long rows,    \
                             long long features) {                                                                                          \
    patina::swigluLowRank<T, false>(both, stride, product, productStride, low, rows, features);                                             \
  }                                                                                                                                         \
  extern "C" __global__ void __launch_bounds__(256, 3)                                                                                         \
      swiglu_low_rank_backward_##type(T* both, long long stride, T* product, long long productStride, const patina::LowGated low,           \
                                      long long rows, long long features) {                                                                 \
    patina::swigluLowRank<T, true>(both, stride, product, productStride, low, rows, features);                                              \
  }

PATINA_LOW_RANK(float16, patina::Half)
PATINA_LOW_RANK(bfloat16, patina::BFloat16)
