// libtorch's profiler: operators of the CPU, and kernels and copies of the GPU where CUPTI is there, as a Chrome trace.
#include "common.h"

#include <torch/csrc/autograd/profiler_kineto.h>

namespace patina {

namespace profiler = torch::autograd::profiler;
namespace impl = torch::profiler::impl;

// startProfile(cuda): from here on everything is recorded.
static napi_value startProfile(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  bool cuda = false;
  check(env, napi_get_value_bool(env, args[0], &cuda), "a boolean");
  std::set<impl::ActivityType> activities{impl::ActivityType::CPU};
  if (cuda) activities.insert(impl::ActivityType::CUDA);
  const impl::ProfilerConfig config(impl::ProfilerState::KINETO);
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities, {at::RecordScope::FUNCTION});
  return nullptr;
  PATINA_END
}

// stopProfile(path): writes the trace.
static napi_value stopProfile(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  profiler::disableProfiler()->save(text(env, args[0]));
  return nullptr;
  PATINA_END
}

void registerProfile(napi_env env, napi_value exports) {
  addFunction(env, exports, "startProfile", startProfile);
  addFunction(env, exports, "stopProfile", stopProfile);
}

}  // namespace patina
