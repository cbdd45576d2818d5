// Devices: opening the CUDA libraries, facts, streams, events, synchronisation, threads.
#include "ghost.h"
#include "group.h"
#include "table.h"

#include <ATen/Parallel.h>
#include <ATen/Version.h>
#include <c10/core/DeviceGuard.h>
#include <c10/core/Event.h>
#include <c10/core/impl/VirtualGuardImpl.h>
#include <dlfcn.h>
#include <torch/version.h>

#include <unordered_map>

namespace patina {

namespace {

void* cudaExtras = nullptr;  // patina_cuda, beside this addon

// Fails quietly where there is no driver: that is the normal case on a machine without a GPU.
bool openCuda() {
  if (dlopen("libcuda.so.1", RTLD_LAZY | RTLD_GLOBAL) == nullptr) return false;
  const auto library = beside(reinterpret_cast<const void*>(&at::get_num_threads), "libtorch_cuda.so");
  if (!std::filesystem::exists(library)) return false;
  if (dlopen(library.c_str(), RTLD_LAZY | RTLD_GLOBAL) == nullptr) throw Failure("device", std::string("cannot open the CUDA libraries: ") + dlerror());
  const auto extras = beside(reinterpret_cast<const void*>(&openCuda), "patina_cuda.so");
  if (std::filesystem::exists(extras)) cudaExtras = dlopen(extras.c_str(), RTLD_LAZY);
  return at::globalContext().getAcceleratorHooksInterface(c10::DeviceType::CUDA).deviceCount() > 0;
}

// A function of a library that libtorch has already opened.
template <typename F>
F loaded(const char* library, const char* name) {
  void* handle = dlopen(library, RTLD_LAZY | RTLD_NOLOAD);
  return handle == nullptr ? nullptr : reinterpret_cast<F>(dlsym(handle, name));
}

// A function of the CUDA runtime, whichever of the two that libtorch has been built with.
template <typename F>
F runtimeFunction(const char* name) {
  if (auto* found = loaded<F>("libcudart.so.13", name)) return found;
  return loaded<F>("libcudart.so.12", name);
}

Table<c10::Event> events{"DeviceEvent", "event"};
Table<c10::Stream> streams{"Stream", "stream"};

// Streams live as long as the process, so each has one handle for good.
double handleOf(c10::Stream stream) {
  static auto& handles = *new std::unordered_map<c10::Stream, double>();
  const auto [at, isNew] = handles.try_emplace(stream, 0);
  if (isNew) at->second = streams.keep(stream);
  return at->second;
}

}  // namespace

std::filesystem::path beside(const void* function, const std::string& name) {
  Dl_info found;
  if (dladdr(function, &found) == 0) return {};
  return std::filesystem::path(found.dli_fname).parent_path() / name;
}

bool loadCuda() {
  static const bool usable = openCuda();
  return usable;
}

void enterContext(c10::Device device) {
  // libtorch's own guards leave out this call for the device that is current already, as the first one is in any new thread.
  if (auto* set = runtimeFunction<int (*)(int)>("cudaSetDevice")) set(device.index());
}

void* cudaFunction(const char* name) {
  if (!loadCuda() || cudaExtras == nullptr) return nullptr;
  return dlsym(cudaExtras, name);
}

std::string ncclFault() {
  if (!loadCuda()) return "there is no GPU that libtorch can use";
  if (cudaExtras == nullptr) return "the addon was built where the headers of CUDA were not";
  if (cudaFunction("patina_nccl_group") == nullptr) return "the addon was built where the headers of NCCL were not";
  return "";
}

bool setCudaLimit(int index, double bytes) {
  auto* set = reinterpret_cast<void (*)(int, double)>(cudaFunction("patina_cuda_set_memory_limit"));
  if (set == nullptr) return false;
  set(index, bytes);
  return true;
}

// Bytes of a GPU that nobody has taken; a context is opened there.
static double freeOf(c10::Device device) {
  size_t free = 0, total = 0;
  const c10::DeviceGuard guard(device);
  if (auto* get = runtimeFunction<int (*)(size_t*, size_t*)>("cudaMemGetInfo")) get(&free, &total);
  return static_cast<double>(free);
}

// freeMemory(device): bytes of a GPU that nobody has taken.
static napi_value freeMemory(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const c10::Device device = deviceOf(text(env, args[0]));
  if (device.type() != c10::DeviceType::CUDA) throw Failure("device", "only a GPU tells its free memory, not " + device.str());
  return makeNumber(env, freeOf(device));
  PATINA_END
}

// facts(freeMemory): {version, cpuCapability, threads, cuda: null | {driver, runtime, devices: [...]}, cudaError?, ncclError?: text}. The driver tells
// them all but the free memory of a GPU, which takes a context there: some hundred MiB of each card that is asked.
static napi_value facts(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const bool freeMemory = boolean(env, args[0]);
  napi_value object, cuda;
  napi_create_object(env, &object);
  setField(env, object, "version", makeText(env, TORCH_VERSION));
  setField(env, object, "cpuCapability", makeText(env, at::get_cpu_capability()));
  setField(env, object, "threads", makeNumber(env, at::get_num_threads()));
  napi_get_null(env, &cuda);
  bool usable = false;
  try {
    usable = loadCuda();
    if (const std::string fault = ncclFault(); !fault.empty()) setField(env, object, "ncclError", makeText(env, fault));
  } catch (const Failure& error) {
    setField(env, object, "cudaError", makeText(env, error.what()));
    setField(env, object, "ncclError", makeText(env, error.what()));
  }
  if (usable) {
    napi_create_object(env, &cuda);
    const auto decimal = [](int version) { return std::to_string(version / 1000) + "." + std::to_string(version % 1000 / 10); };
    int driver = 0, runtime = 0;
    if (auto* get = loaded<int (*)(int*)>("libcuda.so.1", "cuDriverGetVersion")) get(&driver);
    if (auto* get = runtimeFunction<int (*)(int*)>("cudaRuntimeGetVersion")) get(&runtime);
    setField(env, cuda, "driver", makeText(env, decimal(driver)));
    setField(env, cuda, "runtime", makeText(env, decimal(runtime)));
    napi_value list;
    napi_create_array(env, &list);
    at::globalContext().lazyInitDevice(c10::DeviceType::CUDA);
    const int count = at::globalContext().getAcceleratorHooksInterface(c10::DeviceType::CUDA).deviceCount();
    for (int i = 0; i < count; i++) {
      napi_value device;
      napi_create_object(env, &device);
      char name[256] = "";
      int major = 0, minor = 0;
      if (auto* get = loaded<int (*)(char*, int, int)>("libcuda.so.1", "cuDeviceGetName")) get(name, sizeof name, i);
      if (auto* get = loaded<int (*)(int*, int, int)>("libcuda.so.1", "cuDeviceGetAttribute")) {
        get(&major, 75, i);  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
        get(&minor, 76, i);  // ..._MINOR
      }
      size_t total = 0;
      if (auto* get = loaded<int (*)(size_t*, int)>("libcuda.so.1", "cuDeviceTotalMem_v2")) get(&total, i);
      setField(env, device, "index", makeNumber(env, i));
      setField(env, device, "name", makeText(env, name));
      setField(env, device, "capability", makeText(env, std::to_string(major) + "." + std::to_string(minor)));
      setField(env, device, "totalBytes", makeNumber(env, static_cast<double>(total)));
      if (freeMemory) {
        const c10::Device asked(c10::DeviceType::CUDA, static_cast<c10::DeviceIndex>(i));
        setField(env, device, "freeBytes", makeNumber(env, freeOf(asked)));
      }
      napi_set_element(env, list, i, device);
    }
    setField(env, cuda, "devices", list);
  }
  setField(env, object, "cuda", cuda);
  return object;
  PATINA_END
}

// setThreads(count): threads that one CPU operator may use.
static napi_value setThreads(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  at::set_num_threads(static_cast<int>(number(env, args[0])));
  return nullptr;
  PATINA_END
}

static napi_value threads(napi_env env, napi_callback_info) { return makeNumber(env, at::get_num_threads()); }

static void waitFor(c10::Device device) {
  if (device.is_cuda()) c10::impl::VirtualGuardImpl(device.type()).synchronizeDevice(device.index());
}

// synchronize(device): waits until the device has done all work given to it.
static napi_value synchronize(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  waitFor(deviceOf(text(env, args[0])));
  return nullptr;
  PATINA_END
}

// synchronizeAsync(device): a promise of the same, waited for on another thread.
static napi_value synchronizeAsync(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const c10::Device device = deviceOf(text(env, args[0]));
  return asyncWork(env, "patina:synchronize", [device] { waitFor(device); });
  PATINA_END
}

c10::Stream streamOf(double handle) { return streams.at(handle); }

// newStream(device), currentStream(device): its handle. setStream(stream): the handle of the one before.
static napi_value newStream(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const c10::Device device = deviceOf(text(env, args[0]));
  if (device.is_meta()) return makeNumber(env, handleOf(ghost::newStream()));
  return makeNumber(env, handleOf(c10::impl::VirtualGuardImpl(device.type()).getStreamFromGlobalPool(device)));
  PATINA_END
}

static napi_value currentStream(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const c10::Device device = deviceOf(text(env, args[0]));
  if (device.is_meta()) return makeNumber(env, handleOf(ghost::currentStream()));
  return makeNumber(env, handleOf(c10::impl::VirtualGuardImpl(device.type()).getStream(device)));
  PATINA_END
}

static napi_value setStream(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const c10::Stream stream = streams.at(number(env, args[0]));
  if (stream.device_type() == c10::DeviceType::Meta) return makeNumber(env, handleOf(ghost::exchangeStream(stream)));
  return makeNumber(env, handleOf(c10::impl::VirtualGuardImpl(stream.device_type()).exchangeStream(stream)));
  PATINA_END
}

// recordStream(tensor, stream): the tensor's memory is not given out again before the stream has passed this point.
static napi_value recordStream(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  at::Tensor& tensor = tensorOf(number(env, args[0]), 0);
  const c10::Stream stream = streams.at(number(env, args[1]));
  if (tensor.is_meta()) ghost::protectedFor(tracedAllocation(tensor), stream);
  else tensor.record_stream(stream);
  return nullptr;
  PATINA_END
}

// newEvent(device, timed): its handle.
static napi_value newEvent(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  const c10::Device device = deviceOf(text(env, args[0]));
  const bool timed = boolean(env, args[1]);
  return makeNumber(env, events.keep(c10::Event(device.type(), timed ? c10::EventFlag::BACKEND_DEFAULT : c10::EventFlag::PYTORCH_DEFAULT)));
  PATINA_END
}

static napi_value dropEvent(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  events.drop(number(env, args[0]));
  return nullptr;
  PATINA_END
}

static napi_value recordEvent(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  events.at(number(env, args[0])).record(streams.at(number(env, args[1])));
  return nullptr;
  PATINA_END
}

// waitEvent(event, stream): the stream's later work waits for the event; the host does not.
static napi_value waitEvent(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  events.at(number(env, args[0])).block(streams.at(number(env, args[1])));
  return nullptr;
  PATINA_END
}

static napi_value queryEvent(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  return makeBool(env, events.at(number(env, args[0])).query());
  PATINA_END
}

static napi_value synchronizeEvent(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  events.at(number(env, args[0])).synchronize();
  return nullptr;
  PATINA_END
}

// elapsed(from, to): milliseconds between two timed events.
static napi_value elapsed(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  return makeNumber(env, events.at(number(env, args[0])).elapsedTime(events.at(number(env, args[1]))));
  PATINA_END
}

void registerDevices(napi_env env, napi_value exports) {
  addFunction(env, exports, "facts", facts);
  addFunction(env, exports, "freeMemory", freeMemory);
  addFunction(env, exports, "setThreads", setThreads);
  addFunction(env, exports, "threads", threads);
  addFunction(env, exports, "synchronize", synchronize);
  addFunction(env, exports, "synchronizeAsync", synchronizeAsync);
  addFunction(env, exports, "newStream", newStream);
  addFunction(env, exports, "currentStream", currentStream);
  addFunction(env, exports, "setStream", setStream);
  addFunction(env, exports, "recordStream", recordStream);
  addFunction(env, exports, "newEvent", newEvent);
  addFunction(env, exports, "dropEvent", dropEvent);
  addFunction(env, exports, "recordEvent", recordEvent);
  addFunction(env, exports, "waitEvent", waitEvent);
  addFunction(env, exports, "queryEvent", queryEvent);
  addFunction(env, exports, "synchronizeEvent", synchronizeEvent);
  addFunction(env, exports, "elapsed", elapsed);
}

}  // namespace patina
