// AdamW for CUDA in one pass over memory, over a list of tensors; the mathematics is in native/adamw.cc. Numbers of 16 bits are computed in
// fp32 and rounded once: to nearest, or, where there are keys, at random if they are kept in bf16.
#include "adamw_step.h"

namespace patina {

constexpr int ADAMW_BLOCK = 256, ADAMW_PACK = 8;

// Packs of a thread, as measured on an H200: few of those that memory alone holds up, which so follow one another through it.
template <bool random>
constexpr int ADAMW_PACKS = random ? 8 : 2;

// As native/adamw_kernels.cc lays it out.
struct AdamwTensor {
  void *weights, *averages, *squares;
  // Null: weights are not written a second time.
  void* rounded;
  const void* gradients;
  const float* steps;
  // `from`: its first element in the whole.
  long long count, from;
  // Of weights, averages and squares.
  PhiloxKey keys[3];
  // The first block that is its.
  unsigned int block;
  unsigned char weightType, momentType, roundedType, gradientType;
};

struct AdamwList {
  AdamwTensor at[40];
  int count;
};

template <int N, bool random>
__device__ inline void keep(void* to, Number type, long long at, const float* values, long long from, PhiloxKey key) {
  if (random && type == Number::bfloat16) put(static_cast<BFloat16*>(to) + at, 0, drawn<N>(values, from + at, key));
  else write<N>(to, type, at, values);
}

template <int N, bool random>
__device__ inline void adamw(const AdamwTensor& tensor, const AdamwStep& s, long long at) {
  const auto weightType = static_cast<Number>(tensor.weightType), momentType = static_cast<Number>(tensor.momentType),
             gradientType = static_cast<Number>(tensor.gradientType);
  // All of them are on their way before the first is asked for its values.
  const Bits<N> gradients = bitsAt<N>(tensor.gradients, gradientType, at), averages = bitsAt<N>(tensor.averages, momentType, at),
                squares = bitsAt<N>(tensor.squares, momentType, at), weights = bitsAt<N>(tensor.weights, weightType, at);
  float g[N], m[N], v[N], w[N];
  valuesOf<N>(gradients, gradientType, g);
  valuesOf<N>(averages, momentType, m);
  valuesOf<N>(squares, momentType, v);
  valuesOf<N>(weights, weightType, w);
  for (int k = 0; k < N; k++) {
    const float gradient = g[k] * s.divided;
    m[k] += s.average * (gradient - m[k]);
    v[k] = s.square * gradient * gradient + v[k] * s.beta2;
    // To 2 units in the last place of the change, which memory does not wait for.
    w[k] = w[k] * s.decay - __fdividef(s.size * m[k], squareRoot(v[k]) * s.unbiased + s.eps);
  }
  keep<N, random>(tensor.averages, momentType, at, m, tensor.from, tensor.keys[1]);
  keep<N, random>(tensor.squares, momentType, at, v, tensor.from, tensor.keys[2]);
  keep<N, random>(tensor.weights, weightType, at, w, tensor.from, tensor.keys[0]);
  if (tensor.rounded != nullptr) write<N>(tensor.rounded, static_cast<Number>(tensor.roundedType), at, w);
}

// One block for a chunk of a tensor. `wide`: all tensors begin where a pack of theirs can be moved at once, and with an octet of random words.
template <bool random>
__device__ inline void adamwChunk(const AdamwList& list, double lr, double beta1, double beta2, double logBeta1, double logBeta2, double decay,
                                  double eps, const float* divisor, const float* foundInf, bool wide) {
  if (foundInf != nullptr && *foundInf != 0) return;
  int which = 0;
  while (which + 1 < list.count && list.at[which + 1].block <= blockIdx.x) which++;
  const AdamwTensor& tensor = list.at[which];
  __shared__ AdamwStep shared;
  if (threadIdx.x == 0) shared = adamwStep(*tensor.steps, lr, beta1, beta2, logBeta1, logBeta2, decay, eps, divisor);
  __syncthreads();
  const AdamwStep step = shared;
  constexpr long long chunk = ADAMW_BLOCK * ADAMW_PACK * ADAMW_PACKS<random>;
  const long long first = static_cast<long long>(blockIdx.x - tensor.block) * chunk;
  const long long last = first + chunk < tensor.count ? first + chunk : tensor.count;
  const long long whole = wide ? first + (last - first) / ADAMW_PACK * ADAMW_PACK : first;
  for (long long at = first + threadIdx.x * ADAMW_PACK; at < whole; at += ADAMW_BLOCK * ADAMW_PACK)
    adamw<ADAMW_PACK, random>(tensor, step, at);
  for (long long at = whole + threadIdx.x; at < last; at += ADAMW_BLOCK) adamw<1, random>(tensor, step, at);
}

}  // namespace patina

#define PATINA_ADAMW(name, random)                                                                                                         \
  extern "C" __global__ void __launch_bounds__(256)                                                                                        \
      name(const patina::AdamwList list, double lr, double beta1, double beta2, double logBeta1, double logBeta2, double decay, double eps, \
           const float* divisor, const float* foundInf, bool wide) {                                                                       \
    patina::adamwChunk<random>(list, lr, beta1, beta2, logBeta1, logBeta2, decay, eps, divisor, foundInf, wide);                           \
  }
PATINA_ADAMW(adamw, false)
PATINA_ADAMW(adamw_random, true)
