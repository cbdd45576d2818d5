// AdamW with moments in 8 bits for CUDA, over a list of tensors; the mathematics is in native/adamw_int8.cc. A warp for each block of values, so
// that its scale is found among registers. Codes and scales are those of the CPU to the bit; weights to the last places of their change.
#include "adamw_step.h"
#include "dynamic_map.h"

namespace patina {

constexpr int INT8_WARPS = 8, INT8_PACK = DYNAMIC_BLOCK / 32;
// Values that a block of threads updates.
constexpr long long INT8_CHUNK = 64 * DYNAMIC_BLOCK;

// As native/adamw_int8_kernels.cc lays it out.
struct Int8Tensor {
  void* weights;
  // Null: weights are not written a second time.
  void* rounded;
  const void* gradients;
  unsigned char *averages, *squares;
  float *averageScales, *squareScales;
  const float* steps;
  // `from`: its first element in the whole.
  long long count, from;
  PhiloxKey key;
  // The first block of threads that is its.
  unsigned int block;
  unsigned char weightType, roundedType, gradientType;
};

struct Int8List {
  Int8Tensor at[36];
  int count;
};

__device__ inline float largestOf(const float* values) {
  float largest = 0;
  for (int k = 0; k < INT8_PACK; k++) largest = fmaxf(largest, fabsf(values[k]));
  for (int distance = 16; distance > 0; distance /= 2) largest = fmaxf(largest, __shfl_xor_sync(0xFFFFFFFFu, largest, distance));
  return largest < DYNAMIC_LEAST ? 0 : largest;
}

// Whole packs at once where `all` of a pack is there and may be moved so, else one by one.
template <typename All, typename One>
__device__ inline void movePack(bool wide, int count, const All& all, const One& one) {
  if (wide && count == INT8_PACK) return all();
  for (int k = 0; k < INT8_PACK; k++)
    if (k < count) one(k);
}

// The warp's block of a tensor, which begins at `first`: eight neighbouring values for each thread.
__device__ inline void updateBlock(const Int8Tensor& tensor, const AdamwStep& s, float beta1, const DynamicMaps& maps, long long first,
                                   bool random, bool wide) {
  const auto weightType = static_cast<Number>(tensor.weightType), gradientType = static_cast<Number>(tensor.gradientType),
             roundedType = static_cast<Number>(tensor.roundedType);
  const int lane = threadIdx.x % 32;
  const long long at = first + lane * INT8_PACK, block = first / DYNAMIC_BLOCK, left = tensor.count - at;
  const int count = left < 0 ? 0 : left < INT8_PACK ? static_cast<int>(left) : INT8_PACK;
  float g[INT8_PACK] = {}, w[INT8_PACK] = {}, m[INT8_PACK] = {}, v[INT8_PACK] = {};
  Pack<unsigned char, INT8_PACK> averages{}, squares{};
  movePack(
      wide, count,
      [&] {
        read<INT8_PACK>(tensor.gradients, gradientType, at, g);
        read<INT8_PACK>(tensor.weights, weightType, at, w);
        averages = packAt<INT8_PACK>(tensor.averages + at, 0);
        squares = packAt<INT8_PACK>(tensor.squares + at, 0);
      },
      [&](int k) {
        read<1>(tensor.gradients, gradientType, at + k, g + k);
        read<1>(tensor.weights, weightType, at + k, w + k);
        averages.at[k] = tensor.averages[at + k];
        squares.at[k] = tensor.squares[at + k];
      });
  const float averageScale = tensor.averageScales[block], squareScale = tensor.squareScales[block];
#pragma unroll
  for (int k = 0; k < INT8_PACK; k++) {
    if (k >= count) continue;
    // Not fused, as on the CPU.
    const float gradient = __fmul_rn(g[k], s.divided);
    const float average = __fmul_rn(maps.averages.values[averages.at[k]], averageScale);
    const float square = __fmul_rn(maps.squares.values[squares.at[k]], squareScale);
    m[k] = __fadd_rn(__fmul_rn(beta1, average), __fmul_rn(s.average, gradient));
    v[k] = __fadd_rn(__fmul_rn(s.beta2, square), __fmul_rn(__fmul_rn(s.square, gradient), gradient));
    w[k] = w[k] * s.decay - __fdividef(s.size * m[k], squareRoot(v[k]) * s.unbiased + s.eps);
  }
  // All have read the scales by the time that one writes them.
  const float newAverageScale = largestOf(m), newSquareScale = largestOf(v);
  if (lane == 0) {
    tensor.averageScales[block] = newAverageScale;
    tensor.squareScales[block] = newSquareScale;
  }
  const float byAverage = newAverageScale == 0 ? 0 : __fdiv_rn(1.0f, newAverageScale);
  const float bySquare = newSquareScale == 0 ? 0 : __fdiv_rn(1.0f, newSquareScale);
#pragma unroll
  for (int k = 0; k < INT8_PACK; k++) {
    averages.at[k] = codeOfAverage(maps.averages, __fmul_rn(m[k], byAverage));
    squares.at[k] = codeOfSquare(maps.squares, __fmul_rn(v[k], bySquare));
  }
  Pack<BFloat16, INT8_PACK> rounded;
  if (random) rounded = drawn<INT8_PACK>(w, tensor.from + at, tensor.key);
  auto* const bits = static_cast<BFloat16*>(tensor.weights);
  movePack(
      wide, count,
      [&] {
        put(tensor.averages + at, 0, averages);
        put(tensor.squares + at, 0, squares);
        if (random) put(bits + at, 0, rounded);
        else write<INT8_PACK>(tensor.weights, weightType, at, w);
        if (tensor.rounded != nullptr) write<INT8_PACK>(tensor.rounded, roundedType, at, w);
      },
      [&](int k) {
        tensor.averages[at + k] = averages.at[k];
        tensor.squares[at + k] = squares.at[k];
        if (random) bits[at + k] = rounded.at[k];
        else write<1>(tensor.weights, weightType, at + k, w + k);
        if (tensor.rounded != nullptr) write<1>(tensor.rounded, roundedType, at + k, w + k);
      });
}

}  // namespace patina

// One block of threads for a chunk of a tensor. `random`: weights, in bf16, are rounded by the keys; `wide`: all tensors begin where a pack of
// theirs can be moved at once.
extern "C" __global__ void __launch_bounds__(256)
    adamw_int8(const patina::Int8List list, const patina::DynamicMaps* maps, double lr, double beta1, double beta2, double logBeta1,
               double logBeta2, double decay, double eps, const float* divisor, const float* foundInf, bool random, bool wide) {
  using namespace patina;
  if (foundInf != nullptr && *foundInf != 0) return;
  int which = 0;
  while (which + 1 < list.count && list.at[which + 1].block <= blockIdx.x) which++;
  const Int8Tensor& tensor = list.at[which];
  __shared__ AdamwStep shared;
  __shared__ DynamicMaps near;
  if (threadIdx.x == 0) shared = adamwStep(*tensor.steps, lr, beta1, beta2, logBeta1, logBeta2, decay, eps, divisor);
  static_assert(sizeof(DynamicMaps) % 4 == 0, "maps are copied by words");
  for (int i = threadIdx.x; i < sizeof(DynamicMaps) / 4; i += 32 * INT8_WARPS)
    reinterpret_cast<unsigned int*>(&near)[i] = reinterpret_cast<const unsigned int*>(maps)[i];
  __syncthreads();
  const AdamwStep step = shared;
  const long long first = static_cast<long long>(blockIdx.x - tensor.block) * INT8_CHUNK;
  const long long last = first + INT8_CHUNK < tensor.count ? first + INT8_CHUNK : tensor.count;
  for (long long at = first + threadIdx.x / 32 * DYNAMIC_BLOCK; at < last; at += INT8_WARPS * DYNAMIC_BLOCK)
    updateBlock(tensor, step, static_cast<float>(beta1), near, at, random, wide);
}
