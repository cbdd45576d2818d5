// Shared by all files of the addon: N-API helpers, the table of tensors, the shared buffer, failures.
//
// The addon is thin and dumb: it checks only what memory safety needs (handles, kinds, extents). Everything else is validated
// in TypeScript, which also turns a failure into an error class with a hint.
#pragma once

#include <node_api.h>

#include <ATen/ATen.h>
#include <ATen/core/Generator.h>
#include <ATen/core/dispatch/Dispatcher.h>

#include <cstdint>
#include <functional>
#include <optional>
#include <stdexcept>
#include <string>
#include <vector>

namespace patina {

// ---------------------------------------------------------------------------------------------------------------------
// Failures. A failing call returns an object {kind, message, argument} to TypeScript instead of throwing, so that the error
// class is made there, with the caller's stack. Success returns undefined.

struct Failure : std::runtime_error {
  std::string kind;   // 'stale', 'argument', 'operator', 'schema', 'thread', 'memory', 'file', 'index', ...
  int argument = -1;  // position of the argument, counted as in the operator's schema; -1: none
  Failure(std::string kind, const std::string& message, int argument = -1)
      : std::runtime_error(message), kind(std::move(kind)), argument(argument) {}
};

// Turns whatever exception is being handled into the object above.
napi_value failure(napi_env env);

#define PATINA_TRY try {
#define PATINA_END                   \
  }                                  \
  catch (...) {                      \
    return ::patina::failure(env);   \
  }

// ---------------------------------------------------------------------------------------------------------------------
// The shared buffer: one Float64Array through which arguments and results travel, owned by TypeScript.

extern double* buffer;
extern size_t capacity;

// ---------------------------------------------------------------------------------------------------------------------
// Tensors live in a table (table.h); 0 means "no tensor".

// Keeps the tensor and returns its handle (0 for an undefined tensor).
double keep(at::Tensor tensor);
// The tensor of a handle; throws Failure 'stale' or 'argument' with the argument's position.
at::Tensor& tensorOf(double handle, int argument = -1);
// The same, for code that touches the elements: throws Failure 'storage' where resizeStorage() has freed them.
at::Tensor& dataOf(double handle, int argument = -1);
// Whether resizeStorage() has freed any storage so far.
extern bool storagesFreed;

// ---------------------------------------------------------------------------------------------------------------------
// Threads: tensor code stays on the thread that made the first call.

void checkThread(napi_env env);

// A promise for what runs on another thread: `work` there, then `done` on this one, whose value resolves it (undefined without one).
// What either throws rejects it with the object of failure(). Both are destroyed on this thread. There are few such threads (four,
// unless UV_THREADPOOL_SIZE says otherwise), so work that waits for other such work can wait for ever: it takes a Worker (worker.h).
napi_value asyncWork(napi_env env, const char* name, std::function<void()> work, std::function<napi_value(napi_env)> done = nullptr);

// ---------------------------------------------------------------------------------------------------------------------
// N-API helpers.

std::string text(napi_env env, napi_value value);
double number(napi_env env, napi_value value);
bool boolean(napi_env env, napi_value value);
napi_value makeNumber(napi_env env, double value);
napi_value makeText(napi_env env, const std::string& value);
napi_value makeBool(napi_env env, bool value);
void setField(napi_env env, napi_value object, const char* name, napi_value value);
void check(napi_env env, napi_status status, const char* what);

template <size_t N>
struct Arguments {
  size_t count = N;
  napi_value values[N];
  Arguments(napi_env env, napi_callback_info info) {
    napi_get_cb_info(env, info, &count, values, nullptr, nullptr);
  }
  napi_value operator[](size_t index) const { return values[index]; }
};

c10::Device deviceOf(const std::string& text);

// Opens the CUDA libraries beside libtorch_cpu if they are there; true when they are loaded.
bool loadCuda();
// Gives the calling thread the context of a GPU, which it otherwise has from its first kernel on.
void enterContext(c10::Device device);

using Callback = napi_value (*)(napi_env, napi_callback_info);
void addFunction(napi_env env, napi_value exports, const char* name, Callback callback);

void registerDoor(napi_env env, napi_value exports);
void registerAutograd(napi_env env, napi_value exports);
void registerData(napi_env env, napi_value exports);
void registerFiles(napi_env env, napi_value exports);
void registerMemory(napi_env env, napi_value exports);
void registerDevices(napi_env env, napi_value exports);
void registerRandom(napi_env env, napi_value exports);
void registerProfile(napi_env env, napi_value exports);
void registerGraph(napi_env env, napi_value exports);
void registerStores(napi_env env, napi_value exports);
void registerGroups(napi_env env, napi_value exports);
void registerHeartbeats(napi_env env, napi_value exports);
void registerGhost(napi_env env, napi_value exports);

// The generator of a handle; 0 is "none" (the device's default generator).
at::Generator& generatorOf(double handle, int argument = -1);

void installAllocators();

// Lets go of the ArrayBuffers whose tensors were freed.
void dropRetired(napi_env env);

// Shape and strides from the buffer: [rank, sizes..., hasStrides, strides...] starting at `at`.
void readGeometry(const double* at, std::vector<int64_t>& sizes, std::optional<std::vector<int64_t>>& strides);
// Elements that a view reaches, one past the last; throws on overflow.
int64_t extentOf(const std::vector<int64_t>& sizes, const std::optional<std::vector<int64_t>>& strides);

}  // namespace patina
