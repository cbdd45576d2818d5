// Autograd: gradients of some tensors with respect to others, grad mode, inference mode.
#include "common.h"

#include <ATen/core/grad_mode.h>
#include <c10/core/InferenceMode.h>
#include <torch/csrc/autograd/autograd.h>
#include <torch/csrc/autograd/variable.h>

#include <unordered_set>

namespace patina {

// Lets the thread that computes gradients on a GPU enter its context, once: cuBLAS warns if it is the first there to need one.
// The thread is only reached by a backward; this one is of no elements, and so takes no memory.
static void enterGradientContext(c10::Device device) {
  static auto& entered = *new std::unordered_set<c10::Device>();
  if (!entered.insert(device).second) return;
  const at::AutoGradMode recorded(true);
  const auto input = at::empty({0}, device).requires_grad_();
  const auto output = input.clone();
  output.register_hook([device](const at::Tensor&) { enterContext(device); });
  torch::autograd::grad({output}, {input}, {input.detach()});
}

// grad(): buffer = [outputs n, inputs m, n handles, m handles, n upstream gradients (0: none)]; leaves m handles,
// 0 where an input was not used.
static napi_value grad(napi_env env, napi_callback_info) {
  PATINA_TRY
  checkThread(env);
  const auto outputCount = static_cast<size_t>(buffer[0]), inputCount = static_cast<size_t>(buffer[1]);
  if (2 + 2 * outputCount + inputCount > capacity) throw Failure("argument", "the tensors exceed the buffer");
  const double* at = buffer + 2;
  torch::autograd::variable_list outputs, inputs, upstream;
  for (size_t i = 0; i < outputCount; i++) outputs.push_back(tensorOf(*at++, 0));
  for (size_t i = 0; i < inputCount; i++) inputs.push_back(tensorOf(*at++, 1));
  for (size_t i = 0; i < outputCount; i++, at++) upstream.push_back(*at == 0 ? at::Tensor() : tensorOf(*at, 2));
  for (const at::Tensor& input : inputs)
    if (input.is_cuda()) enterGradientContext(input.device());
  auto gradients = torch::autograd::grad(outputs, inputs, upstream, false, false, true);
  for (size_t i = 0; i < gradients.size(); i++) buffer[i] = keep(std::move(gradients[i]));
  return nullptr;
  PATINA_END
}

// setGradMode(enabled): the mode before.
static napi_value setGradMode(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const bool before = at::GradMode::is_enabled();
  at::GradMode::set_enabled(boolean(env, args[0]));
  return makeBool(env, before);
  PATINA_END
}

static napi_value gradMode(napi_env env, napi_callback_info) {
  return makeBool(env, at::GradMode::is_enabled());
}

// inferenceMode(f): runs the function in inference mode. An exception that it throws stays pending and reaches the caller.
static napi_value inferenceMode(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  c10::InferenceMode guard(true);
  napi_value receiver, result = nullptr;
  napi_get_undefined(env, &receiver);
  napi_call_function(env, receiver, args[0], 0, nullptr, &result);
  return result;
  PATINA_END
}

// setRequiresGrad(handle, value)
static napi_value setRequiresGrad(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  tensorOf(number(env, args[0]), 0).set_requires_grad(boolean(env, args[1]));
  return nullptr;
  PATINA_END
}

void registerAutograd(napi_env env, napi_value exports) {
  addFunction(env, exports, "grad", grad);
  addFunction(env, exports, "setGradMode", setGradMode);
  addFunction(env, exports, "gradMode", gradMode);
  addFunction(env, exports, "inferenceMode", inferenceMode);
  addFunction(env, exports, "setRequiresGrad", setRequiresGrad);
}

}  // namespace patina
