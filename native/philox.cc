// Philox as operators: of rows of counters on the CPU, and by libtorch's operators on any device, which is the oracle of the kernels.
#include "random_operators.h"

namespace patina {

using at::Tensor;

PhiloxKey keyOf(at::IntArrayRef words) {
  TORCH_CHECK(words.size() == 2, "a key has two words, not ", words.size());
  return {static_cast<unsigned int>(words[0]), static_cast<unsigned int>(words[1])};
}

static void checkCounters(const Tensor& counters) {
  TORCH_CHECK(counters.dim() == 2 && counters.size(1) == 4 && counters.scalar_type() == at::kLong,
              "counters are four words each, (n, 4) in int64");
}

Tensor philoxOf(const Tensor& counters, at::IntArrayRef key) {
  checkCounters(counters);
  if (!counters.is_cpu()) return philoxCompositeOf(counters, key);
  const Tensor given = counters.contiguous();
  Tensor drawn = at::empty_like(given);
  const auto* from = given.const_data_ptr<int64_t>();
  auto* to = drawn.mutable_data_ptr<int64_t>();
  for (int64_t row = 0; row < given.size(0); row++, from += 4) {
    Words counter;
    for (int i = 0; i < 4; i++) counter.at[i] = static_cast<unsigned int>(from[i]);
    for (const unsigned int word : philox(counter, keyOf(key)).at) *to++ = word;
  }
  return drawn;
}

// int64 holds the product of two 32-bit words; what shifting brings in from its sign is masked.
std::array<Tensor, 4> philoxComposite(std::array<Tensor, 4> counter, PhiloxKey key) {
  constexpr int64_t mask = 0xFFFFFFFF;
  const auto low = [](const Tensor& product) { return product.bitwise_and(mask); };
  const auto high = [](const Tensor& product) { return product.__rshift__(32).bitwise_and(mask); };
  for (int round = 0; round < 10; round++) {
    const Tensor first = counter[0] * 0xD2511F53ll, second = counter[2] * 0xCD9E8D57ll;
    counter = {high(second).bitwise_xor(counter[1]).bitwise_xor(int64_t{key.low}), low(second),
               high(first).bitwise_xor(counter[3]).bitwise_xor(int64_t{key.high}), low(first)};
    key.low += 0x9E3779B9u;
    key.high += 0xBB67AE85u;
  }
  return counter;
}

Tensor philoxCompositeOf(const Tensor& counters, at::IntArrayRef key) {
  checkCounters(counters);
  const auto columns = counters.bitwise_and(int64_t{0xFFFFFFFF}).unbind(1);
  return at::stack(philoxComposite({columns[0], columns[1], columns[2], columns[3]}, keyOf(key)), 1);
}

}  // namespace patina
