// Heartbeats: each rank writes a counter, and the collective that it is in, into the store about once a second, and reads those of
// all others. A rank whose counter stands still is dead or stopped. The first who finds out writes it down, so that all ranks say the
// same. This goes on while JavaScript's thread is busy in libtorch, or waits for a device for ever: groups that can be aborted are,
// and a process that has not ended by itself after a while is ended.
#include "group.h"
#include "store.h"
#include "table.h"

#include <unistd.h>

#include <algorithm>
#include <condition_variable>
#include <cstdlib>
#include <map>
#include <mutex>
#include <thread>

namespace patina {

namespace {

using Clock = std::chrono::steady_clock;

constexpr const char* kLost = "lost";
// What the heartbeat of a rank says that has left in order.
constexpr const char* kLeft = "left";

struct Settings {
  std::string host;
  uint16_t port;
  int rank, size;
  Milliseconds interval, timeout, grace;
  pid_t parent;  // 0: whoever
};

struct Peer {
  std::string state;  // "count\ngroup\tcall\n..."
  Clock::time_point changed;
};

// Shared by JavaScript's thread, the one that beats and the one that watches.
struct Pulse {
  const Settings settings;
  std::mutex mutex;
  std::condition_variable wake;
  std::map<std::string, std::string> calls;  // the latest of each group
  std::vector<Peer> peers;
  Clock::time_point answered;  // when the store did
  Clock::time_point stoodUntil;  // when this process last went on after it was stopped
  Clock::duration stood{};       // for how long it was
  std::string report;          // to be written down
  std::string lost;            // what was written down, by whomever
  bool left = false;
  c10::intrusive_ptr<c10d::TCPStore> store;  // for the thread that beats

  explicit Pulse(Settings settings) : settings(std::move(settings)), peers(this->settings.size) {}

  // From now on the store and the others are expected to be heard of.
  void restart() {
    answered = Clock::now();
    for (Peer& peer : peers) peer.changed = answered;
  }

  std::string keyOf(int rank) const { return "heartbeat/" + std::to_string(rank); }

  void learn(const std::string& text) {
    if (lost.empty()) lost = text;
    wake.notify_all();
  }
};

std::vector<uint8_t> bytes(const std::string& text) { return {text.begin(), text.end()}; }

void exchange(Pulse& pulse, const std::vector<std::string>& keys, uint64_t count) {
  c10d::TCPStore& store = *pulse.store;
  std::string state = std::to_string(count), report;
  {
    const std::lock_guard lock(pulse.mutex);
    for (const auto& [group, call] : pulse.calls) state += "\n" + group + "\t" + call;
    report = pulse.report;
  }
  store.set(keys[pulse.settings.rank], bytes(state));
  if (!report.empty()) store.compareSet(kLost, {}, bytes(report));
  const std::vector<std::vector<uint8_t>> states = store.multiGet(keys);
  const std::lock_guard lock(pulse.mutex);
  pulse.answered = Clock::now();
  for (int rank = 0; rank < pulse.settings.size; rank++) {
    std::string found(states[rank].begin(), states[rank].end());
    if (found == pulse.peers[rank].state) continue;
    pulse.peers[rank] = {std::move(found), pulse.answered};
  }
  const std::vector<uint8_t>& lost = states.back();
  if (!lost.empty()) pulse.learn({lost.begin(), lost.end()});
}

// Until this rank has left or something is lost.
void beat(Pulse& pulse) {
  const Settings& settings = pulse.settings;
  std::vector<std::string> keys;
  for (int rank = 0; rank < settings.size; rank++) keys.push_back(pulse.keyOf(rank));
  keys.push_back(kLost);
  try {
    for (uint64_t count = 1;; count++) {
      exchange(pulse, keys, count);
      std::unique_lock lock(pulse.mutex);
      if (!pulse.lost.empty()) return;
      pulse.wake.wait_for(lock, settings.interval, [&] { return pulse.left || !pulse.report.empty(); });
      if (!pulse.left) continue;
      lock.unlock();
      pulse.store->set(keys[settings.rank], bytes(kLeft));
      return;
    }
  } catch (const std::exception&) {
    const std::lock_guard lock(pulse.mutex);
    if (!pulse.left) pulse.learn("E_RANK_LOST rank 0, which holds the store at " + settings.host + ":" + std::to_string(settings.port) + ", is gone");
  }
}

std::string seconds(Clock::duration time) {
  const auto tenths = std::chrono::duration_cast<Milliseconds>(time).count() / 100;
  return std::to_string(tenths / 10) + "." + std::to_string(tenths % 10) + " s";
}

// What there is to report now; with the mutex held.
void judge(Pulse& pulse, Clock::time_point now) {
  const Settings& settings = pulse.settings;
  if (settings.parent != 0 && getppid() != settings.parent) pulse.report = "E_LAUNCHER_LOST the process that started rank " + std::to_string(settings.rank) + " is gone";
  if (now - pulse.answered > settings.timeout) {
    pulse.learn("E_RANK_LOST rank 0, which holds the store, has not answered for " + seconds(now - pulse.answered));
    return;
  }
  for (int rank = 0; rank < settings.size; rank++) {
    const auto& [state, changed] = pulse.peers[rank];
    if (rank == settings.rank || state == kLeft || pulse.answered - changed <= settings.timeout) continue;
    const std::string other = "rank " + std::to_string(rank);
    // Who was stopped for longer than the others wait was lost to them. Where the store stood still with it, none of them could write that
    // down; at most a beat that was under way to it has come since.
    const bool wasLost = pulse.stood > settings.timeout && changed < pulse.stoodUntil + settings.interval;
    pulse.report = "E_RANK_LOST " + (wasLost ? "rank " + std::to_string(settings.rank) + " was stopped for " + seconds(pulse.stood) + ", and " + other + " has not been heard of since"
                                             : other + " has not been heard of for " + seconds(now - changed));
    return;
  }
}

// Until this rank has left or something is lost.
void watchOver(Pulse& pulse) {
  const Milliseconds tick = std::max(pulse.settings.interval / 4, Milliseconds(10));
  std::unique_lock lock(pulse.mutex);
  for (Clock::time_point before = Clock::now();;) {
    pulse.wake.wait_for(lock, tick, [&] { return pulse.left || !pulse.lost.empty(); });
    if (pulse.left || !pulse.lost.empty()) return;
    const Clock::time_point now = Clock::now();
    // Time in which this process was stopped does not count against the others.
    if (const auto gap = now - before; gap > 2 * tick + pulse.settings.interval) {
      pulse.answered += gap;
      for (Peer& peer : pulse.peers) peer.changed += gap;
      pulse.stood = gap;
      pulse.stoodUntil = now;
    }
    before = now;
    if (!pulse.report.empty()) continue;
    judge(pulse, now);
    if (!pulse.report.empty()) pulse.wake.notify_all();
  }
}

// Ends a process that does not end by itself, since its thread waits for what will not come.
void endLater(const std::shared_ptr<Pulse>& pulse) {
  std::thread([pulse] {
    {
      std::unique_lock lock(pulse->mutex);
      if (pulse->wake.wait_for(lock, pulse->settings.grace, [&] { return pulse->left; })) return;
    }
    // "CODE message", or of a rank that has failed "CODE:exitCode message": see src/parallel/loss.ts.
    const size_t space = pulse->lost.find(' '), colon = std::min(pulse->lost.find(':'), space);
    const int exitCode = colon < space ? std::atoi(pulse->lost.c_str() + colon + 1) : 3;
    const std::string text = "error: " + pulse->lost.substr(space + 1) + "\ncode: " + pulse->lost.substr(0, colon) + "\n";
    if (write(STDERR_FILENO, text.data(), text.size()) < 0) _exit(exitCode);
    _exit(exitCode);
  }).detach();
}

struct Heartbeat {
  Worker beats, watches;
  std::shared_ptr<Pulse> pulse;
};

Table<std::unique_ptr<Heartbeat>> heartbeats{"Heartbeat", "heartbeat"};

Pulse& pulseOf(napi_env env, napi_value handle) { return *heartbeats.at(number(env, handle))->pulse; }

}  // namespace

// openHeartbeat(host, port, rank, size, interval, timeout, grace, parent): a promise of its handle, once it is connected. The keys of
// all ranks are in the store already.
static napi_value openHeartbeat(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<8> args(env, info);
  const auto integer = [&](int index) { return static_cast<int>(number(env, args[index])); };
  const auto pulse = std::make_shared<Pulse>(Settings{text(env, args[0]), static_cast<uint16_t>(integer(1)), integer(2), integer(3),
                                                      Milliseconds(integer(4)), Milliseconds(integer(5)), Milliseconds(integer(6)), integer(7)});
  auto opened = std::make_shared<std::unique_ptr<Heartbeat>>(new Heartbeat{Worker(env, "patina:beats"), Worker(env, "patina:watches"), pulse});
  const auto connect = [pulse] {
    const Settings& settings = pulse->settings;
    pulse->store = connectStore(settings.host, settings.port, settings.timeout);
    pulse->restart();
  };
  const auto keep = [opened](napi_env env) {
    Heartbeat& heartbeat = **opened;
    heartbeat.beats.submit(env, [pulse = heartbeat.pulse] { beat(*pulse); }, nullptr, true);
    return makeNumber(env, heartbeats.keep(std::move(*opened)));
  };
  return (*opened)->beats.submit(env, connect, keep);
  PATINA_END
}

// heartbeatLost(heartbeat): a promise of "CODE message" when something is lost, of undefined when this rank has left.
static napi_value heartbeatLost(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  Heartbeat& heartbeat = *heartbeats.at(number(env, args[0]));
  const auto watches = [pulse = heartbeat.pulse] {
    watchOver(*pulse);
    if (pulse->lost.empty()) return;
    // The store ends with rank 0: the others have two beats to read there what is lost.
    if (pulse->settings.rank == 0) std::this_thread::sleep_for(2 * pulse->settings.interval);
    endLater(pulse);
    abortGroups();
  };
  return heartbeat.watches.submit(
      env, watches, [pulse = heartbeat.pulse](napi_env env) { return pulse->lost.empty() ? nullptr : makeText(env, pulse->lost); }, true);
  PATINA_END
}

// heartbeatCall(heartbeat, group, call): what this rank does in a group, for the others to read.
static napi_value heartbeatCall(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<3> args(env, info);
  Pulse& pulse = pulseOf(env, args[0]);
  const std::lock_guard lock(pulse.mutex);
  pulse.calls[text(env, args[1])] = text(env, args[2]);
  return nullptr;
  PATINA_END
}

// heartbeatPeers(heartbeat): for each rank {state, silent: milliseconds since it last changed}, as of the last beat.
static napi_value heartbeatPeers(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  Pulse& pulse = pulseOf(env, args[0]);
  const std::lock_guard lock(pulse.mutex);
  napi_value list;
  napi_create_array(env, &list);
  for (size_t rank = 0; rank < pulse.peers.size(); rank++) {
    const auto& [state, changed] = pulse.peers[rank];
    napi_value peer;
    napi_create_object(env, &peer);
    setField(env, peer, "state", makeText(env, state));
    const auto silent = std::chrono::duration<double, std::milli>(Clock::now() - changed);
    setField(env, peer, "silent", makeNumber(env, silent.count()));
    napi_set_element(env, list, static_cast<uint32_t>(rank), peer);
  }
  return list;
  PATINA_END
}

// reportLost(heartbeat, "CODE message"): ends all ranks, unless something else was reported first.
static napi_value reportLost(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  Pulse& pulse = pulseOf(env, args[0]);
  const std::lock_guard lock(pulse.mutex);
  if (pulse.report.empty()) pulse.report = text(env, args[1]);
  pulse.wake.notify_all();
  return nullptr;
  PATINA_END
}

// leaveHeartbeat(heartbeat): a promise; this rank has left in order and is not missed. The handle is stale from now on.
static napi_value leaveHeartbeat(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const double handle = number(env, args[0]);
  heartbeats.at(handle);
  auto left = std::make_shared<std::unique_ptr<Heartbeat>>(*heartbeats.take(handle));
  {
    const std::lock_guard lock((*left)->pulse->mutex);
    (*left)->pulse->left = true;
    (*left)->pulse->wake.notify_all();
  }
  // It runs behind the last beat.
  return (*left)->beats.submit(env, [] {}, [left](napi_env) { return nullptr; });
  PATINA_END
}

void registerHeartbeats(napi_env env, napi_value exports) {
  addFunction(env, exports, "openHeartbeat", openHeartbeat);
  addFunction(env, exports, "heartbeatLost", heartbeatLost);
  addFunction(env, exports, "heartbeatCall", heartbeatCall);
  addFunction(env, exports, "heartbeatPeers", heartbeatPeers);
  addFunction(env, exports, "reportLost", reportLost);
  addFunction(env, exports, "leaveHeartbeat", leaveHeartbeat);
}

}  // namespace patina
