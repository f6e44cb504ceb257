// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <memory>
#include <string_view>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/single_block/schedule.hpp"
#include "gru/backend.hpp"

namespace gru {
namespace cuda {

struct SingleBlock {
  static constexpr std::string_view name = "cuda-single-block";

  static Decision<SmallSchedule> decide(const Problem& problem);
  static std::unique_ptr<Engine> make(StreamRef stream, const Problem& problem, SmallSchedule schedule,
                                      const Weights& weights);

 private:
  struct Impl;
};

}  // namespace cuda

/// Few hidden units, up to 128: a block, or a warp of it, holds all weights of a direction in registers and serves a
/// few sequences for all T steps. Nothing is exchanged, so any batch runs. Strict float32, reset-after; also in the
/// place of tf32; in 16-bit modes with products in 16 bits where that is faster.
template <class S>
using CudaSingleBlock = cuda::OnStream<S, cuda::SingleBlock>;

}  // namespace gru
