// What every form of patina::adamw_ takes.
#pragma once

#include "common.h"

namespace patina {

// Refuses lists that do not belong together, and marks what is written. `single`: weights and moments are fp32.
void checkAdamw(at::TensorList self, at::TensorList grads, at::TensorList averages, at::TensorList squares, at::TensorList rounded,
                at::TensorList steps, bool single);

}  // namespace patina
