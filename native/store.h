// The key-value store that the ranks of a job share: c10d's TCPStore, whose server runs within rank 0.
#pragma once

#include "worker.h"

#include <torch/csrc/distributed/c10d/TCPStore.hpp>

#include <chrono>

namespace patina {

using Milliseconds = std::chrono::milliseconds;

// A connection to the server, which is started by the one that says so. One connection answers one request at a time, so each
// thread that waits has its own.
c10::intrusive_ptr<c10d::TCPStore> connectStore(const std::string& host, uint16_t port, Milliseconds timeout, bool server = false);

inline Milliseconds milliseconds(double value) { return Milliseconds(static_cast<int64_t>(value)); }

}  // namespace patina
