// Tensor data and metadata: from a buffer without copying, reading back, shape and the like, in-place storage resizing.
#include "common.h"

#include <ATen/record_function.h>

#include <atomic>
#include <mutex>

namespace patina {

// --- buffers of JavaScript -------------------------------------------------------------------------------------------

// References to ArrayBuffers whose tensors were freed: dropped on the JavaScript thread (a tensor may be freed by another
// thread, where N-API must not be used). Never destroyed, like the tensors.
static std::mutex retiredMutex;
static std::vector<napi_ref>& retired = *new std::vector<napi_ref>();
static std::atomic<bool> anyRetired{false};

void dropRetired(napi_env env) {
  if (!anyRetired.load(std::memory_order_relaxed)) [[likely]] return;
  anyRetired = false;
  std::vector<napi_ref> gone;
  {
    std::lock_guard<std::mutex> lock(retiredMutex);
    gone.swap(retired);
  }
  for (const napi_ref reference : gone) napi_delete_reference(env, reference);
}

void readGeometry(const double* at, std::vector<int64_t>& sizes, std::optional<std::vector<int64_t>>& strides) {
  const auto rank = static_cast<size_t>(*at++);
  if (rank > 64) throw Failure("argument", "more than 64 dimensions");
  for (size_t i = 0; i < rank; i++) sizes.push_back(static_cast<int64_t>(*at++));
  if (*at++ == 1) {
    strides.emplace();
    for (size_t i = 0; i < rank; i++) strides->push_back(static_cast<int64_t>(*at++));
  }
}

int64_t extentOf(const std::vector<int64_t>& sizes, const std::optional<std::vector<int64_t>>& strides) {
  int64_t extent = 1, dense = 1;
  for (size_t i = sizes.size(); i-- > 0;) {
    if (sizes[i] < 0) throw Failure("argument", "a size is negative");
    if (sizes[i] == 0) return 0;
    const int64_t stride = strides ? (*strides)[i] : dense;
    int64_t reach;
    if (stride < 0) throw Failure("argument", "a stride is negative");
    if (__builtin_mul_overflow(sizes[i] - 1, stride, &reach) || __builtin_add_overflow(extent, reach, &extent) ||
        __builtin_mul_overflow(dense, sizes[i], &dense))
      throw Failure("argument", "the size overflows 64 bits");
  }
  return extent;
}

// fromBuffer(arrayBuffer, byteOffset, byteLength, dtype): shape in the buffer; shares the memory.
static napi_value fromBuffer(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  dropRetired(env);
  Arguments<4> args(env, info);
  void* data = nullptr;
  size_t length = 0;
  check(env, napi_get_arraybuffer_info(env, args[0], &data, &length), "an ArrayBuffer");
  const auto offset = static_cast<size_t>(number(env, args[1])), bytes = static_cast<size_t>(number(env, args[2]));
  const auto dtype = static_cast<c10::ScalarType>(static_cast<int8_t>(number(env, args[3])));
  if (offset > length || bytes > length - offset) throw Failure("extent", "the view exceeds its buffer");
  std::vector<int64_t> sizes;
  std::optional<std::vector<int64_t>> strides;
  readGeometry(buffer, sizes, strides);
  const int64_t extent = extentOf(sizes, strides);
  const auto item = static_cast<int64_t>(c10::elementSize(dtype));
  if (extent > static_cast<int64_t>(bytes) / item)
    throw Failure("extent", "the shape needs " + std::to_string(extent * item) + " bytes, the buffer has " + std::to_string(bytes));
  auto* start = static_cast<char*>(data) + offset;
  const auto options = at::TensorOptions().dtype(dtype);
  if (extent == 0) {
    buffer[0] = keep(at::empty(sizes, options));
    return nullptr;
  }
  if (reinterpret_cast<uintptr_t>(start) % item != 0) throw Failure("extent", "the buffer is not aligned for its dtype");
  napi_ref reference;
  check(env, napi_create_reference(env, args[0], 1, &reference), "an ArrayBuffer");
  const auto release = [reference](void*) {
    std::lock_guard<std::mutex> lock(retiredMutex);
    retired.push_back(reference);
    anyRetired = true;
  };
  buffer[0] = keep(strides ? at::from_blob(start, sizes, *strides, release, options) : at::from_blob(start, sizes, release, options));
  return nullptr;
  PATINA_END
}

// read(handle, arrayBuffer, byteOffset, byteLength): copies a contiguous CPU tensor's bytes out.
static napi_value read(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<4> args(env, info);
  const at::Tensor tensor = dataOf(number(env, args[0]), 0);
  void* data = nullptr;
  size_t length = 0;
  check(env, napi_get_arraybuffer_info(env, args[1], &data, &length), "an ArrayBuffer");
  const auto offset = static_cast<size_t>(number(env, args[2])), bytes = static_cast<size_t>(number(env, args[3]));
  if (tensor.is_meta()) throw Failure("meta", "a meta tensor has no data");
  if (offset > length || bytes > length - offset || bytes != tensor.nbytes()) throw Failure("extent", "the buffer does not fit the tensor");
  const at::Tensor dense = tensor.is_cpu() && tensor.is_contiguous() ? tensor : tensor.detach().to(at::kCPU).contiguous();
  if (bytes > 0) std::memcpy(static_cast<char*>(data) + offset, dense.const_data_ptr(), bytes);
  return nullptr;
  PATINA_END
}

// item(handle): buffer = [value], unless it is an integer that a double does not hold.
static napi_value item(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const at::Tensor& tensor = dataOf(number(env, args[0]), 0);
  if (tensor.is_meta()) throw Failure("meta", "a meta tensor has no data");
  if (tensor.numel() != 1) throw Failure("shape", "item() needs a tensor of one element, this one has " + std::to_string(tensor.numel()));
  const at::Scalar value = tensor.item();
  if (value.isIntegral(false)) {
    constexpr int64_t kSafe = 9007199254740991;
    const bool fits = tensor.scalar_type() == at::kUInt64 ? value.toUInt64() <= static_cast<uint64_t>(kSafe)
                                                          : value.toLong() >= -kSafe && value.toLong() <= kSafe;
    if (!fits) throw Failure("unsafe", "the integer is beyond 2^53");
  }
  buffer[0] = value.toDouble();
  return nullptr;
  PATINA_END
}

// metadata(handle): buffer = [dtype, device type, device index, requiresGrad, isLeaf, contiguous, version, storage bytes,
// storage offset, rank, sizes..., strides...].
static napi_value metadata(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const at::Tensor& tensor = tensorOf(number(env, args[0]), 0);
  if (10 + 2 * static_cast<size_t>(tensor.dim()) > capacity) throw Failure("argument", "the tensor has too many dimensions");
  double* out = buffer;
  *out++ = static_cast<double>(tensor.scalar_type());
  *out++ = static_cast<double>(tensor.device().type());
  *out++ = static_cast<double>(tensor.device().index());
  *out++ = tensor.requires_grad();
  *out++ = tensor.is_leaf();
  *out++ = tensor.is_contiguous();
  *out++ = tensor.is_inference() ? -1 : static_cast<double>(tensor._version());
  *out++ = tensor.has_storage() ? static_cast<double>(tensor.storage().nbytes()) : 0;
  *out++ = static_cast<double>(tensor.storage_offset());
  *out++ = static_cast<double>(tensor.dim());
  for (const int64_t size : tensor.sizes()) *out++ = static_cast<double>(size);
  for (const int64_t stride : tensor.strides()) *out++ = static_cast<double>(stride);
  return nullptr;
  PATINA_END
}

// storage(handle): a number that two tensors share when they lie in one storage.
static napi_value storage(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const auto* impl = tensorOf(number(env, args[0]), 0).storage().unsafeGetStorageImpl();
  return makeNumber(env, static_cast<double>(reinterpret_cast<uintptr_t>(impl)));
  PATINA_END
}

// resizeStorage(handle, bytes): frees the storage's memory (0) or allocates it again, in place: every tensor on that storage
// sees it, the version counter does not move, the contents after growing are undefined.
static napi_value resizeStorage(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  const at::Tensor& tensor = tensorOf(number(env, args[0]), 0);
  const auto bytes = static_cast<size_t>(number(env, args[1]));
  const int64_t needed = (tensor.storage_offset() + extentOf(tensor.sizes().vec(), tensor.strides().vec())) *
                         static_cast<int64_t>(tensor.itemsize());
  if (bytes != 0 && bytes < static_cast<size_t>(needed))
    throw Failure("extent", "the tensor reaches to byte " + std::to_string(needed) + " of its storage, more than " + std::to_string(bytes));
  auto* impl = tensor.storage().unsafeGetStorageImpl();
  if (!impl->resizable()) throw Failure("storage", "this storage cannot be resized: it belongs to a buffer or a mapped file");
  if (bytes == impl->nbytes()) return nullptr;
  RECORD_FUNCTION("patina::resize_storage", c10::ArrayRef<const c10::IValue>());
  const c10::DeviceGuard there(tensor.device());
  c10::Allocator* allocator = impl->allocator();
  if (allocator == nullptr) allocator = c10::GetAllocator(tensor.device().type());
  impl->set_data_ptr_noswap(allocator->allocate(bytes));
  impl->set_nbytes(bytes);
  if (bytes == 0) storagesFreed = true;
  return nullptr;
  PATINA_END
}

void registerData(napi_env env, napi_value exports) {
  addFunction(env, exports, "fromBuffer", fromBuffer);
  addFunction(env, exports, "read", read);
  addFunction(env, exports, "item", item);
  addFunction(env, exports, "metadata", metadata);
  addFunction(env, exports, "storage", storage);
  addFunction(env, exports, "resizeStorage", resizeStorage);
}

}  // namespace patina
