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

// As far as masks tell tokens and records apart.
struct LowRow {
  unsigned int token, record;
};

__device__ inline LowRow rowOf(const Masks& masks, long long row) {
  const auto each = static_cast<unsigned int>(masks.perPlace), at = static_cast<unsigned int>(row), place = each == 1 ? at : at / each;
  const auto lower = [&](const long long* of) { return static_cast<unsigned int>(of[place]); };
  return {lower(masks.indices) * each + at - place * each, lower(masks.records)};
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

// Two results in a word.
__device__ inline unsigned int joined(BFloat16, float low, float high) {
  unsigned int word;
  asm("cvt.rn.bf16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
}

__device__ inline unsigned int joined(Half, float low, float high) {
  unsigned int word;
  asm("cvt.rn.f16x2.f32 %0, %1, %2;" : "=r"(word) : "f"(high), "f"(low));
  return word;
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

template <typename T>
__device__ void droppedGradients(const T* dz, long long dzStride, const T* x, long long xStride, const LowParts& parts, float* partial,
                                 long long rows, long long channels, long long allRanks, long long splits, const Masks& masks) {
  __shared__ float all[LOW_WARPS][16][LOW_TILE + 1];
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  const long long tiles = channels / LOW_TILE;
  const int part = blockIdx.x % parts.count;
  const long long rest = blockIdx.x / parts.count, first = rest % tiles * LOW_TILE, split = rest / tiles;
  const long long layer = parts.layer[part], rowTiles = (rows + 15) / 16, perSplit = (rowTiles + splits - 1) / splits;
  const long long end = (split + 1) * perSplit < rowTiles ? (split + 1) * perSplit : rowTiles;
  const int ranks = parts.ranks[part];
  const T* const own = dz + parts.column[part] + 2 * g;
  const T* const wide = x + first + 8 * g;
  float sums[8][4] = {};
  for (long long tile = split * perSplit + warp; tile < end; tile += LOW_WARPS) {
    // Of four rows: eight channels, and two ranks, 2 g and 2 g + 1, which are rows g and g + 8 of what is multiplied.
    unsigned int d[4][4], w[4];
    LowRow of[4] = {};
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const long long row = tile * 16 + 2 * c + k % 2 + k / 2 * 8;
      const bool isRow = row < rows;
      const uint4 words = isRow ? wordsAt(wide + row * xStride) : uint4{};
      d[k][0] = words.x, d[k][1] = words.y, d[k][2] = words.z, d[k][3] = words.w;
      w[k] = isRow && 2 * g < ranks ? *reinterpret_cast<const unsigned int*>(own + row * dzStride) : 0u;
      if (isRow) of[k] = rowOf(masks, row);
    }
#pragma unroll
    for (int k = 0; k < 4; k++) {
      const uint4 kept = keptOf(masks, of[k], first / 8 + g, layer);
      d[k][0] &= kept.x, d[k][1] &= kept.y, d[k][2] &= kept.z, d[k][3] &= kept.w;
    }
    constexpr unsigned int LOW = 0x5410, HIGH = 0x7632;
    const unsigned int a[4] = {__byte_perm(w[0], w[1], LOW), __byte_perm(w[0], w[1], HIGH), __byte_perm(w[2], w[3], LOW),
                               __byte_perm(w[2], w[3], HIGH)};
#pragma unroll
    for (int j = 0; j < 8; j++) {
      const unsigned int which = j % 2 == 0 ? LOW : HIGH;
      multiply(T{}, sums[j], a, __byte_perm(d[0][j / 2], d[1][j / 2], which), __byte_perm(d[2][j / 2], d[3][j / 2], which));
    }
  }
#pragma unroll
  for (int j = 0; j < 8; j++)
#pragma unroll
    for (int i = 0; i < 4; i++) all[warp][2 * g + i / 2][8 * (2 * c + i % 2) + j] = sums[j][i];
  __syncthreads();
  for (int i = threadIdx.x; i < 16 * LOW_TILE; i += LOW_WARPS * 32) {
    const int rank = i / LOW_TILE, channel = i % LOW_TILE;
    if (rank >= ranks) continue;
    float sum = all[0][rank][channel];
    for (int w = 1; w < LOW_WARPS; w++) sum += all[w][rank][channel];
    partial[(split * allRanks + parts.column[part] + rank) * channels + first + channel] = sum;
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

// --- What is added to a tile of channels, z M, for the lanes of a warp: channels are the rows of what they multiply, z its columns -----------

// Eight rows of z are multiplied at once, so that lane (g, c) has channels 8 g to 8 g + 7 of rows 2 c and 2 c + 1, and lanes of one c move
// whole lines of memory.
constexpr int LOW_CHUNK = 8;

// Matrices of a tile as A, lane by lane: step, channels, lane. Row m of channels t is channel 8 (m % 8) + 2 t + m / 8 of the tile.
struct Fragments {
  uint4 at[LOW_STEPS][4][32];
};

// Of a matrix without ranks one of zeros.
__device__ inline int stepsOf(int ranks) { return ranks == 0 ? 1 : (ranks + 15) / 16; }

// `rankFirst`: the matrix is (ranks, channels), else (channels, ranks).
template <typename T>
__device__ void fill(Fragments& to, int step, const T* matrix, int ranks, long long channels, long long first, bool rankFirst) {
  const int steps = stepsOf(ranks);
  for (int i = threadIdx.x; i < steps * 4 * 32; i += LOW_WARPS * 32) {
    const int lane = i % 32, t = i / 32 % 4, s = i / 128, g = lane / 4, c = lane % 4;
    const long long channel = first + 8 * g + 2 * t;
    const auto bits = [&](int m, int rank) -> unsigned int {
      if (rank >= ranks) return 0;
      return rankFirst ? matrix[rank * channels + channel + m].bits : matrix[(channel + m) * ranks + rank].bits;
    };
    const auto pair = [&](int m, int rank) { return bits(m, rank) | bits(m, rank + 1) << 16; };
    const int rank = 16 * s + 2 * c;
    to.at[step + s][t][lane] = {pair(0, rank), pair(1, rank), pair(0, rank + 8), pair(1, rank + 8)};
  }
}

// Rows of z that a warp multiplies: where this lane reads them, at its row and its first rank.
template <typename T>
struct LowRows {
  const T* at;
  bool isRow;

  __device__ LowRows(const void* z, long long stride, long long chunk, long long rows) {
    const int lane = threadIdx.x % 32;
    isRow = chunk + lane / 4 < rows;
    at = static_cast<const T*>(z) + (chunk + lane / 4) * stride + 2 * (lane % 4);
  }

  __device__ uint2 words(int step, int ranks) const {
    const int own = 2 * static_cast<int>(threadIdx.x % 4);
    const auto pair = [&](int rank) { return isRow && own + rank < ranks ? *reinterpret_cast<const unsigned int*>(at + rank) : 0u; };
    return {pair(16 * step), pair(16 * step + 8)};
  }
};

// Adds step `s` of z M to channels t: of row 2 c + r and channel 8 g + 2 t + e at sums[2 e + r].
template <typename T>
__device__ inline void addStep(float (&sums)[4], const Fragments& fragments, int step, int t, uint2 z) {
  const uint4 a = fragments.at[step][t][threadIdx.x % 32];
  multiply(T{}, sums, {a.x, a.y, a.z, a.w}, z.x, z.y);
}

// The steps after the first, for ranks above 16.
template <typename T>
__device__ inline void addSteps(float (&sums)[4], const Fragments& fragments, int step, int t, const LowRows<T>& z, int ranks) {
#pragma unroll 1
  for (int s = 1; s * 16 < ranks; s++) addStep<T>(sums, fragments, step + s, t, z.words(s, ranks));
}

// --- x += sum of drop_i(dz_i A_i) -----------------------------------------------------------------------------------------------

template <typename T>
__device__ void addDropped(T* x, long long xStride, const T* dz, long long dzStride, const LowParts& parts, long long rows, long long channels,
                           const Masks& masks, float scale) {
  __shared__ Fragments fragments;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  const long long tiles = channels / LOW_TILE, first = blockIdx.x % tiles * LOW_TILE, start = blockIdx.x / tiles * LOW_ROWS;
  for (int part = 0, step = 0; part < parts.count; step += stepsOf(parts.ranks[part]), part++)
    fill(fragments, step, static_cast<const T*>(parts.matrix[part]), parts.ranks[part], channels, first, true);
  __syncthreads();
  for (long long base = start + warp * LOW_CHUNK; base < start + LOW_ROWS && base < rows; base += LOW_WARPS * LOW_CHUNK) {
    const long long row = base + 2 * c;
    T* const at = x + row * xStride + first + 8 * g;
    // All that is read of the wide tensor is on its way before the first mask.
    uint4 own[2];
    LowRow of[2] = {};
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (row + r < rows) of[r] = rowOf(masks, row + r);
      own[r] = row + r < rows ? wordsAt(at + r * xStride) : uint4{};
    }
    float added[2][8] = {};
#pragma unroll 1
    for (int part = 0, step = 0; part < parts.count; step += stepsOf(parts.ranks[part]), part++) {
      const LowRows<T> z(dz + parts.column[part], dzStride, base, rows);
      const uint2 ahead = z.words(0, parts.ranks[part]);
      unsigned int kept[2][4];
#pragma unroll
      for (int r = 0; r < 2; r++) {
        const uint4 words = keptOf(masks, of[r], first / 8 + g, parts.layer[part]);
        kept[r][0] = words.x, kept[r][1] = words.y, kept[r][2] = words.z, kept[r][3] = words.w;
      }
#pragma unroll
      for (int t = 0; t < 4; t++) {
        float sums[4] = {};
        addStep<T>(sums, fragments, step, t, ahead);
        addSteps(sums, fragments, step, t, z, parts.ranks[part]);
#pragma unroll
        for (int r = 0; r < 2; r++) {
          added[r][2 * t] += kept[r][t] & 0xFFFFu ? sums[r] : 0.0f;
          added[r][2 * t + 1] += kept[r][t] >> 16 ? sums[2 + r] : 0.0f;
        }
      }
    }
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (row + r >= rows) continue;
      const auto sum = [&](unsigned int word, int t) {
        return joined(T{}, element<T>(word, 0) + scale * added[r][2 * t], element<T>(word, 1) + scale * added[r][2 * t + 1]);
      };
      store(at + r * xStride, uint4{sum(own[r].x, 0), sum(own[r].y, 1), sum(own[r].z, 2), sum(own[r].w, 3)});
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

// 1 / (1 + exp(-x)). What is too small to be a normal number is 0, which adds nothing to the 1.
__device__ inline float fastSigmoid(float x) {
  float power, result;
  asm("ex2.approx.ftz.f32 %0, %1;" : "=f"(power) : "f"(x * -1.44269504f));
  asm("rcp.approx.ftz.f32 %0, %1;" : "=f"(result) : "f"(1.0f + power));
  return result;
}

template <typename T, bool backward>
__device__ void swigluLowRank(T* both, long long stride, T* product, long long productStride, const LowGated& low, long long rows,
                              long long features) {
  __shared__ Fragments fragments;
  constexpr int KINDS = backward ? 3 : 2;
  const int warp = threadIdx.x / 32, lane = threadIdx.x % 32, g = lane / 4, c = lane % 4;
  const long long tiles = features / LOW_TILE, first = blockIdx.x % tiles * LOW_TILE, start = blockIdx.x / tiles * LOW_ROWS;
  int step[4] = {};
  bool isDeep = false;
  for (int kind = 0; kind < KINDS; kind++) {
    fill(fragments, step[kind], static_cast<const T*>(low.matrix[kind]), low.ranks[kind], features, first, kind == 2);
    step[kind + 1] = step[kind] + stepsOf(low.ranks[kind]);
    isDeep = isDeep || low.ranks[kind] > 16;
  }
  __syncthreads();
  for (long long base = start + warp * LOW_CHUNK; base < start + LOW_ROWS && base < rows; base += LOW_WARPS * LOW_CHUNK) {
    const long long row = base + 2 * c;
    T *const gateAt = both + row * stride + first + 8 * g, *const productAt = product + row * productStride + first + 8 * g;
    // Gate, up and the gradient of the product, two channels a word; all that is read of them is on its way before the first product.
    unsigned int words[3][2][4];
    const auto take = [&](int kind, int r, const T* from) {
      const uint4 taken = row + r < rows ? wordsAt(from) : uint4{};
      words[kind][r][0] = taken.x, words[kind][r][1] = taken.y, words[kind][r][2] = taken.z, words[kind][r][3] = taken.w;
    };
#pragma unroll
    for (int r = 0; r < 2; r++) {
      take(0, r, gateAt + r * stride);
      take(1, r, gateAt + r * stride + features);
      if constexpr (backward) take(2, r, productAt + r * productStride);
    }
    uint2 ahead[KINDS];
#pragma unroll
    for (int kind = 0; kind < KINDS; kind++)
      ahead[kind] = LowRows<T>(low.z[kind], low.zStride[kind], base, rows).words(0, low.ranks[kind]);
#pragma unroll
    for (int t = 0; t < 4; t++) {
      float sums[KINDS][4] = {};
#pragma unroll
      for (int kind = 0; kind < KINDS; kind++)
        addStep<T>(sums[kind], fragments, step[kind], t, ahead[kind]);
      if (isDeep) {
#pragma unroll
        for (int kind = 0; kind < KINDS; kind++)
          addSteps(sums[kind], fragments, step[kind], t, LowRows<T>(low.z[kind], low.zStride[kind], base, rows), low.ranks[kind]);
      }
#pragma unroll
      for (int r = 0; r < 2; r++) {
        float dGate[2], dUp[2], p[2];
#pragma unroll
        for (int e = 0; e < 2; e++) {
          const auto with = [&](int kind) { return element<T>(words[kind][r][t], e) + low.scale[kind] * sums[kind][2 * e + r]; };
          const float x = with(0), y = with(1), s = fastSigmoid(x), act = x * s;
          p[e] = act * y;
          if constexpr (backward) {
            const float d = with(2);
            dGate[e] = d * y * (s + act * (1.0f - s));
            dUp[e] = d * act;
          }
        }
        // Results take the places of what they are made of.
        words[2][r][t] = joined(T{}, p[0], p[1]);
        if constexpr (backward) {
          words[0][r][t] = joined(T{}, dGate[0], dGate[1]);
          words[1][r][t] = joined(T{}, dUp[0], dUp[1]);
        }
      }
    }
    const auto give = [&](int kind, int r, T* to) {
      store(to, uint4{words[kind][r][0], words[kind][r][1], words[kind][r][2], words[kind][r][3]});
    };
#pragma unroll
    for (int r = 0; r < 2; r++) {
      if (row + r >= rows) continue;
      give(2, r, productAt + r * productStride);
      if constexpr (backward) {
        give(0, r, gateAt + r * stride);
        give(1, r, gateAt + r * stride + features);
      }
    }
  }
}

}  // namespace patina

// Bounds: these wait for memory, and more blocks hide more of it than registers are worth, as long as none is spilled.
#define PATINA_DROPPED(type, T, TILES, BLOCKS)                                                                                              \
  extern "C" __global__ void __launch_bounds__(256, BLOCKS)                                                                                 \
      dropped_product_##TILES##_##type(const T* x, long long xStride, const patina::LowParts parts, T* z, long long zStride, long long rows,\
                                       long long channels, const patina::Masks masks, float scale) {                                        \
    patina::droppedProduct<T, TILES>(x, xStride, parts, z, zStride, rows, channels, masks, scale);                                          \
  }
#define PATINA_LOW_RANK(type, T)                                                                                                            \
  PATINA_DROPPED(type, T, 2, 4) PATINA_DROPPED(type, T, 4, 3) PATINA_DROPPED(type, T, 8, 2)                                                 \
  extern "C" __global__ void __launch_bounds__(256, 3)                                                                                      \
      dropped_gradients_##type(const T* dz, long long dzStride, const T* x, long long xStride, const patina::LowParts parts, float* partial,\
                               long long rows, long long channels, long long allRanks, long long splits, const patina::Masks masks) {       \
    patina::droppedGradients(dz, dzStride, x, xStride, parts, partial, rows, channels, allRanks, splits, masks);                            \
  }                                                                                                                                         \
  extern "C" __global__ void sum_parts_##type(const float* partial, T* to, long long splits, long long count, float scale) {                \
    patina::sumParts(partial, to, splits, count, scale);                                                                                    \
  }                                                                                                                                         \
  extern "C" __global__ void __launch_bounds__(256, 3)                                                                                      \
      add_dropped_##type(T* x, long long xStride, const T* dz, long long dzStride, const patina::LowParts parts, long long rows,            \
                         long long channels, const patina::Masks masks, float scale) {                                                      \
    patina::addDropped(x, xStride, dz, dzStride, parts, rows, channels, masks, scale);                                                      \
  }                                                                                                                                         \
  extern "C" __global__ void __launch_bounds__(256, 3)                                                                                      \
      swiglu_low_rank_##type(T* both, long long stride, T* product, long long productStride, const patina::LowGated low, long long rows,    \
                             long long features) {                                                                                          \
    patina::swigluLowRank<T, false>(both, stride, product, productStride, low, rows, features);                                             \
  }                                                                                                                                         \
  extern "C" __global__ void __launch_bounds__(256, 3)                                                                                      \
      swiglu_low_rank_backward_##type(T* both, long long stride, T* product, long long productStride, const patina::LowGated low,           \
                                      long long rows, long long features) {                                                                 \
    patina::swigluLowRank<T, true>(both, stride, product, productStride, low, rows, features);                                              \
  }

PATINA_LOW_RANK(float16, patina::Half)
PATINA_LOW_RANK(bfloat16, patina::BFloat16)
