// Kernels for CUDA of our own (native/cuda/kernels/), compiled for the card at hand when one is first needed.
#pragma once

#include "common.h"

#include <initializer_list>

namespace patina {

// A kernel on a device; empty where it cannot be had, and a composite of libtorch's operators stands in.
class CudaKernel {
 public:
  CudaKernel() = default;
  CudaKernel(void* function, void* context, c10::Device device) : function(function), context(context), device(device) {}

  explicit operator bool() const { return function != nullptr; }

  // Gives the device so many threads of it, in its current stream; `arguments` point to what the kernel takes, by value.
  void launch(int64_t threads, std::initializer_list<const void*> arguments) const;

 private:
  void* function = nullptr;
  void* context = nullptr;
  c10::Device device = c10::Device(c10::DeviceType::CUDA, 0);
};

// Compiles all kernels the first time that a device asks. What keeps it from that is a warning, once.
CudaKernel cudaKernel(const char* name, c10::Device device);

}  // namespace patina
