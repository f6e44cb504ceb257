// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/packing/uploaded_weights.hpp"

#include <cstdint>

#include "backends/cuda/common/runtime.hpp"

namespace gru::cuda {
namespace {

/// Calls f(view) for each of a cell's tensors that is given.
template <class Cell, class F>
void for_each_tensor(Cell& cell, const F& f) {
  for (auto* view : {&cell.weight_ih, &cell.weight_hh, &cell.bias_ih, &cell.bias_hh}) {
    if (view->given()) f(*view);
  }
}

std::size_t padded_bytes(const ConstTensorView& view) { return (size_bytes_of(view) + 15) / 16 * 16; }

}  // namespace

UploadedWeights::UploadedWeights(StreamRef stream, const Weights& weights) : stream_(stream) {
  if (weights.are_zeros()) return;
  const DeviceGuard guard(stream.device);
  const Config& c = weights.config();
  std::size_t bytes = 0;
  for (std::int64_t layer = 0; layer < c.num_layers; ++layer) {
    for (std::int64_t d = 0; d < c.num_directions(); ++d) {
      for_each_tensor(cells_.emplace_back(weights.cell(layer, d)),
                      [&](const ConstTensorView& view) { bytes += padded_bytes(view); });
    }
  }
  memory_ = allocate(stream, "the weights before they are packed", bytes);
  std::byte* to = memory_.get();
  for (CellWeights& cell : cells_) {
    for_each_tensor(cell, [&](ConstTensorView& view) {
      const void* from = view.data;
      if (view.strides != contiguous_strides(view.rank, view.extents)) {
        from = copies_.emplace_back(convert(view, view.dtype)).bytes();
        view.strides = contiguous_strides(view.rank, view.extents);
      }
      view.data = to;
      check(cudaMemcpyAsync(to, from, size_bytes_of(view), cudaMemcpyHostToDevice, stream.stream),
            "cudaMemcpyAsync of the weights");
      to += padded_bytes(view);
    });
  }
}

void UploadedWeights::wait() const { check(cudaStreamSynchronize(stream_.stream), "cudaStreamSynchronize"); }

}  // namespace gru::cuda
