// The store as TypeScript sees it: short requests, each answered on the store's own thread. None waits for a key; that is done by
// asking again (src/parallel/store.ts), so that a wait can be ended and does not keep other requests waiting.
#include "store.h"
#include "table.h"

#include <c10/util/Logging.h>

#include <arpa/inet.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <cerrno>
#include <cstdlib>
#include <cstring>

namespace patina {

namespace {

// c10d prints every connection that breaks, with its stack: what the reader needs of it is in the errors, which name the rank.
void silence() {
  if (getenv("TORCH_CPP_LOG_LEVEL") != nullptr) return;
  setenv("TORCH_CPP_LOG_LEVEL", "FATAL", 0);
  c10::initLogging();
  unsetenv("TORCH_CPP_LOG_LEVEL");
}

// A socket that listens at the loopback alone; its port, if that is 0, is chosen. Nobody else has to reach the store of a job on one
// machine. Its server also looks up the names of those who connect, and keeps all others waiting while it does: the loopback's is in a
// file, what a socket for all addresses shows of it (::ffff:127.0.0.1) is asked of the network.
int listenAtLoopback(uint16_t& port) {
  const auto fail = [&](const char* what) { return Failure("distributed", std::string(what) + ": " + std::strerror(errno)); };
  const int file = socket(AF_INET, SOCK_STREAM, 0);
  if (file < 0) throw fail("socket");
  fcntl(file, F_SETFD, FD_CLOEXEC);
  const int yes = 1;
  setsockopt(file, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
  sockaddr_in address{};
  address.sin_family = AF_INET;
  address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
  address.sin_port = htons(port);
  socklen_t size = sizeof address;
  auto* any = reinterpret_cast<sockaddr*>(&address);
  if (bind(file, any, size) != 0 || listen(file, SOMAXCONN) != 0 || getsockname(file, any, &size) != 0) {
    const Failure failed = fail("listen");
    close(file);
    throw failed;
  }
  port = ntohs(address.sin_port);
  return file;
}

}  // namespace

c10::intrusive_ptr<c10d::TCPStore> connectStore(const std::string& host, uint16_t port, Milliseconds timeout, bool server) {
  c10d::TCPStoreOptions options;
  if (server && (host == "127.0.0.1" || host == "localhost")) options.masterListenFd = listenAtLoopback(port);
  options.port = port;
  options.isServer = server;
  options.waitWorkers = false;
  options.timeout = timeout;
  return c10::make_intrusive<c10d::TCPStore>(host, options);
}

namespace {

struct Connection {
  Worker worker;
  c10::intrusive_ptr<c10d::TCPStore> store;

  explicit Connection(napi_env env) : worker(env, "patina:store") {}

  // A promise of what `ask` finds out, made into a JavaScript value by `make`.
  template <typename Ask, typename Make>
  napi_value request(napi_env env, Ask ask, Make make) {
    using Answer = decltype(ask(*store));
    const auto answer = std::make_shared<Answer>();
    return worker.submit(
        env, [answer, ask, store = store] { *answer = ask(*store); }, [answer, make](napi_env env) { return make(env, *answer); });
  }
};

Table<std::unique_ptr<Connection>> connections{"Store", "store"};

Connection& connectionOf(napi_env env, napi_value handle) { return *connections.at(number(env, handle)); }

std::vector<uint8_t> bytes(const std::string& text) { return {text.begin(), text.end()}; }

}  // namespace

// openStore(host, port, server, timeout): a promise of its handle. Port 0 lets a server choose one.
static napi_value openStore(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<4> args(env, info);
  const bool server = boolean(env, args[2]);
  silence();
  auto opened = std::make_shared<std::unique_ptr<Connection>>(std::make_unique<Connection>(env));
  Connection* connection = opened->get();
  return connection->worker.submit(
      env,
      [connection, server, host = text(env, args[0]), port = static_cast<uint16_t>(number(env, args[1])),
       timeout = milliseconds(number(env, args[3]))] { connection->store = connectStore(host, port, timeout, server); },
      [opened](napi_env env) { return makeNumber(env, connections.keep(std::move(*opened))); });
  PATINA_END
}

// storePort(store): the port of the server.
static napi_value storePort(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  return makeNumber(env, connectionOf(env, args[0]).store->getPort());
  PATINA_END
}

// storeSet(store, key, value): a promise.
static napi_value storeSet(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<3> args(env, info);
  Connection& connection = connectionOf(env, args[0]);
  return connection.worker.submit(env, [store = connection.store, key = text(env, args[1]), value = bytes(text(env, args[2]))] {
    store->set(key, value);
  });
  PATINA_END
}

// storeGet(store, key): a promise of the value, undefined if there is none.
static napi_value storeGet(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  using Found = std::optional<std::string>;
  return connectionOf(env, args[0])
      .request(
          env,
          [key = text(env, args[1])](c10d::TCPStore& store) -> Found {
            if (!store.check({key})) return std::nullopt;
            const std::vector<uint8_t> value = store.get(key);
            return std::string(value.begin(), value.end());
          },
          [](napi_env env, const Found& value) { return value ? makeText(env, *value) : nullptr; });
  PATINA_END
}

// storeAdd(store, key, amount): a promise of the sum so far.
static napi_value storeAdd(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<3> args(env, info);
  return connectionOf(env, args[0])
      .request(
          env,
          [key = text(env, args[1]), amount = static_cast<int64_t>(number(env, args[2]))](c10d::TCPStore& store) {
            return static_cast<double>(store.add(key, amount));
          },
          makeNumber);
  PATINA_END
}

// storeDelete(store, key): a promise of whether it was there.
static napi_value storeDelete(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  return connectionOf(env, args[0])
      .request(env, [key = text(env, args[1])](c10d::TCPStore& store) { return store.deleteKey(key); }, makeBool);
  PATINA_END
}

// storeCheck(store, keys): a promise of whether all of them are there.
static napi_value storeCheck(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<2> args(env, info);
  uint32_t count = 0;
  check(env, napi_get_array_length(env, args[1], &count), "an array");
  std::vector<std::string> keys;
  for (uint32_t i = 0; i < count; i++) {
    napi_value key;
    napi_get_element(env, args[1], i, &key);
    keys.push_back(text(env, key));
  }
  return connectionOf(env, args[0]).request(env, [keys](c10d::TCPStore& store) { return store.check(keys); }, makeBool);
  PATINA_END
}

// closeStore(store): the server, if this is the one that started it, ends with it.
static napi_value closeStore(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  connections.drop(number(env, args[0]));
  return nullptr;
  PATINA_END
}

void registerStores(napi_env env, napi_value exports) {
  addFunction(env, exports, "openStore", openStore);
  addFunction(env, exports, "storePort", storePort);
  addFunction(env, exports, "storeSet", storeSet);
  addFunction(env, exports, "storeGet", storeGet);
  addFunction(env, exports, "storeAdd", storeAdd);
  addFunction(env, exports, "storeDelete", storeDelete);
  addFunction(env, exports, "storeCheck", storeCheck);
  addFunction(env, exports, "closeStore", closeStore);
}

}  // namespace patina
