// Random state: generators with seeds of their own, and the default generator of each device.
#include "table.h"

#include <ATen/CPUGeneratorImpl.h>

namespace patina {

static Table<at::Generator> generators{"RandomGenerator", "generator"};

at::Generator& generatorOf(double handle, int argument) { return generators.at(handle, argument); }

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
  return makeNumber(env, generators.keep(std::move(generator)));
  PATINA_END
}

// defaultGenerator(device): the one that operators use when they are given none.
static napi_value defaultGenerator(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const c10::Device device = deviceOf(text(env, args[0]));
  return makeNumber(env, generators.keep(device.is_cuda() ? at::globalContext().defaultGenerator(device) : at::detail::getDefaultCPUGenerator()));
  PATINA_END
}

static napi_value dropGenerator(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  generators.drop(number(env, args[0]));
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
