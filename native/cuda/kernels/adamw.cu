// AdamW for CUDA in one pass over memory, over a list of tensors; the mathematics is in native/adamw.cc. Numbers of 16 bits are computed in
// fp32 and rounded once.
#include "numbers.h"

namespace patina {

constexpr int ADAMW_BLOCK = 256, ADAMW_PACK = 8, ADAMW_PACKS = 8;
constexpr long long ADAMW_CHUNK = ADAMW_BLOCK * ADAMW_PACK * ADAMW_PACKS;

enum class Number : int { float32, float16, bfloat16 };

// As native/adamw_kernels.cc lays it out.
struct AdamwTensor {
  void *weights, *averages, *squares;
  // Null: weights are not written a second time.
  void* rounded;
  const void* gradients;
  const float* steps;
  long long count;
  // The first block that is its.
  unsigned int block;
  unsigned char weightType, momentType, roundedType, gradientType;
};

struct AdamwList {
  AdamwTensor at[48];
  int count;
};

struct AdamwStep {
  float divided, decay, average, beta2, square, unbiased, eps, size;
};

template <int N>
__device__ inline void read(const void* from, Number type, long long at, float* values) {
  if (type == Number::float32) {
    const auto pack = *reinterpret_cast<const Pack<float, N>*>(static_cast<const float*>(from) + at);
    for (int k = 0; k < N; k++) values[k] = pack.at[k];
  } else if (type == Number::bfloat16) {
    const auto pack = *reinterpret_cast<const Pack<BFloat16, N>*>(static_cast<const BFloat16*>(from) + at);
    for (int k = 0; k < N; k++) values[k] = widened(pack.at[k]);
  } else {
    const auto pack = *reinterpret_cast<const Pack<Half, N>*>(static_cast<const Half*>(from) + at);
    for (int k = 0; k < N; k++) values[k] = widened(pack.at[k]);
  }
}

template <typename T, int N>
__device__ inline void writeAs(void* to, long long at, const float* values) {
  Pack<T, N> pack;
  for (int k = 0; k < N; k++) narrow(values[k], pack.at[k]);
  put(static_cast<T*>(to) + at, 0, pack);
}

template <int N>
__device__ inline void write(void* to, Number type, long long at, const float* values) {
  if (type == Number::float32) writeAs<float, N>(to, at, values);
  else if (type == Number::bfloat16) writeAs<BFloat16, N>(to, at, values);
  else writeAs<Half, N>(to, at, values);
}

__device__ inline float squareRoot(float x) {
  float root;
  asm("sqrt.approx.f32 %0, %1;" : "=f"(root) : "f"(x));
  return root;
}

template <int N>
__device__ inline void adamw(const AdamwTensor& tensor, const AdamwStep& s, long long at) {
  const auto weightType = static_cast<Number>(tensor.weightType), momentType = static_cast<Number>(tensor.momentType);
  float g[N], m[N], v[N], w[N];
  read<N>(tensor.gradients, static_cast<Number>(tensor.gradientType), at, g);
  read<N>(tensor.averages, momentType, at, m);
  read<N>(tensor.squares, momentType, at, v);
  read<N>(tensor.weights, weightType, at, w);
  for (int k = 0; k < N; k++) {
    const float gradient = g[k] * s.divided;
    m[k] += s.average * (gradient - m[k]);
    v[k] = s.square * gradient * gradient + v[k] * s.beta2;
    // To 2 units in the last place of the change, which memory does not wait for.
    w[k] = w[k] * s.decay - __fdividef(s.size * m[k], squareRoot(v[k]) * s.unbiased + s.eps);
  }
  write<N>(tensor.averages, momentType, at, m);
  write<N>(tensor.squares, momentType, at, v);
  write<N>(tensor.weights, weightType, at, w);
  if (tensor.rounded != nullptr) write<N>(tensor.rounded, static_cast<Number>(tensor.roundedType), at, w);
}

}  // namespace patina

// One block for a chunk of a tensor. `wide`: all tensors begin where a pack of theirs can be moved at once.
extern "C" __global__ void __launch_bounds__(256)
    adamw(const patina::AdamwList list, double lr, double beta1, double beta2, double logBeta1, double logBeta2, double decay, double eps,
          const float* divisor, const float* foundInf, bool wide) {
  using namespace patina;
  if (foundInf != nullptr && *foundInf != 0) return;
  int which = 0;
  while (which + 1 < list.count && list.at[which + 1].block <= blockIdx.x) which++;
  const AdamwTensor& tensor = list.at[which];
  __shared__ AdamwStep shared;
  if (threadIdx.x == 0) {
    // 1 - beta^t
    const double t = *tensor.steps, unbiased1 = -expm1(t * logBeta1), unbiased2 = -expm1(t * logBeta2);
    shared = {divisor == nullptr ? 1.0f : 1.0f / *divisor,
              static_cast<float>(1 - lr * decay),
              static_cast<float>(1 - beta1),
              static_cast<float>(beta2),
              static_cast<float>(1 - beta2),
              static_cast<float>(1 / sqrt(unbiased2)),
              static_cast<float>(eps),
              static_cast<float>(lr / unbiased1)};
  }
  __syncthreads();
  const AdamwStep step = shared;
  const long long first = static_cast<long long>(blockIdx.x - tensor.block) * ADAMW_CHUNK;
  const long long last = first + ADAMW_CHUNK < tensor.count ? first + ADAMW_CHUNK : tensor.count;
  const long long whole = wide ? first + (last - first) / ADAMW_PACK * ADAMW_PACK : first;
  for (long long at = first + threadIdx.x * ADAMW_PACK; at < whole; at += ADAMW_BLOCK * ADAMW_PACK) adamw<ADAMW_PACK>(tensor, step, at);
  for (long long at = whole + threadIdx.x; at < last; at += ADAMW_BLOCK) adamw<1>(tensor, step, at);
}
