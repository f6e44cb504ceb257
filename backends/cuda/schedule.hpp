#pragma once

#include <cstddef>
#include <string>

#include "backends/cuda/packed_weights.hpp"
#include "backends/cuda/tiles.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// Which kernels run a problem, and in which portions: decided from numbers alone.
struct Schedule {
  Kernel step;        ///< a step; with reset-before its second launch
  Kernel reset;       ///< reset-before: the first launch of a step; else no function
  Kernel projection;  ///< the input projection of projected_steps steps; no function: made within each step
  int projected_steps = 0;
  Kernel slice_inputs;  ///< Hopper: the inputs of projected_steps steps into the form that is multiplied
  Kernel slice_state;   ///< Hopper: h0, likewise
  PackOptions pack;
  std::string remark;
};

Schedule make_schedule(const Problem& problem);

}  // namespace gru::cuda
