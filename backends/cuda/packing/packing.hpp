// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>
#include <span>
#include <vector>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/packing/tasks.hpp"
#include "gru/config.hpp"
#include "gru/weights.hpp"

namespace gru::cuda {

/// How an engine's packed weights are made of torch's, now and whenever new ones are set: a list of matrices and biases
/// with their forms and places. The places are device memory, zeroed, that outlives this.
class Packing {
 public:
  explicit Packing(const Config& config) : config_(config) {}

  // cell: layer * D + direction.
  void weight_ih(std::int64_t cell, const PackForm& form, Stored stored, void* to);
  void weight_hh(std::int64_t cell, const PackForm& form, Stored stored, void* to);
  /// Both biases, folded (folded_bias); nothing without a bias.
  void bias(std::int64_t cell, const BiasForm& form, Stored stored, void* to);

  /// From tensors on the stream's device, cells[layer * D + direction]; launches only.
  void run(StreamRef stream, std::span<const CellWeights> cells) const;

  /// From tensors on the host, which go up as they are; done when it returns. Nothing to do for Weights::zeros.
  void run(StreamRef stream, const Weights& weights) const;

 private:
  enum class Source : std::uint8_t { weight_ih, weight_hh, bias };
  struct Entry {
    std::int64_t cell;
    Source source;
    PackTask task;  // all but what is read
  };
  void add(std::int64_t cell, Source source, const PackForm& form, Stored stored, std::int64_t columns, void* to);

  Config config_;
  std::vector<Entry> entries_;
};

}  // namespace gru::cuda
