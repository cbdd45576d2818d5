// What has no device-neutral interface in libtorch: built only where the CUDA headers are, opened only where a GPU is.
#include <c10/cuda/CUDACachingAllocator.h>
#include <c10/cuda/CUDAStream.h>

#include <cuda_runtime_api.h>

// Limits the caching allocator of a device; NaN lifts the limit.
extern "C" __attribute__((visibility("default"))) void patina_cuda_set_memory_limit(int device, double bytes) {
  size_t free = 0, total = 0;
  int before = 0;
  cudaGetDevice(&before);
  cudaSetDevice(device);
  cudaMemGetInfo(&free, &total);
  cudaSetDevice(before);
  const double fraction = bytes != bytes || total == 0 ? 1.0 : bytes / static_cast<double>(total);
  c10::cuda::CUDACachingAllocator::setMemoryFraction(fraction > 1.0 ? 1.0 : fraction, static_cast<c10::DeviceIndex>(device));
}

// The driver's own handle of a device's current stream, for launching kernels of our own.
extern "C" __attribute__((visibility("default"))) void* patina_cuda_current_stream(int device) {
  return c10::cuda::getCurrentCUDAStream(static_cast<c10::DeviceIndex>(device)).stream();
}
