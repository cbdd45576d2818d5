// Process groups: collectives between ranks by c10d's backends, Gloo on the CPU and NCCL on GPUs. A fake group moves nothing and
// can be any rank of any number, for planning.
//
// A Gloo group has a thread of its own, which makes its calls one after another and waits for each: a reduce-scatter of Gloo acts
// only when it is waited for. NCCL's calls are made on JavaScript's thread, since they order themselves behind its current stream;
// there the group's thread only watches them, and aborts the group if one does not end in time: that also frees a host that waits
// for the device.
#include "ghost.h"
#include "group.h"
#include "store.h"
#include "table.h"

#define USE_C10D_GLOO
#include <torch/csrc/distributed/c10d/PrefixStore.hpp>
#include <torch/csrc/distributed/c10d/ProcessGroupGloo.hpp>

#include <ATen/core/grad_mode.h>
#include <c10/core/DeviceGuard.h>

#include <mutex>
#include <thread>

namespace patina {

namespace {

using Backend = c10::intrusive_ptr<c10d::Backend>;
using Work = c10::intrusive_ptr<c10d::Work>;

enum class Kind { gloo, nccl, fake };

struct Group {
  Worker worker;
  Kind kind;
  int size;
  c10::Device device;
  Milliseconds timeout;
  Backend backend;  // none in a fake group
};

Table<std::unique_ptr<Group>> groups{"ProcessGroup", "process group"};
Table<Work> works{"Work", "collective"};

Group& groupOf(napi_env env, napi_value handle) { return *groups.at(number(env, handle)); }

Kind kindOf(const std::string& name) {
  if (name == "gloo") return Kind::gloo;
  if (name == "nccl") return Kind::nccl;
  if (name == "fake") return Kind::fake;
  throw Failure("argument", "'" + name + "' is no backend");
}

// Those that can be aborted.
std::mutex& abortableMutex = *new std::mutex();
std::vector<Backend>& abortable = *new std::vector<Backend>();

// Time in which ranks connect at least, however short the timeout of their calls.
constexpr Milliseconds kConnecting{60'000};

Backend connectGloo(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, const std::string& address, Milliseconds timeout) {
  auto options = c10d::ProcessGroupGloo::Options::create(std::max(timeout, kConnecting));
  options->devices.push_back(c10d::ProcessGroupGloo::createDeviceForHostname(address));
  const Backend backend = c10::make_intrusive<c10d::ProcessGroupGloo>(store, rank, size, options);
  backend->setTimeout(timeout);
  return backend;
}

Backend connectNccl(const c10::intrusive_ptr<c10d::Store>& store, int rank, int size, c10::Device device, Milliseconds timeout) {
  using Make = c10d::Backend* (*)(c10d::Store*, int, int, int64_t);
  const auto make = reinterpret_cast<Make>(cudaFunction("patina_nccl_group"));
  if (make == nullptr) throw Failure("device", "NCCL cannot be used: " + ncclFault());
  const c10::DeviceGuard guard(device);
  Backend backend = Backend::reclaim(make(store.get(), rank, size, timeout.count()));
  {
    const std::lock_guard lock(abortableMutex);
    abortable.push_back(backend);
  }
  backend->setBoundDeviceId(device);
  backend->eagerConnectSingleDevice(device);
  return backend;
}

void disconnect(Backend backend) {
  {
    const std::lock_guard lock(abortableMutex);
    std::erase(abortable, backend);
  }
  backend->shutdown();
}

// What a backend throws has no type of its own.
[[noreturn]] void rethrow(const std::exception_ptr& error) {
  try {
    std::rethrow_exception(error);
  } catch (const c10::Error& failed) {
    throw Failure("collective", failed.what_without_backtrace());
  } catch (const std::exception& failed) {
    throw Failure("collective", failed.what());
  }
}

// Waits for a call of NCCL by asking: Work::wait() would order a stream of this thread behind it.
void watch(const Backend& backend, const Work& work, Milliseconds timeout) {
  const auto end = std::chrono::steady_clock::now() + timeout;
  auto pause = std::chrono::microseconds(50);
  while (!work->isCompleted()) {
    if (std::chrono::steady_clock::now() > end) {
      backend->abort();
      throw Failure("collective", "timed out");
    }
    std::this_thread::sleep_for(pause);
    pause = std::min(pause * 2, std::chrono::microseconds(2000));
  }
  if (const auto error = work->exception()) {
    backend->abort();
    rethrow(error);
  }
}

// The end of a call of NCCL, to be watched. The call itself holds its results until its handle is dropped, and the device may come to it long after
// whoever made it has used them.
Work watchedOf(const Work& work) {
  using Watched = c10d::Work* (*)(const c10d::Work*);
  static const auto watched = reinterpret_cast<Watched>(cudaFunction("patina_nccl_watched"));
  return Work::reclaim(watched(work.get()));
}

// A call of a fake group in a ghost run: it holds its tensors as long as NCCL does, until a stream waits for it.
template <typename Call>
struct GhostWork final : c10d::Work {
  std::optional<Call> call;
  const int64_t number;
  GhostWork(Call call, int64_t number) : call(std::move(call)), number(number) {}
  bool wait(Milliseconds) override {
    ghost::arrived(number);
    call.reset();
    return true;
  }
};

// Makes a call, or has it made: a promise of its end, undefined in a fake group. With NCCL and in a ghost run, buffer = [handle of the
// work], else [0].
template <typename Call>
napi_value start(napi_env env, Group& group, const char* name, const at::Tensor& whole, Call call) {
  buffer[0] = 0;
  if (group.kind == Kind::fake) {
    if (!ghost::tracing()) return nullptr;
    const int64_t number = ghost::called(name, whole, group.size);
    buffer[0] = works.keep(c10::make_intrusive<GhostWork<Call>>(std::move(call), number));
    return nullptr;
  }
  if (group.kind == Kind::gloo) {
    return group.worker.submit(env, [call = std::move(call), backend = group.backend]() mutable {
      const at::NoGradGuard values;
      try {
        call(*backend)->wait();
      } catch (...) {
        rethrow(std::current_exception());
      }
    });
  }
  const Work work = call(*group.backend);
  buffer[0] = works.keep(work);
  return group.worker.submit(env, [work = watchedOf(work), backend = group.backend, timeout = group.timeout] { watch(backend, work, timeout); });
}

// A tensor that a collective may read or write as one block of memory.
at::Tensor blockOf(const Group& group, napi_env env, napi_value handle, int argument) {
  const double value = number(env, handle);
  const at::Tensor tensor = group.kind == Kind::fake ? tensorOf(value, argument) : dataOf(value, argument);
  if (!tensor.is_contiguous()) throw Failure("argument", "expected a contiguous tensor", argument);
  if (group.kind != Kind::fake && tensor.device() != group.device)
    throw Failure("argument", "expected a tensor on " + group.device.str() + ", not on " + tensor.device().str(), argument);
  return tensor;
}

// A tensor to be moved as it is: Gloo knows no floating point of 8 bits.
at::Tensor movable(const at::Tensor& tensor) {
  return c10::isFloat8Type(tensor.scalar_type()) ? tensor.view(at::kByte) : tensor;
}

void expectShards(const at::Tensor& whole, const at::Tensor& shard, int size) {
  if (whole.scalar_type() != shard.scalar_type())
    throw Failure("argument", std::string("expected one dtype, not ") + c10::toString(whole.scalar_type()) + " and " + c10::toString(shard.scalar_type()));
  if (whole.numel() != shard.numel() * size)
    throw Failure("argument", std::to_string(size) + " shards of " + std::to_string(shard.numel()) + " elements make " +
                                  std::to_string(shard.numel() * size) + ", not " + std::to_string(whole.numel()));
}

c10d::ReduceOp reductionOf(const std::string& name) {
  if (name == "sum") return c10d::ReduceOp::SUM;
  if (name == "max") return c10d::ReduceOp::MAX;
  throw Failure("argument", "'" + name + "' is no reduction");
}

}  // namespace

void abortGroups() {
  std::vector<Backend> all;
  {
    const std::lock_guard lock(abortableMutex);
    all = abortable;
  }
  for (const Backend& backend : all) backend->abort();
}

// openGroup(backend, rank, size, device, timeout, host, port, prefix, address): a promise of its handle. The store at host and port
// introduces the ranks to each other, under keys with the prefix; Gloo listens at the address.
static napi_value openGroup(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<9> args(env, info);
  const Kind kind = kindOf(text(env, args[0]));
  const int rank = static_cast<int>(number(env, args[1])), size = static_cast<int>(number(env, args[2]));
  const c10::Device device = kind == Kind::nccl ? deviceOf(text(env, args[3])) : c10::Device(c10::kCPU);
  const Milliseconds timeout = milliseconds(number(env, args[4]));
  auto opened = std::make_shared<std::unique_ptr<Group>>(new Group{Worker(env, "patina:group"), kind, size, device, timeout, nullptr});
  const auto connect = [group = opened->get(), rank, host = text(env, args[5]), port = static_cast<uint16_t>(number(env, args[6])),
                        prefix = text(env, args[7]), address = text(env, args[8])] {
    if (group->kind == Kind::fake) return;
    const auto store = c10::make_intrusive<c10d::PrefixStore>(prefix, connectStore(host, port, std::max(group->timeout, kConnecting)));
    try {
      group->backend = group->kind == Kind::gloo ? connectGloo(store, rank, group->size, address, group->timeout)
                                                 : connectNccl(store, rank, group->size, group->device, group->timeout);
    } catch (const Failure&) {
      throw;
    } catch (...) {
      rethrow(std::current_exception());
    }
  };
  return (*opened)->worker.submit(env, connect, [opened](napi_env env) { return makeNumber(env, groups.keep(std::move(*opened))); });
  PATINA_END
}

// allReduce(group, tensor, reduction): in place.
static napi_value allReduce(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<3> args(env, info);
  Group& group = groupOf(env, args[0]);
  std::vector<at::Tensor> tensors{blockOf(group, env, args[1], 0)};
  c10d::AllreduceOptions options;
  options.reduceOp = reductionOf(text(env, args[2]));
  return start(env, group, "all-reduce", tensors[0],
               [tensors, options](c10d::Backend& backend) mutable { return backend.allreduce(tensors, options); });
  PATINA_END
}

// reduceScatter(group, shard, whole, reduction): rank i gets the i-th shard of the reduction.
static napi_value reduceScatter(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<4> args(env, info);
  Group& group = groupOf(env, args[0]);
  at::Tensor shard = blockOf(group, env, args[1], 0).view(-1), whole = blockOf(group, env, args[2], 1).view(-1);
  expectShards(whole, shard, group.size);
  c10d::ReduceScatterOptions options;
  options.reduceOp = reductionOf(text(env, args[3]));
  return start(env, group, "reduce-scatter", whole,
               [shard, whole, options](c10d::Backend& backend) mutable { return backend._reduce_scatter_base(shard, whole, options); });
  PATINA_END
}

// allGather(group, whole, shard): the i-th shard of the whole is that of rank i.
static napi_value allGather(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<3> args(env, info);
  Group& group = groupOf(env, args[0]);
  at::Tensor whole = blockOf(group, env, args[1], 0).view(-1), shard = blockOf(group, env, args[2], 1).view(-1);
  expectShards(whole, shard, group.size);
  return start(env, group, "all-gather", whole,
               [whole = movable(whole), shard = movable(shard)](c10d::Backend& backend) mutable { return backend._allgather_base(whole, shard); });
  PATINA_END
}

// broadcast(group, tensor, root): every rank gets that of the root.
static napi_value broadcast(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<3> args(env, info);
  Group& group = groupOf(env, args[0]);
  std::vector<at::Tensor> tensors{movable(blockOf(group, env, args[1], 0))};
  c10d::BroadcastOptions options;
  options.rootRank = static_cast<int64_t>(number(env, args[2]));
  if (!(options.rootRank >= 0 && options.rootRank < group.size))
    throw Failure("argument", "there is no rank " + std::to_string(options.rootRank) + " among " + std::to_string(group.size), 1);
  return start(env, group, "broadcast", tensors[0],
               [tensors, options](c10d::Backend& backend) mutable { return backend.broadcast(tensors, options); });
  PATINA_END
}

// barrier(group)
static napi_value barrier(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  Group& group = groupOf(env, args[0]);
  c10d::BarrierOptions options;
  if (group.kind == Kind::nccl) options.device = group.device;
  return start(env, group, "barrier", at::Tensor(), [options](c10d::Backend& backend) { return backend.barrier(options); });
  PATINA_END
}

// orderStream(work): what the current stream of the group's device is given from now on waits for a call of NCCL; the host does not.
static napi_value orderStream(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  works.at(number(env, args[0]))->wait();
  return nullptr;
  PATINA_END
}

static napi_value dropWork(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  works.drop(number(env, args[0]));
  return nullptr;
  PATINA_END
}

// closeGroup(group): a promise; it ends when the calls so far have ended.
static napi_value closeGroup(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const double handle = number(env, args[0]);
  groups.at(handle);
  auto closed = std::make_shared<std::unique_ptr<Group>>(*groups.take(handle));
  Backend backend = std::move((*closed)->backend);
  return (*closed)->worker.submit(
      env, [backend]() mutable { if (backend) disconnect(std::move(backend)); }, [closed](napi_env) { return nullptr; });
  PATINA_END
}

void registerGroups(napi_env env, napi_value exports) {
  addFunction(env, exports, "openGroup", openGroup);
  addFunction(env, exports, "allReduce", allReduce);
  addFunction(env, exports, "reduceScatter", reduceScatter);
  addFunction(env, exports, "allGather", allGather);
  addFunction(env, exports, "broadcast", broadcast);
  addFunction(env, exports, "barrier", barrier);
  addFunction(env, exports, "orderStream", orderStream);
  addFunction(env, exports, "dropWork", dropWork);
  addFunction(env, exports, "closeGroup", closeGroup);
}

}  // namespace patina
