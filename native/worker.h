// A thread of its own for work that may wait for other processes.
#pragma once

#include "common.h"

#include <memory>

namespace patina {

// Runs what it is given one after another, for as long as it takes: neither JavaScript's thread nor the few of asyncWork() wait for it.
// All methods are called on JavaScript's thread.
class Worker {
 public:
  Worker(napi_env env, const char* name);
  Worker(const Worker&) = delete;
  Worker& operator=(const Worker&) = delete;
  // What was submitted is still done.
  ~Worker();

  // A promise, as asyncWork() gives. The process stays alive for it, unless it is background work.
  napi_value submit(napi_env env, std::function<void()> work, std::function<napi_value(napi_env)> done = nullptr, bool background = false);

 private:
  struct State;
  std::shared_ptr<State> state_;
};

}  // namespace patina
