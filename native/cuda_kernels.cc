// Compiles our kernels for CUDA by NVRTC and launches them through the driver. Both libraries come with libtorch's CUDA set or the
// driver and are opened here, so that neither the build nor a machine without a GPU needs them. What was compiled is kept beside the
// addon, by the sources, the card and the version of NVRTC.
#include "cuda_kernels.h"

#include "group.h"

#include <ATen/Parallel.h>
#include <c10/util/Exception.h>
#include <dlfcn.h>
#include <unistd.h>

#include <fstream>
#include <mutex>
#include <unordered_map>

namespace patina {
namespace {

struct Text {
  const char* name;
  const char* text;
};

const Text TEXTS[] = {
#include "kernel_texts.inc"
};

// A function by a shape of its own, since the headers are not there.
template <typename... Taken>
class Function {
 public:
  Function(void* library, const char* name) : call(reinterpret_cast<int (*)(Taken...)>(dlsym(library, name))), name(name) {
    if (call == nullptr) throw std::runtime_error(std::string("there is no ") + name);
  }
  // Their functions return 0 when all is well.
  void operator()(Taken... given) const {
    if (const int code = call(given...); code != 0) throw std::runtime_error(std::string(name) + " fails with error " + std::to_string(code));
  }

 private:
  int (*call)(Taken...);
  const char* name;
};

void* opened(std::initializer_list<const char*> names) {
  for (const char* name : names)
    if (void* library = dlopen(name, RTLD_LAZY)) return library;
  throw std::runtime_error(std::string("there is no ") + *names.begin());
}

// libtorch's own, which its stub knows the way to; else one of the system's.
void* openNvrtc() {
  const auto stub = beside(reinterpret_cast<const void*>(&at::get_num_threads), "libcaffe2_nvrtc.so");
  dlopen(stub.c_str(), RTLD_LAZY);
  void* library = opened({"libnvrtc.so.13", "libnvrtc.so.12"});
  // It opens this one by its bare name, which the system knows only if it is open already.
  int major = 0, minor = 0;
  Function<int*, int*>(library, "nvrtcVersion")(&major, &minor);
  const std::string builtins = "libnvrtc-builtins.so." + std::to_string(major) + "." + std::to_string(minor);
  dlopen(beside(dlsym(library, "nvrtcVersion"), builtins).c_str(), RTLD_LAZY);
  return library;
}

struct Nvrtc {
  using Program = void*;
  void* library = openNvrtc();
  Function<int*, int*> version{library, "nvrtcVersion"};
  Function<Program*, const char*, const char*, int, const char* const*, const char* const*> create{library, "nvrtcCreateProgram"};
  Function<Program, int, const char* const*> compile{library, "nvrtcCompileProgram"};
  Function<Program, size_t*> logSize{library, "nvrtcGetProgramLogSize"};
  Function<Program, char*> log{library, "nvrtcGetProgramLog"};
  Function<Program, size_t*> binarySize{library, "nvrtcGetCUBINSize"};
  Function<Program, char*> binary{library, "nvrtcGetCUBIN"};
  Function<Program*> destroy{library, "nvrtcDestroyProgram"};
};

struct Driver {
  using Context = void*;
  using Module = void*;
  void* library = opened({"libcuda.so.1"});
  Function<int*, int> device{library, "cuDeviceGet"};
  Function<int*, int, int> attribute{library, "cuDeviceGetAttribute"};
  Function<Context*, int> retainPrimary{library, "cuDevicePrimaryCtxRetain"};
  Function<Context> push{library, "cuCtxPushCurrent_v2"};
  Function<Context*> pop{library, "cuCtxPopCurrent_v2"};
  Function<Module*, const void*> load{library, "cuModuleLoadData"};
  Function<void**, Module, const char*> find{library, "cuModuleGetFunction"};
  Function<void*, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, unsigned, void*, void**, void**> launch{library, "cuLaunchKernel"};
};

const Driver& driver() {
  static const Driver functions;
  return functions;
}

// Changes with the sources.
std::string fingerprint() {
  std::string all;
  for (const Text& each : TEXTS) all += each.text;
  return std::to_string(std::hash<std::string>()(all));
}

// All kernels as one program for an architecture such as sm_90.
std::string compiled(const Nvrtc& nvrtc, const std::string& architecture) {
  std::string source;
  std::vector<const char*> texts, names;
  for (const Text& each : TEXTS) {
    texts.push_back(each.text);
    names.push_back(each.name);
    if (std::string(each.name).ends_with(".cu")) source += std::string("#include \"") + each.name + "\"\n";
  }
  Nvrtc::Program program = nullptr;
  nvrtc.create(&program, source.c_str(), "patina.cu", static_cast<int>(texts.size()), texts.data(), names.data());
  const std::string target = "--gpu-architecture=" + architecture;
  std::vector<const char*> options = {target.c_str(), "--std=c++17"};
  int major = 0, minor = 0;
  nvrtc.version(&major, &minor);
  // Kernels on as many cores as there are: whoever trains first on a machine waits for them.
  if (major >= 13) options.push_back("--split-compile=0");
  size_t size = 0;
  try {
    nvrtc.compile(program, static_cast<int>(options.size()), options.data());
  } catch (const std::runtime_error& error) {
    nvrtc.logSize(program, &size);
    std::string log(size, '\0');
    nvrtc.log(program, log.data());
    nvrtc.destroy(&program);
    throw std::runtime_error(std::string(error.what()) + ": " + log.c_str());
  }
  nvrtc.binarySize(program, &size);
  std::string binary(size, '\0');
  nvrtc.binary(program, binary.data());
  nvrtc.destroy(&program);
  return binary;
}

// The same, from the folder of the addon where it is there. Whoever cannot write there compiles each time.
std::string program(const std::string& architecture) {
  const Nvrtc nvrtc;
  int major = 0, minor = 0;
  nvrtc.version(&major, &minor);
  const std::string name = "kernels-" + fingerprint() + "-" + architecture + "-nvrtc" + std::to_string(major) + "." + std::to_string(minor) + ".cubin";
  const auto path = beside(reinterpret_cast<const void*>(&program), name);
  if (std::ifstream file(path, std::ios::binary); file) return std::string(std::istreambuf_iterator<char>(file), {});
  const std::string binary = compiled(nvrtc, architecture);
  // Whole or absent, also when several processes come at once.
  std::string draft = path.string() + ".XXXXXX";
  if (const int file = mkstemp(draft.data()); file >= 0) {
    const bool isWhole = write(file, binary.data(), binary.size()) == static_cast<ssize_t>(binary.size());
    close(file);
    std::error_code failed;
    if (isWhole) std::filesystem::rename(draft, path, failed);
    if (!isWhole || failed) std::filesystem::remove(draft, failed);
  }
  return binary;
}

// What a device has loaded.
struct Loaded {
  Driver::Context context = nullptr;
  Driver::Module module = nullptr;
  std::unordered_map<std::string, void*> functions;
};

// Runs within a device's primary context, which libtorch's own work is in too.
template <typename Work>
void within(Driver::Context context, const Work& work) {
  driver().push(context);
  Driver::Context popped = nullptr;
  try {
    work();
  } catch (...) {
    driver().pop(&popped);
    throw;
  }
  driver().pop(&popped);
}

Loaded load(int index) {
  if (cudaFunction("patina_cuda_current_stream") == nullptr) throw std::runtime_error("the addon was built where the headers of CUDA were not");
  Loaded loaded;
  int device = 0, major = 0, minor = 0;
  driver().device(&device, index);
  driver().attribute(&major, 75, device);  // CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR
  driver().attribute(&minor, 76, device);  // ..._MINOR
  const std::string binary = program("sm_" + std::to_string(major) + std::to_string(minor));
  driver().retainPrimary(&loaded.context, device);
  within(loaded.context, [&] { driver().load(&loaded.module, binary.data()); });
  return loaded;
}

// Of each device that has asked; one without a module could not compile them.
std::mutex mutex;
std::unordered_map<int, Loaded>& devices = *new std::unordered_map<int, Loaded>();

Loaded& loadedOf(int index) {
  if (const auto found = devices.find(index); found != devices.end()) return found->second;
  Loaded& loaded = devices[index];
  try {
    loaded = load(index);
  } catch (const std::exception& error) {
    TORCH_WARN("Patina's own CUDA kernels cannot be used on cuda:", index, ", and slower ones of libtorch stand in: ", error.what());
  }
  return loaded;
}

}  // namespace

CudaKernel cudaKernel(const char* name, c10::Device device) {
  const std::lock_guard<std::mutex> lock(mutex);
  Loaded& loaded = loadedOf(device.index());
  if (loaded.module == nullptr) return CudaKernel();
  void*& function = loaded.functions[name];
  if (function == nullptr) within(loaded.context, [&] { driver().find(&function, loaded.module, name); });
  return CudaKernel(function, loaded.context, device);
}

void CudaKernel::launch(int64_t threads, std::initializer_list<const void*> arguments) const {
  constexpr int64_t BLOCK = 256;
  if (threads == 0) return;
  TORCH_CHECK(threads <= BLOCK * INT32_MAX, threads, " threads are more than a kernel can have");
  auto* const streamOf = reinterpret_cast<void* (*)(int)>(cudaFunction("patina_cuda_current_stream"));
  std::vector<void*> pointers;
  for (const void* argument : arguments) pointers.push_back(const_cast<void*>(argument));
  const auto blocks = static_cast<unsigned>((threads + BLOCK - 1) / BLOCK);
  within(context, [&] {
    driver().launch(function, blocks, 1, 1, BLOCK, 1, 1, 0, streamOf(device.index()), pointers.data(), nullptr);
  });
}

}  // namespace patina
