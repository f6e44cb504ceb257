#pragma once

#include <cstddef>
#include <string>

#include "backends/cuda/common/build.hpp"
#include "backends/cuda/per_step/kernels.hpp"
#include "backends/cuda/per_step/pack_options.hpp"
#include "gru/problem.hpp"

namespace gru::cuda {

/// Which kernels run a problem, and in which portions: decided from numbers alone.
struct Schedule {
  Kernel step;               ///< a step; with reset-before its second launch; or all steps of a portion, if cooperative
  Kernel reset;              ///< reset-before: the first launch of a step; else none
  int projected_steps = 0;   ///< whose input projection is one product; 0: made within each step
  bool dense = false;        ///< that product is cuBLASLt's
  Kernel projection;         ///< not dense: that product's kernel
  Kernel form_state;         ///< h0 into the form that `step` multiplies; none: it takes states as they lie
  bool plain_states = true;  ///< `step` also keeps states as they lie
  PackOptions pack;
  std::string remark;
};

/// Whether all steps of a layer are one launch on Hopper's tensor cores, and that is the fastest that there is for them:
/// below some 48 rows in all directions the strict recurrence of cuda-persistent is.
bool tensor_cores_hold(const Problem& problem, const Build& build);

/// `resident`: kernels whose blocks wait for each other may be taken.
Schedule make_schedule(const Problem& problem, const Build& build, bool resident = true);

}  // namespace gru::cuda
