// Memory-mapped files as tensors: private copy-on-write maps, every extent checked against the file's size, misaligned
// offsets copied, a file that changed since it was mapped refused where that can be seen.
#include "table.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>
#include <memory>

namespace patina {

namespace {

struct Mapping {
  std::string path;
  int file = -1;
  char* data = nullptr;
  size_t size = 0;
  struct stat seen{};

  ~Mapping() {
    if (data != nullptr) munmap(data, size);
    if (file >= 0) close(file);
  }

  // A later change of the file is visible in its size or times; a map of it may show old and new bytes mixed, or fault.
  void checkUnchanged() const {
    struct stat now{};
    if (fstat(file, &now) != 0) throw Failure("file", "cannot read the state of '" + path + "': " + std::strerror(errno));
#ifdef __APPLE__
    const bool same = now.st_mtimespec.tv_sec == seen.st_mtimespec.tv_sec && now.st_mtimespec.tv_nsec == seen.st_mtimespec.tv_nsec;
#else
    const bool same = now.st_mtim.tv_sec == seen.st_mtim.tv_sec && now.st_mtim.tv_nsec == seen.st_mtim.tv_nsec;
#endif
    if (now.st_size != seen.st_size || !same) throw Failure("changed", "'" + path + "' changed while it was mapped");
  }
};

// Shared with the tensors made of it and with reads that are under way.
Table<std::shared_ptr<Mapping>> mappings{"MappedFile", "mapped file"};

// Reads a range into `target`, or without one into the page cache alone. By pread: a file cut short meanwhile must not fault.
void readRange(const Mapping& mapping, size_t offset, size_t length, char* target) {
  std::vector<char> scratch(target == nullptr ? 1 << 20 : 0);
  size_t done = 0;
  while (done < length) {
    const size_t rest = length - done;
    const ssize_t count = pread(mapping.file, target != nullptr ? target + done : scratch.data(),
                                target != nullptr ? rest : std::min(scratch.size(), rest), static_cast<off_t>(offset + done));
    if (count < 0 && errno == EINTR) continue;
    if (count <= 0)
      throw Failure("file", "cannot read '" + mapping.path + "': " + (count < 0 ? std::strerror(errno) : "the file ends before the range"));
    done += static_cast<size_t>(count);
  }
}

}  // namespace

// mapFile(path): buffer = [handle, size].
static napi_value mapFile(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  auto mapping = std::make_shared<Mapping>();
  mapping->path = text(env, args[0]);
  mapping->file = open(mapping->path.c_str(), O_RDONLY | O_CLOEXEC);
  if (mapping->file < 0) throw Failure("file", "cannot open '" + mapping->path + "': " + std::strerror(errno));
  if (fstat(mapping->file, &mapping->seen) != 0) throw Failure("file", "cannot read the state of '" + mapping->path + "'");
  if (!S_ISREG(mapping->seen.st_mode)) throw Failure("file", "'" + mapping->path + "' is not a regular file");
  mapping->size = static_cast<size_t>(mapping->seen.st_size);
  if (mapping->size > 0) {
    void* data = mmap(nullptr, mapping->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, mapping->file, 0);
    if (data == MAP_FAILED) throw Failure("file", "cannot map '" + mapping->path + "': " + std::strerror(errno));
    mapping->data = static_cast<char*>(data);
  }
  const double size = static_cast<double>(mapping->size);
  buffer[0] = mappings.keep(std::move(mapping));
  buffer[1] = size;
  return nullptr;
  PATINA_END
}

// closeFile(file): tensors made of the map stay valid, the map goes with the last of them.
static napi_value closeFile(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  mappings.drop(number(env, args[0]));
  return nullptr;
  PATINA_END
}

// mappedTensor(file, byteOffset, dtype): geometry in the buffer as for fromBuffer; buffer = [handle, copied].
static napi_value mappedTensor(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<3> args(env, info);
  const std::shared_ptr<Mapping> mapping = mappings.at(number(env, args[0]));
  const double position = number(env, args[1]);
  const auto dtype = static_cast<c10::ScalarType>(static_cast<int8_t>(number(env, args[2])));
  mapping->checkUnchanged();
  std::vector<int64_t> sizes;
  std::optional<std::vector<int64_t>> strides;
  readGeometry(buffer, sizes, strides);
  const int64_t extent = extentOf(sizes, strides);
  const auto item = static_cast<int64_t>(c10::elementSize(dtype));
  if (!(position >= 0) || position > static_cast<double>(mapping->size) ||
      extent > static_cast<int64_t>(mapping->size - static_cast<size_t>(position)) / item)
    throw Failure("extent", "'" + mapping->path + "' has " + std::to_string(mapping->size) + " bytes, the tensor needs " +
                                std::to_string(extent) + " elements of " + std::to_string(item) + " bytes from byte " +
                                std::to_string(static_cast<int64_t>(position)));
  const auto options = at::TensorOptions().dtype(dtype);
  const auto byte = static_cast<size_t>(position);
  if (extent == 0) {
    buffer[0] = keep(at::empty(sizes, options));
    buffer[1] = 1;
    return nullptr;
  }
  char* start = mapping->data + byte;
  at::Tensor tensor;
  const bool misaligned = reinterpret_cast<uintptr_t>(start) % item != 0;
  if (misaligned) {
    at::Tensor copy = at::empty({extent}, options);
    std::memcpy(copy.mutable_data_ptr(), start, extent * item);
    tensor = strides ? copy.as_strided(sizes, *strides) : copy.view(sizes);
  } else {
    const auto release = [mapping](void*) {};
    tensor = strides ? at::from_blob(start, sizes, *strides, release, options) : at::from_blob(start, sizes, release, options);
  }
  buffer[0] = keep(std::move(tensor));
  buffer[1] = misaligned;
  return nullptr;
  PATINA_END
}

// checkFile(file): fails with 'changed' if the file is no longer what was mapped.
static napi_value checkFile(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  mappings.at(number(env, args[0]))->checkUnchanged();
  return nullptr;
  PATINA_END
}

// readFile(file, offset, length, handle or 0): a promise; reads the range on another thread into the memory of a dense CPU tensor of
// as many bytes, without one into the page cache alone.
static napi_value readFile(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<4> args(env, info);
  const std::shared_ptr<Mapping> mapping = mappings.at(number(env, args[0]));
  const auto offset = static_cast<size_t>(number(env, args[1])), length = static_cast<size_t>(number(env, args[2]));
  at::Tensor target;
  if (const double handle = number(env, args[3]); handle != 0) {
    target = dataOf(handle, 0);
    if (!target.device().is_cpu() || !target.is_contiguous() || target.nbytes() != length)
      throw Failure("argument", "expected a dense tensor of " + std::to_string(length) + " bytes on the CPU", 0);
  }
  return asyncWork(env, "patina:read", [mapping, offset, length, target] {
    readRange(*mapping, offset, length, target.defined() ? static_cast<char*>(target.data_ptr()) : nullptr);
  });
  PATINA_END
}

void registerFiles(napi_env env, napi_value exports) {
  addFunction(env, exports, "mapFile", mapFile);
  addFunction(env, exports, "closeFile", closeFile);
  addFunction(env, exports, "mappedTensor", mappedTensor);
  addFunction(env, exports, "checkFile", checkFile);
  addFunction(env, exports, "readFile", readFile);
}

}  // namespace patina
