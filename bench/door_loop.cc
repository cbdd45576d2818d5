// The floor of `npm run bench:joint`: the same operators in a C++ loop, nothing between them. Compiled by cpp-loop.ts.
#include <node_api.h>

#include <ATen/ATen.h>

namespace {

// name(device, calls): runs the operator so often on inputs of its own.
template <void (*run)(const c10::Device&, int64_t)>
napi_value timed(napi_env env, napi_callback_info info) {
  size_t count = 2;
  napi_value args[2];
  char device[16] = "";
  int64_t calls = 0;
  napi_get_cb_info(env, info, &count, args, nullptr, nullptr);
  napi_get_value_string_utf8(env, args[0], device, sizeof device, nullptr);
  napi_get_value_int64(env, args[1], &calls);
  try {
    run(c10::Device(device), calls);
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
  }
  return nullptr;
}

void add(const c10::Device& device, int64_t calls) {
  const at::Tensor x = at::ones({4}, device), y = at::ones({4}, device);
  for (int64_t i = 0; i < calls; i++) at::add(x, y);
}

void linear(const c10::Device& device, int64_t calls) {
  const at::Tensor x = at::ones({4, 64}, device), w = at::ones({64, 64}, device);
  for (int64_t i = 0; i < calls; i++) at::linear(x, w);
}

}  // namespace

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"add", nullptr, timed<add>, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"linear", nullptr, timed<linear>, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, 2, functions);
  return exports;
}
