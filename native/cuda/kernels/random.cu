// Dropout and stochastic rounding by counters, for CUDA; the same bits as native/dropout.cc and native/stochastic_round.cc give.
#include "numbers.h"
#include "philox.h"

namespace patina {

// One thread for eight channels. `wide`: rows are whole octets, and both tensors begin where eight elements can be moved at once.
template <typename T, typename Compute>
__device__ void dropEight(const T* x, T* y, const long long* records, const long long* indices, long long rows, long long channels,
                          long long perPlace, unsigned int threshold, double scale, PhiloxKey key, long long layer, bool wide) {
  const long long octets = (channels + 7) / 8;
  const long long thread = static_cast<long long>(blockIdx.x) * blockDim.x + threadIdx.x;
  if (thread >= rows * octets) return;
  const long long row = quotient(thread, octets), octet = thread - row * octets;
  const long long place = quotient(row, perPlace), token = indices[place] * perPlace + row - place * perPlace;
  const Words words = dropoutWords(octet, token, records[place], layer, key);
  const Compute kept = static_cast<Compute>(scale);
  const long long first = row * channels + 8 * octet;
  if (wide) {
    Pack<T, 8> eight = packAt<8>(x + first, 0);
    for (int i = 0; i < 8; i++) narrow(widened(eight.at[i]) * (bitsOf(words, i) < threshold ? Compute(0) : kept), eight.at[i]);
    put(y + first, 0, eight);
    return;
  }
  for (int i = 0; i < 8 && 8 * octet + i < channels; i++)
    narrow(widened(x[first + i]) * (bitsOf(words, i) < threshold ? Compute(0) : kept), y[first + i]);
}

}  // namespace patina

#define PATINA_DROPOUT(name, T, Compute)                                                                                            \
  extern "C" __global__ void name(const T* x, T* y, const long long* records, const long long* indices, long long rows,             \
                                  long long channels, long long perPlace, unsigned int threshold, double scale,                     \
                                  patina::PhiloxKey key, long long layer, bool wide) {                                              \
    patina::dropEight<T, Compute>(x, y, records, indices, rows, channels, perPlace, threshold, scale, key, layer, wide);             \
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
    if (element >= 0 && element < count) target[element] = patina::roundedAtRandom(source[element], patina::bitsOf(words, i));
  }
}
