// What of NCCL has no backend-neutral interface. Built only where the headers of CUDA and NCCL are.
#define USE_C10D_NCCL
#include <torch/csrc/distributed/c10d/ProcessGroupNCCL.hpp>

#include <cstdlib>

// A group of ranks with one GPU each, owned by the caller. Who waits for its calls also ends them (native/group.cc): libtorch's own
// watchdog, which ends the process without naming a rank, is told to keep to watching, with a longer timeout.
extern "C" __attribute__((visibility("default"))) c10d::Backend* patina_nccl_group(c10d::Store* store, int rank, int size,
                                                                                   int64_t timeout) {
  setenv("TORCH_NCCL_ASYNC_ERROR_HANDLING", "0", 0);
  auto options = c10d::ProcessGroupNCCL::Options::create();
  options->timeout = std::chrono::milliseconds(2 * timeout);
  const auto shared = c10::intrusive_ptr<c10d::Store>::reclaim_copy(store);
  return c10::make_intrusive<c10d::ProcessGroupNCCL>(shared, rank, size, options).release();
}

// What tells of the end of a call without holding its results, as libtorch's own watchdog does it; owned by the caller.
extern "C" __attribute__((visibility("default"))) c10d::Work* patina_nccl_watched(const c10d::Work* work) {
  using NcclWork = c10d::ProcessGroupNCCL::WorkNCCL;
  return c10::make_intrusive<NcclWork>(static_cast<const NcclWork&>(*work)).release();
}
