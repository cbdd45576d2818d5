// The trace of a ghost run: allocations, operators with the shapes of their tensors, named ranges, streams, events and calls between
// ranks, in the order in which the host gave them to the device. TypeScript reads it and says what a card would have done with it.
#include "ghost.h"

#include <ATen/record_function.h>

#include <algorithm>
#include <atomic>
#include <mutex>
#include <unordered_map>
#include <unordered_set>
#include <utility>

namespace patina {
namespace ghost {
namespace {

// Lines begin with one of these. src/plan/trace.ts reads them.
enum Line {
  kAllocate,  // block, bytes, stream, whether it is host memory
  kFree,      // block
  kProtect,   // block, stream
  kBegin,     // number, name, 0: operator, 1: range, 2: operator on host memory, stream, bytes given and of them overwritten, arguments, of
              // each [rank, sizes...]
  kEnd,       // number
  kRecord,    // event, stream
  kWait,      // event, stream
  kCall,      // call, name, bytes and block of the whole, ranks, stream
  kArrive,    // call, stream
};

struct Trace {
  // Memory is freed on other threads too.
  std::mutex mutex;
  std::vector<double> lines;
  std::vector<std::string> names;
  std::unordered_map<std::string, size_t> numbers;
  std::unordered_set<int64_t> hostBlocks;
  int64_t blocks = 0, begun = 0, calls = 0;

  void add(std::initializer_list<double> line) { lines.insert(lines.end(), line); }
  double nameOf(const char* text) {
    const auto [at, isNew] = numbers.try_emplace(text, names.size());
    if (isNew) names.emplace_back(text);
    return static_cast<double>(at->second);
  }
};

// Never destroyed: memory is freed until the very end of the process.
Trace& trace = *new Trace();
std::atomic<bool> running{false};
std::optional<at::CallbackHandle> callback;
bool onHost = false;

c10::StreamId latestStream = 0;
c10::StreamId current = 0;

c10::Stream streamOf(c10::StreamId id) { return c10::Stream(c10::Stream::UNSAFE, c10::Device(c10::DeviceType::Meta, 0), id); }
double here() { return static_cast<double>(current); }

struct Begun : at::ObserverContext {
  double number;
  explicit Begun(double number) : number(number) {}
};

double bytesOf(const at::Tensor& tensor) {
  if (!tensor.defined() || !tensor.has_storage()) return 0;
  const auto elements = static_cast<double>(tensor.numel()) * static_cast<double>(tensor.itemsize());
  return std::min(elements, static_cast<double>(tensor.storage().nbytes()));
}

// Which arguments an operator writes to, as its schema says; none for what has no schema, such as the nodes of a graph.
const std::vector<bool>& overwrittenBy(const at::RecordFunction& function) {
  static const std::vector<bool> none;
  static auto& known = *new std::unordered_map<c10::OperatorName, std::vector<bool>>();
  const auto name = function.operator_name();
  if (!name) return none;
  const auto [at, isNew] = known.try_emplace(*name);
  if (isNew) {
    const auto schema = function.operator_schema();
    for (const c10::Argument& each : schema->arguments())
      at->second.push_back(each.alias_info() != nullptr && each.alias_info()->isWrite());
  }
  return at->second;
}

std::unique_ptr<at::ObserverContext> begin(const at::RecordFunction& function) {
  const std::lock_guard lock(trace.mutex);
  const auto number = static_cast<double>(++trace.begun);
  const bool isRange = function.scope() == at::RecordScope::USER_SCOPE;
  const auto inputs = isRange ? c10::ArrayRef<const c10::IValue>() : function.inputs();
  trace.add({kBegin, number, trace.nameOf(function.name()), isRange ? 1.0 : 0.0, here(), 0, 0, static_cast<double>(inputs.size())});
  const size_t at = trace.lines.size() - 3;
  const std::vector<bool>& overwritten = overwrittenBy(function);
  double bytes = 0, written = 0;
  bool isHost = false;
  std::unordered_set<const c10::TensorImpl*> seen;
  // What is given twice is read and written once.
  const auto count = [&](const at::Tensor& tensor, size_t argument) {
    if (!seen.insert(tensor.unsafeGetTensorImpl()).second) return;
    bytes += bytesOf(tensor);
    if (argument < overwritten.size() && overwritten[argument]) written += bytesOf(tensor);
  };
  for (size_t i = 0; i < inputs.size(); i++) {
    const c10::IValue& input = inputs[i];
    if (!input.isTensor()) {
      if (input.isTensorList())
        for (const at::Tensor& each : input.toTensorVector()) count(each, i);
      trace.lines.push_back(0);
      continue;
    }
    const at::Tensor& tensor = input.toTensor();
    count(tensor, i);
    if (!tensor.defined()) {
      trace.lines.push_back(0);
      continue;
    }
    isHost = isHost || trace.hostBlocks.contains(tracedAllocation(tensor));
    trace.lines.push_back(static_cast<double>(tensor.dim()));
    for (const int64_t size : tensor.sizes()) trace.lines.push_back(static_cast<double>(size));
  }
  trace.lines[at] = bytes;
  trace.lines[at + 1] = written;
  if (isHost) trace.lines[at - 2] = 2;
  return std::make_unique<Begun>(number);
}

void end(const at::RecordFunction&, at::ObserverContext* context) {
  if (context == nullptr) return;
  const std::lock_guard lock(trace.mutex);
  trace.add({kEnd, static_cast<Begun*>(context)->number});
}

}  // namespace

bool tracing() { return running.load(std::memory_order_relaxed); }

int64_t allocated(int64_t bytes) {
  if (!tracing()) return 0;
  const std::lock_guard lock(trace.mutex);
  const int64_t block = ++trace.blocks;
  if (onHost) trace.hostBlocks.insert(block);
  trace.add({kAllocate, static_cast<double>(block), static_cast<double>(bytes), here(), onHost ? 1.0 : 0.0});
  return block;
}

void freed(int64_t block) {
  if (!tracing()) return;
  const std::lock_guard lock(trace.mutex);
  trace.hostBlocks.erase(block);
  trace.add({kFree, static_cast<double>(block)});
}

void protectedFor(int64_t block, c10::Stream stream) {
  if (!tracing() || block == 0) return;
  const std::lock_guard lock(trace.mutex);
  trace.add({kProtect, static_cast<double>(block), static_cast<double>(stream.id())});
}

c10::Stream newStream() { return streamOf(++latestStream); }
c10::Stream currentStream() { return streamOf(current); }
c10::Stream exchangeStream(c10::Stream stream) { return streamOf(std::exchange(current, stream.id())); }

int64_t called(const char* kind, const at::Tensor& whole, int64_t ranks) {
  const double bytes = whole.defined() ? static_cast<double>(whole.nbytes()) : 0;
  const double block = whole.defined() ? static_cast<double>(tracedAllocation(whole)) : 0;
  const std::lock_guard lock(trace.mutex);
  const int64_t call = ++trace.calls;
  trace.add({kCall, static_cast<double>(call), trace.nameOf(kind), bytes, block, static_cast<double>(ranks), here()});
  return call;
}

void arrived(int64_t call) {
  if (!tracing()) return;
  const std::lock_guard lock(trace.mutex);
  trace.add({kArrive, static_cast<double>(call), here()});
}

}  // namespace ghost

// startTrace(): from here on meta tensors are traced, and operators of this thread.
static napi_value startTrace(napi_env env, napi_callback_info) {
  PATINA_TRY
  checkThread(env);
  if (ghost::tracing()) throw Failure("argument", "another trace is running");
  ghost::trace.lines.clear();
  ghost::trace.hostBlocks.clear();
  ghost::callback = at::addThreadLocalCallback(at::RecordFunctionCallback(ghost::begin, ghost::end)
                                                   .needsInputs(true)
                                                   .scopes({at::RecordScope::FUNCTION, at::RecordScope::USER_SCOPE}));
  ghost::running = true;
  return nullptr;
  PATINA_END
}

// takeTrace(): [lines so far, as an ArrayBuffer of doubles, names]; the trace goes on without them.
static napi_value takeTrace(napi_env env, napi_callback_info) {
  PATINA_TRY
  checkThread(env);
  const std::lock_guard lock(ghost::trace.mutex);
  const auto& lines = ghost::trace.lines;
  napi_value result, buffer, names;
  void* data = nullptr;
  check(env, napi_create_arraybuffer(env, lines.size() * sizeof(double), &data, &buffer), "memory for the trace");
  std::copy(lines.begin(), lines.end(), static_cast<double*>(data));
  napi_create_array(env, &names);
  for (size_t i = 0; i < ghost::trace.names.size(); i++)
    napi_set_element(env, names, static_cast<uint32_t>(i), makeText(env, ghost::trace.names[i]));
  napi_create_array(env, &result);
  napi_set_element(env, result, 0, buffer);
  napi_set_element(env, result, 1, names);
  ghost::trace.lines.clear();
  return result;
  PATINA_END
}

// stopTrace()
static napi_value stopTrace(napi_env env, napi_callback_info) {
  PATINA_TRY
  checkThread(env);
  ghost::running = false;
  if (ghost::callback) at::removeCallback(*ghost::callback);
  ghost::callback.reset();
  ghost::trace.lines = {};
  return nullptr;
  PATINA_END
}

// traceEvent(event, stream, waits): the stream marks the event, or waits for it.
static napi_value traceEvent(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<3> args(env, info);
  const bool waits = boolean(env, args[2]);
  if (!ghost::tracing()) return nullptr;
  const double stream = static_cast<double>(streamOf(number(env, args[1])).id());
  const std::lock_guard lock(ghost::trace.mutex);
  ghost::trace.add({waits ? ghost::kWait : ghost::kRecord, number(env, args[0]), stream});
  return nullptr;
  PATINA_END
}

// tracedBlock(handle): the number of a tensor's memory in the trace, 0: none.
static napi_value tracedBlock(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  return makeNumber(env, static_cast<double>(tracedAllocation(tensorOf(number(env, args[0]), 0))));
  PATINA_END
}

// traceHost(on): what meta tensors take from now on stands for host memory; before that, whether it did.
static napi_value traceHost(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  return makeBool(env, std::exchange(ghost::onHost, boolean(env, args[0])));
  PATINA_END
}

void registerGhost(napi_env env, napi_value exports) {
  addFunction(env, exports, "startTrace", startTrace);
  addFunction(env, exports, "takeTrace", takeTrace);
  addFunction(env, exports, "stopTrace", stopTrace);
  addFunction(env, exports, "traceEvent", traceEvent);
  addFunction(env, exports, "tracedBlock", tracedBlock);
  addFunction(env, exports, "traceHost", traceHost);
}

}  // namespace patina
