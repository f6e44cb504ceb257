// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <span>
#include <vector>

#include "backends/cuda/common/stream_ref.hpp"
#include "gru/weights.hpp"

namespace gru::cuda {

/// A model's weights as they are, on the stream's device for as long as this lives: what packing reads.
class UploadedWeights {
 public:
  /// Copies them on the stream; nothing for Weights::zeros.
  UploadedWeights(StreamRef stream, const Weights& weights);
  /// Device memory, cells[layer * D + direction]; the copies are done in the stream's order.
  std::span<const CellWeights> cells() const { return cells_; }
  /// For the stream, so that the weights on the host may go.
  void wait() const;

 private:
  StreamRef stream_;
  std::vector<CellWeights> cells_;
  std::vector<Tensor> copies_;  // of what does not lie row by row
  std::shared_ptr<std::byte> memory_;
};

}  // namespace gru::cuda
