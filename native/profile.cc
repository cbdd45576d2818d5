// libtorch's profiler: operators of the CPU, and kernels and copies of the GPU where CUPTI is there, as a Chrome trace.
#include "common.h"

#include <ATen/record_function.h>
#include <torch/csrc/autograd/profiler_kineto.h>

#include <unordered_map>

namespace patina {

namespace profiler = torch::autograd::profiler;
namespace impl = torch::profiler::impl;

namespace {

// A named stretch of the host's work, from the call that makes it to the one that destroys it.
struct Range {
  const std::string name;  // which the record only points to
  at::RecordFunction record{at::RecordScope::USER_SCOPE};
  explicit Range(std::string given) : name(std::move(given)) { record.before(std::string_view(name)); }
};

std::unordered_map<int64_t, std::unique_ptr<Range>> ranges;
int64_t begun = 0;

// startProfile(cuda): from here on everything is recorded, with the shapes of operators' tensors.
napi_value startProfile(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const bool cuda = boolean(env, args[0]);
  std::set<impl::ActivityType> activities{impl::ActivityType::CPU};
  if (cuda) activities.insert(impl::ActivityType::CUDA);
  const impl::ProfilerConfig config(impl::ProfilerState::KINETO, /*report_input_shapes=*/true);
  profiler::prepareProfiler(config, activities);
  profiler::enableProfiler(config, activities, {at::RecordScope::FUNCTION, at::RecordScope::USER_SCOPE});
  return nullptr;
  PATINA_END
}

// stopProfile(path): writes the trace; nothing where the path is empty.
napi_value stopProfile(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const std::string path = text(env, args[0]);
  const auto result = profiler::disableProfiler();
  if (!path.empty()) result->save(path);
  return nullptr;
  PATINA_END
}

// beginRange(name): its number.
napi_value beginRange(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  ranges.emplace(++begun, std::make_unique<Range>(text(env, args[0])));
  return makeNumber(env, static_cast<double>(begun));
  PATINA_END
}

// endRange(number)
napi_value endRange(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  ranges.erase(static_cast<int64_t>(number(env, args[0])));
  return nullptr;
  PATINA_END
}

}  // namespace

void registerProfile(napi_env env, napi_value exports) {
  addFunction(env, exports, "startProfile", startProfile);
  addFunction(env, exports, "stopProfile", stopProfile);
  addFunction(env, exports, "beginRange", beginRange);
  addFunction(env, exports, "endRange", endRange);
}

}  // namespace patina
