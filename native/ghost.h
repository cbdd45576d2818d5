// The trace of a ghost run: what a program on meta tensors would have asked of a card.
#pragma once

#include "common.h"

#include <c10/core/Stream.h>

namespace patina {

// The number of a meta tensor's memory in the trace; 0 where it has none.
int64_t tracedAllocation(const at::Tensor& tensor);

// The stream of a handle.
c10::Stream streamOf(double handle);

namespace ghost {

// A block of memory, of so many bytes: its number; 0 where nothing is traced.
int64_t allocated(int64_t bytes);
void freed(int64_t block);
// A stream reads the block: it is not given out again before that stream has passed this point.
void protectedFor(int64_t block, c10::Stream stream);

// Streams of the meta device, which is named by them alone.
c10::Stream newStream();
c10::Stream currentStream();
c10::Stream exchangeStream(c10::Stream stream);

bool tracing();

// A call between ranks over a whole: its number. `arrived`: the current stream waits for it.
int64_t called(const char* kind, const at::Tensor& whole, int64_t ranks);
void arrived(int64_t call);

}  // namespace ghost
}  // namespace patina
