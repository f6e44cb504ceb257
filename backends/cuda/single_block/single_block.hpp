// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string_view>

#include "backends/cuda/common/on_stream.hpp"
#include "backends/cuda/single_block/schedule.hpp"
#include "gru/backend.hpp"

namespace gru {
namespace cuda {

/// The space-independent part of CudaSingleBlock.
class SingleBlock {
 public:
  static constexpr std::string_view name = "cuda-single-block";

  static Decision<SmallSchedule> decide(const Problem& problem);
  SingleBlock(StreamRef stream, const Problem& problem, Decision<SmallSchedule> decision, const Weights& weights);
  SingleBlock(SingleBlock&&) noexcept;
  SingleBlock& operator=(SingleBlock&&) noexcept;
  ~SingleBlock();

  void execute(const Call& call);
  SingleBlock fork(StreamRef stream) const;
  void rebind(StreamRef stream);  ///< another stream of the same device
  std::size_t workspace_bytes() const;
  Status status() const;

 private:
  struct Impl;
  explicit SingleBlock(std::unique_ptr<Impl> impl);
  std::unique_ptr<Impl> impl_;
};

}  // namespace cuda

/// Few hidden units, up to 128: a block, or a warp of it, holds all weights of a direction in registers and serves a
/// few sequences for all T steps. Nothing is exchanged, so any batch runs. Strict float32, reset-after; up to 64 units
/// also in the place of tf32.
template <class S>
using CudaSingleBlock = cuda::OnStream<S, cuda::SingleBlock>;

}  // namespace gru
