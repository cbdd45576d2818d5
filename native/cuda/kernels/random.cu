// Dropout and stochastic rounding by counters, for CUDA; the same bits as native/dropout.cc and native/stochastic_round.cc give.
#include "numbers.h"
#include "philox.h"

namespace patina {

// One thread for four channels. `wide`: rows are whole quads, and both tensors begin where four elements can be moved at once.
template <typename T, typename Compute>
__device__ void dropFour(const T* x, T* y, const long long* records, const long long* indices, long long rows, long long channels,
                         long long perPlace, unsigned int threshold, double scale, PhiloxKey key, long long layer, bool wide) {
  const long long quads = (channels + 3) / 4;
  const long long thread = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread >= rows * quads) return;
  const long long row = quotient(thread, quads), quad = thread - row * quads;
  const long long place = quotient(row, perPlace), token = indices[place] * perPlace + row - place * perPlace;
  const Words words = dropoutWords(quad, token, records[place], layer, key);
  const Compute kept = static_cast<Compute>(scale);
  const long long first = row * channels + 4 * quad;
  if (wide) {
    Pack<T, 4> four = packAt<4>(x + first, 0);
    for (int i = 0; i < 4; i++) narrow(widened(four.at[i]) * (words.at[i] < threshold ? Compute(0) : kept), four.at[i]);
    put(y + first, 0, four);
    return;
  }
  for (int i = 0; i < 4 && 4 * quad + i < channels; i++)
    narrow(widened(x[first + i]) * (words.at[i] < threshold ? Compute(0) : kept), y[first + i]);
}

}  // namespace patina

#define PATINA_DROPOUT(name, T, Compute)                                                                                            \
  extern "C" __global__ void name(const T* x, T* y, const long long* records, const long long* indices, long long rows,             \
                                  long long channels, long long perPlace, unsigned int threshold, double scale,                     \
                                  patina::PhiloxKey key, long long layer, bool wide) {                                              \
    patina::dropFour<T, Compute>(x, y, records, indices, rows, channels, perPlace, threshold, scale, key, layer, wide);             \
  }
PATINA_DROPOUT(dropout_float32, float, float)
PATINA_DROPOUT(dropout_float64, double, double)
PATINA_DROPOUT(dropout_float16, patina::Half, float)
PATINA_DROPOUT(dropout_bfloat16, patina::BFloat16, float)

// One thread for the eight elements that share four words; the first and the last may have fewer here.
extern "C" __global__ void round_stochastic(unsigned short* target, const unsigned int* source, long long from, long long count,
                                            patina::PhiloxKey key) {
  const long long octet = from / 8 + static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (octet * 8 >= from + count) return;
  const patina::Words words = patina::roundingWords(octet, key);
  for (int i = 0; i < 8; i++) {
    const long long element = octet * 8 + i - from;
    if (element >= 0 && element < count) target[element] = patina::roundedAtRandom(source[element], patina::roundingBits(words, i));
  }
}
