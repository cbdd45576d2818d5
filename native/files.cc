// Memory-mapped files as tensors: private copy-on-write maps, every extent checked against the file's size, misaligned
// offsets copied, a file that changed since it was mapped refused where that can be seen.
#include "common.h"

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

std::vector<std::shared_ptr<Mapping>>& mappings = *new std::vector<std::shared_ptr<Mapping>>();  // never destroyed
std::vector<size_t> freeMappings;

const std::shared_ptr<Mapping>& mappingOf(double id) {
  if (!(id >= 0) || id >= static_cast<double>(mappings.size()) || !mappings[static_cast<size_t>(id)])
    throw Failure("stale", "the mapped file was closed");
  return mappings[static_cast<size_t>(id)];
}

// Where a range goes: into a tensor, or nowhere but the page cache.
struct Read {
  napi_async_work work;
  napi_deferred deferred;
  std::shared_ptr<Mapping> mapping;
  size_t offset, length;
  at::Tensor target;
  std::string error;
};

}  // namespace

// mapFile(path): buffer = [id, size].
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
  size_t id;
  if (freeMappings.empty()) {
    id = mappings.size();
    mappings.push_back(std::move(mapping));
  } else {
    id = freeMappings.back();
    freeMappings.pop_back();
    mappings[id] = std::move(mapping);
  }
  buffer[0] = static_cast<double>(id);
  buffer[1] = size;
  return nullptr;
  PATINA_END
}

// closeFile(id): tensors made of the map stay valid, the map goes with the last of them.
static napi_value closeFile(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  const double id = number(env, args[0]);
  mappingOf(id);
  mappings[static_cast<size_t>(id)].reset();
  freeMappings.push_back(static_cast<size_t>(id));
  return nullptr;
  PATINA_END
}

// mappedTensor(id, byteOffset, dtype): geometry in the buffer as for fromBuffer; buffer = [handle, copied].
static napi_value mappedTensor(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<3> args(env, info);
  const std::shared_ptr<Mapping> mapping = mappingOf(number(env, args[0]));
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

// checkFile(id): fails with 'changed' if the file is no longer what was mapped.
static napi_value checkFile(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  mappingOf(number(env, args[0]))->checkUnchanged();
  return nullptr;
  PATINA_END
}

// readFile(id, offset, length, handle or 0): a promise; reads the range on another thread into the memory of a dense CPU tensor of
// as many bytes, without one into the page cache alone. By pread: a file cut short meanwhile must not fault.
static napi_value readFile(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<4> args(env, info);
  auto read = std::make_unique<Read>();
  read->mapping = mappingOf(number(env, args[0]));
  read->offset = static_cast<size_t>(number(env, args[1]));
  read->length = static_cast<size_t>(number(env, args[2]));
  if (const double handle = number(env, args[3]); handle != 0) {
    read->target = dataOf(handle, 0);
    if (!read->target.device().is_cpu() || !read->target.is_contiguous() || read->target.nbytes() != read->length)
      throw Failure("argument", "expected a dense tensor of " + std::to_string(read->length) + " bytes on the CPU", 0);
  }
  napi_value promise = nullptr, name;
  check(env, napi_create_promise(env, &read->deferred, &promise), "a promise");
  napi_create_string_utf8(env, "patina:read", NAPI_AUTO_LENGTH, &name);
  napi_create_async_work(
      env, nullptr, name,
      [](napi_env, void* data) {
        auto* job = static_cast<Read*>(data);
        std::vector<char> scratch(job->target.defined() ? 0 : 1 << 20);
        char* const target = job->target.defined() ? static_cast<char*>(job->target.data_ptr()) : nullptr;
        size_t done = 0;
        while (done < job->length) {
          const size_t rest = job->length - done;
          const ssize_t count = pread(job->mapping->file, target != nullptr ? target + done : scratch.data(),
                                      target != nullptr ? rest : std::min(scratch.size(), rest),
                                      static_cast<off_t>(job->offset + done));
          if (count < 0 && errno == EINTR) continue;
          if (count <= 0) {
            job->error = count < 0 ? std::strerror(errno) : "the file ends before the range";
            return;
          }
          done += static_cast<size_t>(count);
        }
      },
      [](napi_env env, napi_status, void* data) {
        const std::unique_ptr<Read> job(static_cast<Read*>(data));
        napi_value value;
        if (job->error.empty()) {
          napi_get_undefined(env, &value);
          napi_resolve_deferred(env, job->deferred, value);
        } else {
          napi_create_object(env, &value);
          setField(env, value, "kind", makeText(env, "file"));
          setField(env, value, "message", makeText(env, "cannot read '" + job->mapping->path + "': " + job->error));
          setField(env, value, "argument", makeNumber(env, -1));
          napi_reject_deferred(env, job->deferred, value);
        }
        napi_delete_async_work(env, job->work);
      },
      read.get(), &read->work);
  napi_queue_async_work(env, read->work);
  read.release();
  return promise;
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
