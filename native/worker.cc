// Work on other threads: the promise that is made of it, on libuv's threads (asyncWork) or on one of its own (Worker).
#include "worker.h"

#include <condition_variable>
#include <deque>
#include <exception>
#include <mutex>
#include <thread>

namespace patina {

namespace {

struct Job {
  std::function<void()> work;
  std::function<napi_value(napi_env)> done;
  bool background = false;
  std::exception_ptr error{};
  napi_deferred deferred = nullptr;
  napi_async_work handle = nullptr;

  void run() {
    try {
      work();
    } catch (...) {
      error = std::current_exception();
    }
  }

  void settle(napi_env env) {
    try {
      if (error) std::rethrow_exception(error);
      napi_value value = done ? done(env) : nullptr;
      if (value == nullptr) napi_get_undefined(env, &value);
      napi_resolve_deferred(env, deferred, value);
    } catch (...) {
      napi_reject_deferred(env, deferred, failure(env));
    }
  }
};

}  // namespace

napi_value asyncWork(napi_env env, const char* name, std::function<void()> work, std::function<napi_value(napi_env)> done) {
  auto job = std::make_unique<Job>(Job{std::move(work), std::move(done)});
  napi_value promise;
  check(env, napi_create_promise(env, &job->deferred, &promise), "a promise");
  const auto execute = [](napi_env, void* data) { static_cast<Job*>(data)->run(); };
  const auto complete = [](napi_env env, napi_status, void* data) {
    const std::unique_ptr<Job> job(static_cast<Job*>(data));
    job->settle(env);
    napi_delete_async_work(env, job->handle);
  };
  napi_create_async_work(env, nullptr, makeText(env, name), execute, complete, job.get(), &job->handle);
  napi_queue_async_work(env, job->handle);
  job.release();
  return promise;
}

struct Worker::State {
  std::mutex mutex;
  std::condition_variable wake;
  std::deque<Job*> queue;
  bool closing = false;
  napi_threadsafe_function settle = nullptr;  // null once JavaScript is ending, which destroys it
  int awaited = 0;                            // only JavaScript's thread counts

  // Calls a function of N-API with `settle`, if it is still there; whether it was.
  template <typename Use>
  bool with(Use use) {
    const std::lock_guard lock(mutex);
    return settle != nullptr && use(settle) == napi_ok;
  }

  // Waits for a job; null when there will be none.
  Job* next() {
    std::unique_lock lock(mutex);
    wake.wait(lock, [&] { return closing || !queue.empty(); });
    if (queue.empty()) return nullptr;
    Job* job = queue.front();
    queue.pop_front();
    return job;
  }
};

Worker::Worker(napi_env env, const char* name) : state_(std::make_shared<State>()) {
  const auto settle = [](napi_env env, napi_value, void* context, void* data) {
    if (env == nullptr) return;  // JavaScript is ending
    const std::unique_ptr<Job> job(static_cast<Job*>(data));
    auto* state = static_cast<State*>(context);
    if (!job->background && --state->awaited == 0) napi_unref_threadsafe_function(env, state->settle);
    job->settle(env);
  };
  auto* context = new std::shared_ptr<State>(state_);
  const auto finalize = [](napi_env, void* data, void*) {
    const std::unique_ptr<std::shared_ptr<State>> state(static_cast<std::shared_ptr<State>*>(data));
    const std::lock_guard lock((*state)->mutex);
    (*state)->settle = nullptr;
  };
  check(env,
        napi_create_threadsafe_function(env, nullptr, nullptr, makeText(env, name), 0, 1, context, finalize, state_.get(), settle,
                                        &state_->settle),
        "a thread");
  napi_unref_threadsafe_function(env, state_->settle);
  std::thread([state = state_] {
    while (Job* job = state->next()) {
      job->run();
      const auto hand = [job](napi_threadsafe_function settle) { return napi_call_threadsafe_function(settle, job, napi_tsfn_nonblocking); };
      if (!state->with(hand)) return;
    }
    state->with([](napi_threadsafe_function settle) { return napi_release_threadsafe_function(settle, napi_tsfn_release); });
  }).detach();
}

Worker::~Worker() {
  const std::lock_guard lock(state_->mutex);
  state_->closing = true;
  state_->wake.notify_one();
}

napi_value Worker::submit(napi_env env, std::function<void()> work, std::function<napi_value(napi_env)> done, bool background) {
  auto job = std::make_unique<Job>(Job{std::move(work), std::move(done), background});
  napi_value promise;
  check(env, napi_create_promise(env, &job->deferred, &promise), "a promise");
  if (!background && state_->awaited++ == 0) napi_ref_threadsafe_function(env, state_->settle);
  const std::lock_guard lock(state_->mutex);
  state_->queue.push_back(job.release());
  state_->wake.notify_one();
  return promise;
}

}  // namespace patina
