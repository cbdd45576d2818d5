// The one generic door to every operator, of ATen or of another namespace: the dispatcher finds it by name, its schema says how to convert what lies in
// the shared buffer, callBoxed runs it. No C++ per operator.
//
// An operator is declared once as [name, overload, arguments, mode], its name with a namespace unless that is aten: the arguments that TypeScript will write, as
// "name:type" in schema order. The plan made from it and from the schema of the libtorch in use survives additions: arguments
// that the schema has beyond the declared ones take their defaults; anything else is a 'schema' failure.
//
// In the buffer: Tensor, int, float, bool, dtype, layout, memory format: one number. Optional int, bool, dtype, layout, memory
// format: NaN for none; optional tensor, generator, device, string: 0 for none. Optional float: present, value. Scalar and optional
// Scalar: tag, payload (see ScalarTag). Lists: length (-1 for none), then the elements.
#include "worker.h"

#include <ATen/core/grad_mode.h>
#include <ATen/core/stack.h>

#include <cmath>
#include <deque>
#include <unordered_map>

namespace patina {

enum class Kind : uint8_t {
  Tensor, OptionalTensor, Int, OptionalInt, Float, OptionalFloat, Bool, OptionalBool, Scalar, OptionalScalar,
  Ints, OptionalInts, Floats, OptionalFloats, Bools, Tensors, OptionalTensorList, Scalars,
  String, OptionalString, Device, OptionalDevice, Generator, Default,
};

// Number: integral or floating by the operator's tensors or requested dtype; Long: the payload's bits are an int64.
enum ScalarTag { kNone = 0, kNumber = 1, kFloating = 2, kBool = 3, kLong = 4 };

struct Step {
  Kind kind;
  c10::IValue fallback;  // for Kind::Default
};

struct Operator {
  std::optional<c10::OperatorHandle> handle;
  std::string name, overload;
  std::vector<std::string> declared;  // "name:type"
  bool discard = false;               // in place: the result is the first argument itself
  std::vector<Step> plan;
  bool view = false;  // never touches elements: may be called on a tensor whose memory resizeStorage() has freed
  int dtypeAt = -1;  // position of a dtype argument in the stack
};

// Never destroyed, like the tensors.
static std::deque<Operator>& operators = *new std::deque<Operator>();
static torch::jit::Stack& stack = *new torch::jit::Stack();
static std::vector<size_t> pendingScalars;  // positions of Number scalars, settled when the tensors are known
static std::vector<std::string> strings{""};
static std::vector<c10::Device> devices{c10::Device(c10::DeviceType::CPU)};

// --- plans -----------------------------------------------------------------------------------------------------------

static Kind kindOf(const c10::TypePtr& type) {
  using T = c10::TypeKind;
  switch (type->kind()) {
    case T::TensorType: return Kind::Tensor;
    case T::IntType: case T::SymIntType: case T::ScalarTypeType: case T::LayoutType: case T::MemoryFormatType: return Kind::Int;
    case T::FloatType: return Kind::Float;
    case T::BoolType: return Kind::Bool;
    case T::NumberType: return Kind::Scalar;
    case T::StringType: return Kind::String;
    case T::DeviceObjType: return Kind::Device;
    case T::GeneratorType: return Kind::Generator;
    case T::ListType: {
      const auto& element = type->castRaw<c10::ListType>()->getElementType();
      switch (element->kind()) {
        case T::TensorType: return Kind::Tensors;
        case T::IntType: case T::SymIntType: return Kind::Ints;
        case T::FloatType: return Kind::Floats;
        case T::BoolType: return Kind::Bools;
        case T::NumberType: return Kind::Scalars;
        case T::OptionalType: return Kind::OptionalTensorList;
        default: break;
      }
      break;
    }
    case T::OptionalType: {
      switch (kindOf(type->castRaw<c10::OptionalType>()->getElementType())) {
        case Kind::Tensor: return Kind::OptionalTensor;
        case Kind::Int: return Kind::OptionalInt;
        case Kind::Float: return Kind::OptionalFloat;
        case Kind::Bool: return Kind::OptionalBool;
        case Kind::Scalar: return Kind::OptionalScalar;
        case Kind::Ints: return Kind::OptionalInts;
        case Kind::Floats: return Kind::OptionalFloats;
        case Kind::String: return Kind::OptionalString;
        case Kind::Device: return Kind::OptionalDevice;
        case Kind::Generator: return Kind::Generator;
        default: break;
      }
      break;
    }
    default: break;
  }
  throw Failure("schema", "no conversion for an argument of type " + type->str());
}

// The type as the schema spells it, without alias annotations: "Tensor?", "int[]", "ScalarType?". SymInt is int here: from one
// version to the next, operators change from the one to the other.
static std::string spelling(const c10::Argument& argument) {
  std::string result = argument.real_type()->str();
  if (argument.N() && argument.type()->kind() == c10::TypeKind::ListType)
    result.insert(result.size() - 1, std::to_string(*argument.N()));
  for (size_t at; (at = result.find("SymInt")) != std::string::npos;) result.replace(at, 6, "int");
  return result;
}

static c10::OperatorHandle find(const std::string& name, const std::string& overload) {
  const c10::OperatorName full(name.find("::") == std::string::npos ? "aten::" + name : name, overload);
  const auto handle = c10::Dispatcher::singleton().findSchema(full);
  if (!handle) throw Failure("schema", "libtorch has no operator '" + c10::toString(full) + "'");
  return *handle;
}

static void resolve(Operator& op) {
  const auto handle = find(op.name, op.overload);
  const std::string full = c10::toString(handle.operator_name());
  std::vector<Step> plan;
  size_t next = 0;
  for (const auto& argument : handle.schema().arguments()) {
    if (argument.real_type()->str().rfind("ScalarType", 0) == 0 && argument.name() == "dtype") op.dtypeAt = static_cast<int>(plan.size());
    const std::string declared = argument.name() + ":" + spelling(argument);
    if (next < op.declared.size() && op.declared[next] == declared) {
      plan.push_back({kindOf(argument.real_type()), {}});
      next++;
    } else if (argument.default_value()) {
      plan.push_back({Kind::Default, *argument.default_value()});
    } else {
      throw Failure("schema", "operator '" + full + "' asks for '" + declared + "', which is not known here");
    }
  }
  if (next < op.declared.size())
    throw Failure("schema", "operator '" + full + "' of this libtorch has no argument '" + op.declared[next] + "'");
  const auto& returns = handle.schema().returns();
  op.view = !returns.empty() && returns[0].alias_info() && !returns[0].alias_info()->isWrite() &&
            !handle.hasKernelForDispatchKey(c10::DispatchKey::CompositeImplicitAutograd);
  op.plan = std::move(plan);
  op.handle = handle;
}

// --- decoding --------------------------------------------------------------------------------------------------------

struct Reader {
  const double* at;
  const double* end;
  int argument = 0;

  double next() {
    if (at >= end) throw Failure("argument", "the arguments exceed the buffer", argument);
    return *at++;
  }
  int64_t integer(double value) const {
    if (value != std::trunc(value) || std::abs(value) > 9007199254740991.0)
      throw Failure("argument", "expected an integer", argument);
    return static_cast<int64_t>(value);
  }
  int64_t integer() { return integer(next()); }
  bool boolean() {
    const double value = next();
    if (value != 0 && value != 1) throw Failure("argument", "expected a boolean", argument);
    return value == 1;
  }
  // Length of a list whose elements take at least `width` numbers each; -1 for none.
  int64_t length(size_t width = 1) {
    const int64_t count = integer();
    if (count < -1 || (count > 0 && static_cast<size_t>(count) > static_cast<size_t>(end - at) / width))
      throw Failure("argument", "a list exceeds the buffer", argument);
    return count;
  }
  template <typename T, typename F>
  void list(F&& element) {
    const int64_t count = length();
    if (count < 0) {
      stack.emplace_back();
      return;
    }
    c10::List<T> result;
    result.reserve(count);
    for (int64_t i = 0; i < count; i++) result.push_back(element());
    stack.emplace_back(std::move(result));
  }
  // A Scalar whose number still has to be settled carries `pending`.
  c10::IValue scalar(bool& pending) {
    const double tag = next();
    const double payload = next();
    switch (static_cast<int>(tag)) {
      case kNone: return {};
      case kNumber: pending = true; return payload;
      case kFloating: return payload;
      case kBool: return payload != 0;
      case kLong: {
        int64_t bits;
        std::memcpy(&bits, &payload, sizeof bits);
        return bits;
      }
      default: throw Failure("argument", "expected a number", argument);
    }
  }
};

static bool integral(double value) {
  return value == std::trunc(value) && std::abs(value) <= 9007199254740991.0 && !(value == 0 && std::signbit(value));
}

// The rule for JavaScript numbers: an integral Scalar if it is a safe integer (not -0) and the operator's first tensor is
// integral or bool, or, where there is no tensor, the requested dtype is.
static bool wantsIntegers(const Operator& op) {
  for (const auto& value : stack) {
    if (value.isTensor() && value.toTensor().defined()) return c10::isIntegralType(value.toTensor().scalar_type(), true);
    if (value.isTensorList() && !value.toTensorList().empty())
      return c10::isIntegralType(value.toTensorVector()[0].scalar_type(), true);
  }
  if (op.dtypeAt >= 0 && stack[op.dtypeAt].isInt())
    return c10::isIntegralType(static_cast<c10::ScalarType>(stack[op.dtypeAt].toInt()), true);
  return false;
}

static void decode(const Operator& op) {
  Reader reader{buffer, buffer + capacity};
  const auto take = [&](double handle) -> at::Tensor& {
    return op.view ? tensorOf(handle, reader.argument) : dataOf(handle, reader.argument);
  };
  pendingScalars.clear();
  for (const Step& step : op.plan) {
    switch (step.kind) {
      case Kind::Tensor: stack.emplace_back(take(reader.next())); break;
      case Kind::OptionalTensor: {
        const double handle = reader.next();
        if (handle == 0) stack.emplace_back(); else stack.emplace_back(take(handle));
        break;
      }
      case Kind::Int: stack.emplace_back(reader.integer()); break;
      case Kind::OptionalInt: {
        const double value = reader.next();
        if (std::isnan(value)) stack.emplace_back(); else stack.emplace_back(reader.integer(value));
        break;
      }
      case Kind::Float: stack.emplace_back(reader.next()); break;
      case Kind::OptionalFloat: {
        const bool present = reader.boolean();
        const double value = reader.next();
        if (present) stack.emplace_back(value); else stack.emplace_back();
        break;
      }
      case Kind::Bool: stack.emplace_back(reader.boolean()); break;
      case Kind::OptionalBool: {
        if (std::isnan(*reader.at)) { reader.next(); stack.emplace_back(); } else stack.emplace_back(reader.boolean());
        break;
      }
      case Kind::Scalar: case Kind::OptionalScalar: {
        bool pending = false;
        stack.push_back(reader.scalar(pending));
        if (stack.back().isNone() && step.kind == Kind::Scalar) throw Failure("argument", "expected a number", reader.argument);
        if (pending) pendingScalars.push_back(stack.size() - 1);
        break;
      }
      case Kind::Ints: case Kind::OptionalInts: reader.list<int64_t>([&] { return reader.integer(); }); break;
      case Kind::Floats: case Kind::OptionalFloats: reader.list<double>([&] { return reader.next(); }); break;
      case Kind::Bools: reader.list<bool>([&] { return reader.boolean(); }); break;
      case Kind::Tensors: reader.list<at::Tensor>([&] { return take(reader.next()); }); break;
      case Kind::OptionalTensorList:
        reader.list<std::optional<at::Tensor>>([&]() -> std::optional<at::Tensor> {
          const double handle = reader.next();
          if (handle == 0) return std::nullopt;
          return take(handle);
        });
        break;
      case Kind::Scalars: {
        const int64_t count = reader.length(2);
        c10::List<at::Scalar> list;
        for (int64_t i = 0; i < count; i++) {
          bool pending = false;
          const c10::IValue value = reader.scalar(pending);
          // A list of scalars goes with a list of tensors, whose dtype is known by now.
          if (pending && integral(value.toDouble()) && wantsIntegers(op)) list.push_back(static_cast<int64_t>(value.toDouble()));
          else list.push_back(value.toScalar());
        }
        stack.emplace_back(std::move(list));
        break;
      }
      case Kind::String: case Kind::OptionalString: {
        const int64_t id = reader.integer();
        if (id < 0 || id >= static_cast<int64_t>(strings.size())) throw Failure("argument", "expected a string", reader.argument);
        if (id == 0 && step.kind == Kind::OptionalString) stack.emplace_back(); else stack.emplace_back(strings[id]);
        break;
      }
      case Kind::Device: case Kind::OptionalDevice: {
        const int64_t id = reader.integer();
        if (id < 0 || id >= static_cast<int64_t>(devices.size())) throw Failure("argument", "expected a device", reader.argument);
        if (id == 0 && step.kind == Kind::OptionalDevice) stack.emplace_back(); else stack.emplace_back(devices[id]);
        break;
      }
      case Kind::Generator: {
        const double handle = reader.next();
        if (handle == 0) stack.emplace_back(); else stack.emplace_back(generatorOf(handle, reader.argument));
        break;
      }
      case Kind::Default: stack.push_back(step.fallback); break;
    }
    reader.argument++;
  }
  if (!pendingScalars.empty() && wantsIntegers(op)) {
    for (const size_t position : pendingScalars) {
      const double value = stack[position].toDouble();
      if (integral(value)) stack[position] = static_cast<int64_t>(value);
    }
  }
}

// --- results ---------------------------------------------------------------------------------------------------------

// The results on the stack, into the buffer. Where it is too small they stay on the stack, and the failure 'room' names the
// length that is needed: TypeScript makes room and asks for the results again.
static void encode() {
  size_t needed = 0;
  for (const auto& value : stack) needed += value.isTensorList() ? value.toTensorList().size() + 1 : 1;
  if (needed > capacity) throw Failure("room", "the results exceed the buffer", static_cast<int>(needed));
  double* out = buffer;
  for (auto& value : stack) {
    if (value.isTensor()) {
      *out++ = keep(std::move(value).toTensor());
    } else if (value.isTensorList()) {
      const auto list = value.toTensorVector();
      *out++ = static_cast<double>(list.size());
      for (const auto& tensor : list) *out++ = keep(tensor);
    } else if (value.isInt()) {
      *out++ = static_cast<double>(value.toInt());
    } else if (value.isDouble()) {
      *out++ = value.toDouble();
    } else if (value.isBool()) {
      *out++ = value.toBool();
    } else if (value.isNone()) {
      *out++ = 0;
    } else {
      throw Failure("schema", "no conversion for a result of type " + value.tagKind());
    }
  }
}

// Calls that were put off, to be made on another thread.
struct PutOff {
  const Operator* op;
  torch::jit::Stack arguments;
};
static bool puttingOff = false;
static std::vector<PutOff> putOff;

// putOff(): from now on, until run() or forget(), calls of operators that work in place are kept in a list.
static napi_value startPuttingOff(napi_env env, napi_callback_info) {
  PATINA_TRY
  checkThread(env);
  puttingOff = true;
  return nullptr;
  PATINA_END
}

// forgetPutOff(): as if they had not been made.
static napi_value forgetPutOff(napi_env env, napi_callback_info) {
  PATINA_TRY
  checkThread(env);
  puttingOff = false;
  putOff.clear();
  return nullptr;
  PATINA_END
}

// runPutOff(): a promise; makes them one after another on a thread for such work, after those of the runs before.
static napi_value runPutOff(napi_env env, napi_callback_info) {
  PATINA_TRY
  checkThread(env);
  static Worker& worker = *new Worker(env, "patina:operators");
  puttingOff = false;
  auto calls = std::make_shared<std::vector<PutOff>>(std::move(putOff));
  putOff.clear();
  const auto work = [calls] {
    const at::NoGradGuard values;
    for (PutOff& each : *calls) each.op->handle->callBoxed(each.arguments);
  };
  // Tensors are freed on JavaScript's thread, where their table is.
  return worker.submit(env, work, [calls](napi_env) { return nullptr; });
  PATINA_END
}

// call(operator): arguments from the buffer, results into it.
static napi_value call(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  uint32_t id = 0;
  napi_get_value_uint32(env, args[0], &id);
  if (id >= operators.size()) throw Failure("argument", "no such operator");
  Operator& op = operators[id];
  if (!op.handle) resolve(op);
  stack.clear();
  try {
    decode(op);
    if (puttingOff) {
      if (!op.discard && !op.handle->schema().returns().empty()) throw Failure("argument", "only what works in place can be put off");
      putOff.push_back({&op, stack});
      stack.clear();
      return nullptr;
    }
    op.handle->callBoxed(stack);
  } catch (...) {
    stack.clear();
    throw;
  }
  if (!op.discard) encode();
  stack.clear();
  return nullptr;
  PATINA_END
}

// results(): those that the call before left on the stack for want of room.
static napi_value results(napi_env env, napi_callback_info) {
  PATINA_TRY
  checkThread(env);
  encode();
  stack.clear();
  return nullptr;
  PATINA_END
}

// declare(name, overload, arguments, discard): the number to call it by.
static napi_value declare(napi_env env, napi_callback_info info) {
  PATINA_TRY
  Arguments<4> args(env, info);
  Operator op;
  op.name = text(env, args[0]);
  op.overload = text(env, args[1]);
  uint32_t count = 0;
  check(env, napi_get_array_length(env, args[2], &count), "an array");
  for (uint32_t i = 0; i < count; i++) {
    napi_value element;
    napi_get_element(env, args[2], i, &element);
    op.declared.push_back(text(env, element));
  }
  op.discard = boolean(env, args[3]);
  operators.push_back(std::move(op));
  return makeNumber(env, static_cast<double>(operators.size() - 1));
  PATINA_END
}

// resolve(operator): finds it now, to check a table against this libtorch without running anything.
static napi_value resolveNow(napi_env env, napi_callback_info info) {
  PATINA_TRY
  Arguments<1> args(env, info);
  resolve(operators.at(static_cast<size_t>(number(env, args[0]))));
  return nullptr;
  PATINA_END
}

// intern(text): the number that stands for a string argument.
static napi_value intern(napi_env env, napi_callback_info info) {
  PATINA_TRY
  Arguments<1> args(env, info);
  strings.push_back(text(env, args[0]));
  return makeNumber(env, static_cast<double>(strings.size() - 1));
  PATINA_END
}

// device(text): the number that stands for a device argument.
static napi_value device(napi_env env, napi_callback_info info) {
  PATINA_TRY
  checkThread(env);
  Arguments<1> args(env, info);
  devices.push_back(deviceOf(text(env, args[0])));
  return makeNumber(env, static_cast<double>(devices.size() - 1));
  PATINA_END
}

// schema(name, overload): {arguments: [{name, type, keywordOnly, default, writes}], returns: [{type, writes}]}.
static napi_value schema(napi_env env, napi_callback_info info) {
  PATINA_TRY
  Arguments<2> args(env, info);
  const auto handle = find(text(env, args[0]), text(env, args[1]));
  const auto describe = [&](const std::vector<c10::Argument>& from) {
    napi_value list;
    napi_create_array(env, &list);
    uint32_t index = 0;
    for (const auto& argument : from) {
      napi_value object;
      napi_create_object(env, &object);
      setField(env, object, "name", makeText(env, argument.name()));
      setField(env, object, "type", makeText(env, spelling(argument)));
      setField(env, object, "keywordOnly", makeBool(env, argument.kwarg_only()));
      setField(env, object, "writes", makeBool(env, argument.alias_info() && argument.alias_info()->isWrite()));
      if (argument.default_value()) {
        std::ostringstream out;
        out << *argument.default_value();
        setField(env, object, "default", makeText(env, out.str()));
      }
      napi_set_element(env, list, index++, object);
    }
    return list;
  };
  napi_value object;
  napi_create_object(env, &object);
  setField(env, object, "arguments", describe(handle.schema().arguments()));
  setField(env, object, "returns", describe(handle.schema().returns()));
  return object;
  PATINA_END
}

void registerDoor(napi_env env, napi_value exports) {
  stack.reserve(32);
  addFunction(env, exports, "call", call);
  addFunction(env, exports, "results", results);
  addFunction(env, exports, "putOff", startPuttingOff);
  addFunction(env, exports, "forgetPutOff", forgetPutOff);
  addFunction(env, exports, "runPutOff", runPutOff);
  addFunction(env, exports, "declare", declare);
  addFunction(env, exports, "resolve", resolveNow);
  addFunction(env, exports, "intern", intern);
  addFunction(env, exports, "device", device);
  addFunction(env, exports, "schema", schema);
}

}  // namespace patina
