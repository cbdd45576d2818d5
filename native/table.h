// Tables of what TypeScript holds by a number: tensors, generators, events and the like.
#pragma once

#include "common.h"

#include <cstdint>
#include <optional>
#include <string>
#include <utility>
#include <vector>

namespace patina {

inline uint32_t tables = 0;  // so far

// A handle is table * 2^48 + generation * 2^24 + index, exact in a double: one of another table is told apart, and a stale one,
// because its generation differs from the slot's. 0 means "none"; a negative one is what TypeScript leaves in an object that it disposed.
//
// What is still in a table when the process ends is never destroyed: freeing it would reach a device driver that is gone already.
template <typename T>
class Table {
 public:
  // The class in TypeScript, and what messages call one: Table<at::Generator> generators{"Generator", "generator"}.
  Table(const char* type, const char* noun) : type_(type), noun_(noun) {}

  double keep(T value) {
    uint32_t index;
    if (free_.empty()) {
      if (slots_.size() >= kSlots) throw Failure("memory", std::string("more than 16,777,216 of one kind are alive at once: ") + noun_);
      index = static_cast<uint32_t>(slots_.size());
      slots_.push_back({std::nullopt, first_});
    } else {
      index = free_.back();
      free_.pop_back();
    }
    Slot& slot = slots_[index];
    slot.value = std::move(value);
    live_++;
    return static_cast<double>(slot.version) * kSlots + index;
  }

  // Throws Failure 'stale' or 'argument', with the argument's position.
  T& at(double handle, int argument = -1) {
    Slot* slot = find(handle);
    if (slot == nullptr) [[unlikely]] refuse(handle, argument);
    return *slot->value;
  }

  // Takes it out; none if the handle is stale. The caller destroys it, when the table is whole again: that may run deleters.
  std::optional<T> take(double handle) {
    Slot* slot = find(handle);
    if (slot == nullptr) return std::nullopt;
    std::optional<T> gone = std::move(slot->value);
    slot->value.reset();
    live_--;
    // A slot that used up its generations is retired.
    if ((++slot->version & kGenerations) != 0) free_.push_back(static_cast<uint32_t>(slot - slots_.data()));
    return gone;
  }

  // Takes it out and destroys it; throws like at().
  void drop(double handle) {
    if (!take(handle)) refuse(handle, -1);
  }

  size_t live() const { return live_; }
  void reserve(size_t count) { slots_.reserve(count); }

 private:
  static constexpr double kSlots = 16777216.0;  // 2^24
  static constexpr uint32_t kGenerations = 0xFFFFFF;

  struct Slot {
    std::optional<T> value;
    uint32_t version;  // table * 2^24 + generation
  };

  Slot* find(double handle) {
    if (!(handle >= 0) || handle > 9007199254740991.0) return nullptr;
    const auto whole = static_cast<uint64_t>(handle);
    const auto index = static_cast<uint32_t>(whole & 0xFFFFFF);
    if (index >= slots_.size()) return nullptr;
    Slot& slot = slots_[index];
    return slot.value && slot.version == static_cast<uint32_t>(whole >> 24) ? &slot : nullptr;
  }

  [[noreturn]] void refuse(double handle, int argument) const {
    const double first = first_ * kSlots;
    if (handle < 0 || (handle >= first && handle < first + kSlots * kSlots))
      throw Failure("stale", std::string("the ") + noun_ + " was disposed", argument);
    throw Failure("argument", std::string("expected a ") + type_, argument);
  }

  const char* type_;
  const char* noun_;
  const uint32_t first_ = ++tables << 24;
  std::vector<Slot>& slots_ = *new std::vector<Slot>();
  std::vector<uint32_t>& free_ = *new std::vector<uint32_t>();
  size_t live_ = 0;
};

}  // namespace patina
