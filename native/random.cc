// Random state: generators with seeds of their own, and the default generator of each device.
#include "common.h"

#include <ATen/CPUGeneratorImpl.h>

#include <cmath>

namespace patina {

// 0 is none. Never destroyed, like the tensors.
static std::vector<at::Generator>& generators = *new std::vector<at::Generator>{at::Generator()};
static std::vector<size_t> freeGenerators;

at::Generator& generatorOf(double handle) {
  if (!(std::abs(handle) >= 1) || handle >= static_cast<double>(generators.size())) throw Failure("argument", "expected a Generator");
  if (handle < 0 || !generators[static_cast<size_t>(handle)].defined()) throw Failure("stale", "the generator was disposed");
  return generators[static_cast<size_t>(handle)];
}

static double add(at::Generator generator) {
  if (freeGenerators.empty()) {
    generators.push_back(std::move(generator));
    return static_cast<double>(generators.size() - 1);
  }
  const size_t id = freeGenerators.back();
  freeGenerators.pop_back();
  generators[id] = std::move(generator);
  return static_cast<double>(id);
}

static uint64_t seedOf(napi_env env, napi_value value) {
  uint64_t seed = 0;
  bool lossless = false;
  check(env, napi_get_value_bigint_uint64(env, value, &seed, &lossless), "a bigint");
  if (!lossless) throw Failure("argument", "the seed does not fit in 64 bits");
  return seed;
}

// newGenerator(device, seed). Meta tensors draw nothing, so their generator is the CPU's.
static napi_value newGenerator(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  const c10::Device device = deviceOf(text(env, args[0]));
  at::Generator generator = device.is_cuda()
      ? at::globalContext().getAcceleratorHooksInterface(device.type()).getNewGenerator(device.index())
      : at::detail::createCPUGenerator();
  generator.set_current_seed(seedOf(env, args[1]));
  return makeNumber(env, add(std::move(generator)));
  PATINA_END
}

// defaultGenerator(device): the one that operators use when they are given none.
static napi_value defaultGenerator(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const c10::Device device = deviceOf(text(env, args[0]));
  return makeNumber(env, add(device.is_cuda() ? at::globalContext().defaultGenerator(device) : at::detail::getDefaultCPUGenerator()));
  PATINA_END
}

static napi_value dropGenerator(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const double handle = number(env, args[0]);
  generatorOf(handle) = at::Generator();
  freeGenerators.push_back(static_cast<size_t>(handle));
  return nullptr;
  PATINA_END
}

static napi_value seedGenerator(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  at::Generator& generator = generatorOf(number(env, args[0]));
  std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_current_seed(seedOf(env, args[1]));
  return nullptr;
  PATINA_END
}

// generatorState(generator): buffer[0] = handle of a uint8 CPU tensor.
static napi_value generatorState(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  at::Generator& generator = generatorOf(number(env, args[0]));
  std::lock_guard<std::mutex> lock(generator.mutex());
  buffer[0] = keep(generator.get_state());
  return nullptr;
  PATINA_END
}

static napi_value setGeneratorState(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  at::Generator& generator = generatorOf(number(env, args[0]));
  std::lock_guard<std::mutex> lock(generator.mutex());
  generator.set_state(tensorOf(number(env, args[1]), 1));
  return nullptr;
  PATINA_END
}

void registerRandom(napi_env env, napi_value exports) {
  addFunction(env, exports, "newGenerator", newGenerator);
  addFunction(env, exports, "defaultGenerator", defaultGenerator);
  addFunction(env, exports, "dropGenerator", dropGenerator);
  addFunction(env, exports, "seedGenerator", seedGenerator);
  addFunction(env, exports, "generatorState", generatorState);
  addFunction(env, exports, "setGeneratorState", setGeneratorState);
}

}  // namespace patina
