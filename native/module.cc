// The module's entry: the table of tensors, N-API helpers, the table of exported functions.
#include "table.h"

#include <atomic>
#include <exception>

namespace patina {

double* buffer = nullptr;
size_t capacity = 0;
bool storagesFreed = false;

static Table<at::Tensor> tensors{"Tensor", "tensor"};

double keep(at::Tensor tensor) { return tensor.defined() ? tensors.keep(std::move(tensor)) : 0; }

at::Tensor& tensorOf(double handle, int argument) { return tensors.at(handle, argument); }

at::Tensor& dataOf(double handle, int argument) {
  at::Tensor& tensor = tensorOf(handle, argument);
  if (storagesFreed && tensor.numel() > 0 && tensor.has_storage() && tensor.storage().nbytes() == 0)
    throw Failure("storage", "the tensor's memory was freed by resizeStorage()", argument);
  return tensor;
}

// Each thread of JavaScript has an environment of its own.
static std::atomic<napi_env> owner{nullptr};

void checkThread(napi_env env) {
  if (owner.load(std::memory_order_relaxed) == env) [[likely]] return;
  napi_env none = nullptr;
  if (!owner.compare_exchange_strong(none, env)) throw Failure("thread", "tensors belong to the thread that made the first one");
  // Another thread's environment may get the address of one that is gone.
  napi_add_env_cleanup_hook(env, [](void*) { owner = reinterpret_cast<napi_env>(1); }, nullptr);
}

napi_value failure(napi_env env) {
  std::string kind = "operator", message;
  int argument = -1;
  try {
    throw;
  } catch (const Failure& error) {
    kind = error.kind;
    message = error.what();
    argument = error.argument;
  } catch (const c10::OutOfMemoryError& error) {
    kind = "memory";
    message = error.what_without_backtrace();
  } catch (const c10::IndexError& error) {
    kind = "index";
    message = error.what_without_backtrace();
  } catch (const c10::NotImplementedError& error) {
    kind = "unsupported";
    message = error.what_without_backtrace();
  } catch (const c10::DistError& error) {
    kind = "distributed";
    message = error.what_without_backtrace();
  } catch (const c10::Error& error) {
    message = error.what_without_backtrace();
  } catch (const std::bad_alloc&) {
    kind = "memory";
    message = "the C++ runtime could not allocate memory";
  } catch (const std::exception& error) {
    message = error.what();
  } catch (...) {
    message = "unknown C++ exception";
  }
  napi_value object;
  if (napi_create_object(env, &object) != napi_ok) return nullptr;
  setField(env, object, "kind", makeText(env, kind));
  setField(env, object, "message", makeText(env, message));
  setField(env, object, "argument", makeNumber(env, argument));
  return object;
}

void check(napi_env env, napi_status status, const char* what) {
  if (status != napi_ok) throw Failure("argument", std::string("expected ") + what);
}

std::string text(napi_env env, napi_value value) {
  size_t length = 0;
  check(env, napi_get_value_string_utf8(env, value, nullptr, 0, &length), "a string");
  std::string result(length, '\0');
  napi_get_value_string_utf8(env, value, result.data(), length + 1, &length);
  return result;
}

double number(napi_env env, napi_value value) {
  double result = 0;
  check(env, napi_get_value_double(env, value, &result), "a number");
  return result;
}

bool boolean(napi_env env, napi_value value) {
  bool result = false;
  check(env, napi_get_value_bool(env, value, &result), "a boolean");
  return result;
}

napi_value makeNumber(napi_env env, double value) {
  napi_value result;
  napi_create_double(env, value, &result);
  return result;
}

napi_value makeText(napi_env env, const std::string& value) {
  napi_value result;
  napi_create_string_utf8(env, value.data(), value.size(), &result);
  return result;
}

napi_value makeBool(napi_env env, bool value) {
  napi_value result;
  napi_get_boolean(env, value, &result);
  return result;
}

void setField(napi_env env, napi_value object, const char* name, napi_value value) {
  napi_set_named_property(env, object, name, value);
}

c10::Device deviceOf(const std::string& text) {
  c10::Device device(c10::DeviceType::CPU);
  try {
    device = c10::Device(text);
  } catch (const c10::Error&) {
    throw Failure("device", "'" + text + "' is no device");
  }
  if (!device.is_cpu() && !device.is_cuda() && !device.is_meta()) throw Failure("device", "devices like '" + text + "' are not used here");
  if (device.is_cuda()) {
    if (!loadCuda()) throw Failure("device", "no usable CUDA device: '" + text + "'");
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    const int count = at::globalContext().getAcceleratorHooksInterface(c10::DeviceType::CUDA).deviceCount();
    if (device.index() >= count)
      throw Failure("device", "device '" + text + "' does not exist: this machine has " + std::to_string(count) + " CUDA device(s)");
    if (!device.has_index()) device.set_index(0);
  }
  return device;
}

void addFunction(napi_env env, napi_value exports, const char* name, Callback callback) {
  napi_value function;
  napi_create_function(env, name, NAPI_AUTO_LENGTH, callback, nullptr, &function);
  setField(env, exports, name, function);
}

// setBuffer(Float64Array): the buffer for arguments and results.
static napi_value setBuffer(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  napi_typedarray_type type;
  size_t length, offset;
  void* data;
  napi_value array;
  check(env, napi_get_typedarray_info(env, args[0], &type, &length, &data, &array, &offset), "a Float64Array");
  if (type != napi_float64_array) throw Failure("argument", "expected a Float64Array");
  buffer = static_cast<double*>(data);
  capacity = length;
  return nullptr;
  PATINA_END
}

// release(count): frees the handles in buffer[0..count); stale ones are passed over.
static napi_value release(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const auto count = static_cast<size_t>(number(env, args[0]));
  if (count > capacity) throw Failure("argument", "more handles than the buffer holds");
  for (size_t i = 0; i < count; i++) tensors.take(buffer[i]);
  dropRetired(env);
  return nullptr;
  PATINA_END
}

static napi_value liveCount(napi_env env, napi_callback_info) {
  return makeNumber(env, static_cast<double>(tensors.live()));
}

}  // namespace patina

NAPI_MODULE_INIT() {
  using namespace patina;
  static std::once_flag once;
  std::call_once(once, [] {
    tensors.reserve(1 << 16);
    installAllocators();
    // Before anything is computed: libtorch looks for its CUDA hooks once, at the first gradient or convolution, and what is opened
    // later it never sees. What goes wrong is told to whoever asks for a GPU.
    try {
      loadCuda();
    } catch (const Failure&) {
    }
  });
  addFunction(env, exports, "setBuffer", setBuffer);
  addFunction(env, exports, "release", release);
  addFunction(env, exports, "liveTensors", liveCount);
  registerDoor(env, exports);
  registerAutograd(env, exports);
  registerData(env, exports);
  registerFiles(env, exports);
  registerMemory(env, exports);
  registerDevices(env, exports);
  registerRandom(env, exports);
  registerProfile(env, exports);
  registerGraph(env, exports);
  registerStores(env, exports);
  registerGroups(env, exports);
  registerHeartbeats(env, exports);
  registerGhost(env, exports);
  return exports;
}
