// Philox4x32-10, a counter-based generator: four random words are a function of a counter and a key, without state (Salmon et al.
// 2011, "Parallel random numbers: as easy as 1, 2, 3"). Kernels for CUDA include it as text, so it includes nothing itself.
#ifndef PATINA_PHILOX_H
#define PATINA_PHILOX_H

#ifdef __CUDACC_RTC__
#define PATINA_EVERYWHERE __device__ inline
#else
#define PATINA_EVERYWHERE inline
#endif

namespace patina {

struct Words {
  unsigned int at[4];
};

struct PhiloxKey {
  unsigned int low, high;
};

PATINA_EVERYWHERE Words philox(Words counter, PhiloxKey key) {
  for (int round = 0; round < 10; round++) {
    const unsigned long long first = 0xD2511F53ull * counter.at[0], second = 0xCD9E8D57ull * counter.at[2];
    counter = Words{{static_cast<unsigned int>(second >> 32) ^ counter.at[1] ^ key.low, static_cast<unsigned int>(second),
                     static_cast<unsigned int>(first >> 32) ^ counter.at[3] ^ key.high, static_cast<unsigned int>(first)}};
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  return counter;
}

// 16 random bits for each of eight neighbouring channels of one token in one layer, two to a word: an element is dropped where its bits
// are below the threshold.
PATINA_EVERYWHERE Words dropoutWords(long long octet, long long token, long long record, long long layer, PhiloxKey key) {
  return philox(Words{{static_cast<unsigned int>(octet), static_cast<unsigned int>(token), static_cast<unsigned int>(record),
                       static_cast<unsigned int>(layer)}},
                key);
}

// The same for eight neighbouring elements of a tensor.
PATINA_EVERYWHERE Words roundingWords(long long octet, PhiloxKey key) {
  return philox(Words{{static_cast<unsigned int>(octet), static_cast<unsigned int>(octet >> 32), 0, 0}}, key);
}

PATINA_EVERYWHERE unsigned int bitsOf(const Words& words, int element) { return words.at[element >> 1] >> (16 * (element & 1)) & 0xFFFFu; }

// fp32 to bf16, both as bits: random bits below and the lower half cut off round up with the probability of the distance. Infinities
// and NaN are kept.
PATINA_EVERYWHERE unsigned short roundedAtRandom(unsigned int bits, unsigned int random) {
  const unsigned int magnitude = bits & 0x7FFFFFFFu;
  if (magnitude > 0x7F800000u) return 0x7FC0;
  return static_cast<unsigned short>((magnitude == 0x7F800000u ? bits : bits + random) >> 16);
}

}  // namespace patina

#endif
