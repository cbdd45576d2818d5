// Allocators that count: for the CPU, where libtorch has neither statistics nor a limit, and for the meta device, whose
// tensors have no memory but whose bytes tell what a program would need.
#include "common.h"
#include "ghost.h"

#include <c10/core/CachingDeviceAllocator.h>
#include <c10/core/CPUAllocator.h>
#include <c10/core/impl/alloc_cpu.h>

#include <atomic>
#include <limits>

namespace patina {

namespace {

struct Counter {
  std::atomic<int64_t> current{0}, peak{0}, allocations{0}, failures{0};
  std::atomic<int64_t> limit{std::numeric_limits<int64_t>::max()};

  void add(int64_t bytes, const char* device) {
    const int64_t now = current.fetch_add(bytes) + bytes;
    if (now > limit.load(std::memory_order_relaxed)) {
      current.fetch_sub(bytes);
      failures++;
      TORCH_CHECK_WITH(OutOfMemoryError, false, "out of memory on ", device, ": tried to allocate ", bytes, " bytes with ",
                       now - bytes, " in use; the limit is ", limit.load(), " bytes");
    }
    allocations.fetch_add(1, std::memory_order_relaxed);
    int64_t seen = peak.load(std::memory_order_relaxed);
    while (now > seen && !peak.compare_exchange_weak(seen, now)) {
    }
  }
  void remove(int64_t bytes) { current.fetch_sub(bytes); }
};

Counter cpuCounter, metaCounter;

// Blocks of small tensors, kept for the next one of their size: the system's aligned allocation costs a tenth of a small
// operator. Each thread has its own. Plain data without a destructor, since tensors are freed until the very end of a thread.
struct SmallBlocks {
  static constexpr size_t kStep = 64, kClasses = 16, kKept = 32;
  char* kept[kClasses][kKept];
  uint8_t count[kClasses];

  static size_t classOf(size_t bytes) { return (bytes - 1) / kStep; }
  // Bytes to allocate for a tensor of so many.
  static size_t rounded(size_t bytes) { return classOf(bytes) < kClasses ? (classOf(bytes) + 1) * kStep : bytes; }

  char* take(size_t bytes) {
    const size_t index = classOf(bytes);
    return index < kClasses && count[index] > 0 ? kept[index][--count[index]] : nullptr;
  }
  bool give(char* block, size_t bytes) {
    const size_t index = classOf(bytes);
    if (index >= kClasses || count[index] == kKept) return false;
    kept[index][count[index]++] = block;
    return true;
  }
};

thread_local SmallBlocks smallBlocks;

// Memory with its size in front, so that freeing can count. The header keeps libtorch's alignment of 64 bytes.
struct CpuAllocator final : c10::Allocator {
  static constexpr size_t kHeader = 64;

  static void release(void* data) {
    if (data == nullptr) return;
    char* start = static_cast<char*>(data) - kHeader;
    const int64_t bytes = *reinterpret_cast<int64_t*>(start);
    cpuCounter.remove(bytes);
    if (!smallBlocks.give(start, static_cast<size_t>(bytes))) c10::free_cpu(start);
  }
  c10::DataPtr allocate(size_t bytes) override {
    const c10::Device cpu(c10::DeviceType::CPU);
    if (bytes == 0) return {nullptr, nullptr, &release, cpu};
    cpuCounter.add(static_cast<int64_t>(bytes), "cpu");
    char* start = smallBlocks.take(bytes);
    if (start == nullptr) {
      try {
        start = static_cast<char*>(c10::alloc_cpu(SmallBlocks::rounded(bytes) + kHeader));
      } catch (const c10::Error&) {
        cpuCounter.remove(static_cast<int64_t>(bytes));
        cpuCounter.failures++;
        TORCH_CHECK_WITH(OutOfMemoryError, false, "out of memory on cpu: the system refused ", bytes, " bytes with ",
                         cpuCounter.current.load(), " in use");
      }
    }
    *reinterpret_cast<int64_t*>(start) = static_cast<int64_t>(bytes);
    void* data = start + kHeader;
    return {data, data, &release, cpu};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void* to, const void* from, std::size_t bytes) const override { default_copy_data(to, from, bytes); }
};

// The meta device: no memory, only the count, rounded to 512 bytes like the blocks of the CUDA caching allocator, and a line in
// the trace of a ghost run, if there is one.
struct MetaAllocator final : c10::Allocator {
  struct Block {
    int64_t bytes;
    int64_t traced;  // its number in the trace, 0: none
  };

  static void release(void* context) {
    auto* block = static_cast<Block*>(context);
    metaCounter.remove(block->bytes);
    if (block->traced != 0) ghost::freed(block->traced);
    delete block;
  }
  c10::DataPtr allocate(size_t bytes) override {
    const auto rounded = static_cast<int64_t>((bytes + 511) / 512 * 512);
    metaCounter.add(rounded, "meta");
    const int64_t traced = bytes == 0 ? 0 : ghost::allocated(static_cast<int64_t>(bytes));
    return {nullptr, new Block{rounded, traced}, &release, c10::Device(c10::DeviceType::Meta)};
  }
  c10::DeleterFnPtr raw_deleter() const override { return &release; }
  void copy_data(void*, const void*, std::size_t) const override {}
};

CpuAllocator cpuAllocator;
MetaAllocator metaAllocator;

Counter* counterOf(const c10::Device& device) {
  if (device.is_cpu()) return &cpuCounter;
  if (device.is_meta()) return &metaCounter;
  return nullptr;
}

}  // namespace

int64_t tracedAllocation(const at::Tensor& tensor) {
  if (!tensor.is_meta() || !tensor.has_storage()) return 0;
  const auto& data = tensor.storage().data_ptr();
  if (data.get_deleter() != &MetaAllocator::release || data.get_context() == nullptr) return 0;
  return static_cast<const MetaAllocator::Block*>(data.get_context())->traced;
}

void installAllocators() {
  c10::SetCPUAllocator(&cpuAllocator, 100);
  c10::SetAllocator(c10::DeviceType::Meta, &metaAllocator, 100);
}

// memory(device): buffer = [allocated, peak allocated, reserved, peak reserved, allocations, failures, limit (NaN: none)].
static napi_value memory(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const c10::Device device = deviceOf(text(env, args[0]));
  if (const Counter* counter = counterOf(device)) {
    buffer[0] = buffer[2] = static_cast<double>(counter->current);
    buffer[1] = buffer[3] = static_cast<double>(counter->peak);
    buffer[4] = static_cast<double>(counter->allocations);
    buffer[5] = static_cast<double>(counter->failures);
    const int64_t limit = counter->limit;
    buffer[6] = limit == std::numeric_limits<int64_t>::max() ? std::numeric_limits<double>::quiet_NaN() : static_cast<double>(limit);
    return nullptr;
  }
  const auto stats = c10::getDeviceAllocator(device.type())->getDeviceStats(device.index());
  buffer[0] = static_cast<double>(stats.allocated_bytes[0].current);
  buffer[1] = static_cast<double>(stats.allocated_bytes[0].peak);
  buffer[2] = static_cast<double>(stats.reserved_bytes[0].current);
  buffer[3] = static_cast<double>(stats.reserved_bytes[0].peak);
  buffer[4] = static_cast<double>(stats.allocation[0].allocated);
  buffer[5] = static_cast<double>(stats.num_ooms);
  buffer[6] = std::numeric_limits<double>::quiet_NaN();
  return nullptr;
  PATINA_END
}

// resetPeak(device): the peaks start again from what is in use now.
static napi_value resetPeak(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const c10::Device device = deviceOf(text(env, args[0]));
  if (Counter* counter = counterOf(device)) counter->peak = counter->current.load();
  else c10::getDeviceAllocator(device.type())->resetPeakStats(device.index());
  return nullptr;
  PATINA_END
}

// emptyCache(device): gives cached blocks back to the system.
static napi_value emptyCache(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const c10::Device device = deviceOf(text(env, args[0]));
  if (counterOf(device) == nullptr) c10::getDeviceAllocator(device.type())->emptyCache();
  return nullptr;
  PATINA_END
}

bool setCudaLimit(int index, double bytes);

// setMemoryLimit(device, bytes): NaN lifts it, and so does what no 64 bits hold.
static napi_value setMemoryLimit(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  const c10::Device device = deviceOf(text(env, args[0]));
  const double bytes = number(env, args[1]);
  if (Counter* counter = counterOf(device)) {
    constexpr auto kNone = std::numeric_limits<int64_t>::max();
    counter->limit = bytes < static_cast<double>(kNone) ? static_cast<int64_t>(bytes) : kNone;
  } else if (!setCudaLimit(device.index(), bytes)) {
    throw Failure("unsupported", "this build has no memory limit for '" + device.str() + "': the CUDA headers were missing when it was built");
  }
  return nullptr;
  PATINA_END
}

void registerMemory(napi_env env, napi_value exports) {
  addFunction(env, exports, "memory", memory);
  addFunction(env, exports, "resetPeak", resetPeak);
  addFunction(env, exports, "emptyCache", emptyCache);
  addFunction(env, exports, "setMemoryLimit", setMemoryLimit);
}

}  // namespace patina
