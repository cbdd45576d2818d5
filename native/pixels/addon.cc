// The door to resize(): stateless, so that any worker thread may call it. Arguments are checked by the caller
// (src/data/image/fit.ts); what is checked again here is what would read or write out of bounds.
#include <node_api.h>

#include <cstring>
#include <exception>

#include "resize.h"

namespace {

struct Bytes {
  uint8_t* data;
  size_t length;
};

// Throws into JavaScript and returns false unless `value` is a Uint8Array.
bool read_bytes(napi_env env, napi_value value, Bytes* out) {
  napi_typedarray_type type;
  void* data = nullptr;
  if (napi_get_typedarray_info(env, value, &type, &out->length, &data, nullptr, nullptr) != napi_ok ||
      (type != napi_uint8_array && type != napi_uint8_clamped_array)) {
    napi_throw_type_error(env, nullptr, "resize: source and target must be Uint8Arrays");
    return false;
  }
  out->data = static_cast<uint8_t*>(data);
  return true;
}

constexpr size_t kNumbers = 15;
constexpr double kLargest = 9007199254740992.0;  // 2^53

// resize(source: Uint8Array, target: Uint8Array, numbers: Float64Array): void, and resizePortable, the same without
// vector instructions, which exists for tests.
//
// numbers: image width, height; canvas width, height; place x, y; resized width, height; corner x, y; window width,
// height; background red, green, blue.
template <bool vectors>
napi_value resize(napi_env env, napi_callback_info info) {
  size_t count = 3;
  napi_value arguments[3];
  Bytes source;
  Bytes target;
  napi_typedarray_type type;
  size_t length = 0;
  void* data = nullptr;
  if (napi_get_cb_info(env, info, &count, arguments, nullptr, nullptr) != napi_ok) return nullptr;
  if (!read_bytes(env, arguments[0], &source) || !read_bytes(env, arguments[1], &target)) return nullptr;
  if (napi_get_typedarray_info(env, arguments[2], &type, &length, &data, nullptr, nullptr) != napi_ok ||
      type != napi_float64_array || length != kNumbers) {
    napi_throw_type_error(env, nullptr, "resize: numbers must be a Float64Array of 15");
    return nullptr;
  }
  double numbers[kNumbers];
  std::memcpy(numbers, data, sizeof numbers);
  for (const double number : numbers) {
    if (!(number >= 0 && number <= kLargest)) {
      napi_throw_range_error(env, nullptr, "resize: a number is negative or not finite");
      return nullptr;
    }
  }
  const auto at = [&](size_t i) { return static_cast<int64_t>(numbers[i]); };
  pixels::Request request{};
  request.source = source.data;
  request.target = target.data;
  request.image = {at(0), at(1)};
  request.canvas = {at(2), at(3)};
  request.place = {at(4), at(5)};
  request.resized = {at(6), at(7)};
  request.corner = {at(8), at(9)};
  request.window = {at(10), at(11)};
  for (size_t c = 0; c < 3; c++) request.background[c] = static_cast<uint8_t>(at(12 + c));

  const auto inside = [](int64_t from, int64_t extent, int64_t whole) {
    return from >= 0 && extent > 0 && extent <= whole && from <= whole - extent;
  };
  if (!inside(request.place.x, request.image.width, request.canvas.width) ||
      !inside(request.place.y, request.image.height, request.canvas.height) ||
      !inside(request.corner.x, request.window.width, request.resized.width) ||
      !inside(request.corner.y, request.window.height, request.resized.height) ||
      static_cast<double>(source.length) != 3 * numbers[0] * numbers[1] ||
      static_cast<double>(target.length) != 3 * numbers[10] * numbers[11]) {
    napi_throw_range_error(env, nullptr, "resize: sizes, places and buffers do not fit each other");
    return nullptr;
  }
  try {
    pixels::resize(request, vectors);
  } catch (const std::exception& error) {
    napi_throw_error(env, nullptr, error.what());
  }
  return nullptr;
}

}  // namespace

NAPI_MODULE_INIT() {
  const napi_property_descriptor functions[] = {
      {"resize", nullptr, resize<true>, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
      {"resizePortable", nullptr, resize<false>, nullptr, nullptr, nullptr, napi_enumerable, nullptr},
  };
  napi_define_properties(env, exports, 2, functions);
  return exports;
}
