// What autograd recorded: the nodes behind a tensor and the tensors that each saved for its backward. Used to check that a
// ghost run on meta tensors records the very graph that the device records.
#include "common.h"

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/variable.h>
#include <torch/csrc/dynamo/compiled_autograd.h>

#include <unordered_set>

namespace patina {

// A shared_ptr up to libtorch 2.14, an intrusive_ptr from 2.15 on.
using NodePointer = decltype(torch::autograd::Edge::function);

// The saved tensors of a node, through the visitor that every built-in node has for compiled autograd.
static std::vector<at::Tensor> savedTensors(const NodePointer& node) {
  using namespace torch::dynamo::autograd;
  AutogradCompilerCall compiler(SizeInput::DYNAMIC);
  CompiledNodeArgs args(compiler, compiler.node_calls.lookup(node));
  node->compiled_args(args);
  return compiler.tensor_args.inputs;
}

// graph(handle): [{name, saved: [{dtype, shape}]}], depth first from the tensor's own node; leaves are left out.
static napi_value graph(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  napi_value list;
  napi_create_array(env, &list);
  uint32_t count = 0;
  std::unordered_set<torch::autograd::Node*> seen;
  std::vector<NodePointer> pending;
  if (auto root = tensorOf(number(env, args[0]), 0).grad_fn()) pending.push_back(root);
  while (!pending.empty()) {
    const auto node = pending.back();
    pending.pop_back();
    if (!seen.insert(node.get()).second) continue;
    const std::string name = node->name();
    if (name != "torch::autograd::AccumulateGrad") {
      napi_value object, saved;
      napi_create_object(env, &object);
      napi_create_array(env, &saved);
      uint32_t index = 0;
      for (const at::Tensor& tensor : savedTensors(node)) {
        napi_value entry, shape;
        napi_create_object(env, &entry);
        napi_create_array(env, &shape);
        for (int64_t d = 0; d < tensor.dim(); d++) napi_set_element(env, shape, d, makeNumber(env, tensor.size(d)));
        setField(env, entry, "dtype", makeNumber(env, static_cast<double>(tensor.scalar_type())));
        setField(env, entry, "shape", shape);
        napi_set_element(env, saved, index++, entry);
      }
      setField(env, object, "name", makeText(env, name));
      setField(env, object, "saved", saved);
      napi_set_element(env, list, count++, object);
    }
    const auto& edges = node->next_edges();
    for (size_t i = edges.size(); i-- > 0;)
      if (edges[i].function) pending.push_back(edges[i].function);
  }
  return list;
  PATINA_END
}

void registerGraph(napi_env env, napi_value exports) { addFunction(env, exports, "graph", graph); }

}  // namespace patina
