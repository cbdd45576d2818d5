// Registering kernels for operators of libtorch.
#pragma once

#include "common.h"

#include <torch/library.h>

#include <string>
#include <tuple>
#include <utility>

namespace patina {

// A kernel under the signature of the libtorch at hand: later versions add arguments at the end, which a kernel may leave out.
template <typename Schema, auto kernel, typename Kernel = decltype(kernel)>
struct Fitted;

template <typename Result, typename... Given, auto kernel, typename... Taken>
struct Fitted<Result(Given...), kernel, Result (*)(Taken...)> {
  static Result call(Given... given) {
    const auto arguments = std::forward_as_tuple(given...);
    return [&]<size_t... I>(std::index_sequence<I...>) -> Result { return kernel(std::get<I>(arguments)...); }
    (std::make_index_sequence<sizeof...(Taken)>());
  }
};

// implement<at::_ops::abs_out, kernel>(library)
template <typename Operator, auto kernel>
void implement(torch::Library& library) {
  std::string name = Operator::name;
  if (*Operator::overload_name != '\0') name += std::string(".") + Operator::overload_name;
  library.impl(name.c_str(), &Fitted<typename Operator::schema, kernel>::call);
}

}  // namespace patina
