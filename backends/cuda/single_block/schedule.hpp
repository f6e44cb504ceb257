// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <string>
#include <vector>

#include "backends/cuda/common/build.hpp"
#include "backends/cuda/single_block/kernels.hpp"
#include "gru/backend.hpp"

namespace gru::cuda {

/// How the small kernels run a problem, layer after layer; decided from numbers alone.
struct SmallSchedule {
  std::vector<const SmallKernel*> layers;  ///< the kernel of each; empty: not at all
  std::string reason;
  double clocks = 0;  ///< of the whole execution, roughly

  bool possible() const { return !layers.empty(); }
};

SmallSchedule make_small_schedule(const Problem& problem);

/// Clocks of a call, `call` being the plan's problem with the call's T and B, by the kernels planned for more.
double clocks_as_planned(const SmallSchedule& planned, const Problem& call);

/// Yes where single blocks hold the units, unless groups of blocks (cuda-persistent) are estimated to be faster.
Decision<SmallSchedule> decide_single_block(const Problem& problem, const Build& build);

/// Teams that share a block, when so many sequences and directions are to be spread over the device.
int teams_of_block(const SmallKernel& kernel, std::int64_t batch, std::int64_t directions, int sm_count);

}  // namespace gru::cuda
