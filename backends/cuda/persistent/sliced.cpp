// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/persistent/sliced.hpp"

#include <algorithm>
#include <cstddef>
#include <type_traits>

#include "backends/cuda/persistent/schedule.hpp"

namespace gru::cuda {
namespace {

template <class View>
void cut(View& view, std::size_t dimension, std::int64_t first, std::int64_t count) {
  if (!view.given()) return;
  using Byte =
      std::conditional_t<std::is_const_v<std::remove_pointer_t<decltype(view.data)>>, const std::byte, std::byte>;
  const auto bytes = static_cast<std::int64_t>(size_of(view.dtype));
  view.data = static_cast<Byte*>(view.data) + first * view.strides[dimension] * bytes;
  view.extents[dimension] = count;
}

/// The rows [first, first + count) of a canonical call.
Call slice_of(Call call, std::int64_t first, std::int64_t count) {
  cut(call.x, 1, first, count);
  cut(call.h0, 1, first, count);
  cut(call.lengths, 0, first, count);
  cut(call.output, 1, first, count);
  cut(call.h_n, 1, first, count);
  return call;
}

}  // namespace

Decision<SliceSchedule> PersistentSlices::decide(const Problem& problem) {
  return decide_slices(problem, this_build());
}

PersistentSlices::PersistentSlices(StreamRef stream, const Problem& problem, Decision<SliceSchedule> decision,
                                   const Weights& weights)
    : engine_(stream, slice_problem(problem, decision.schedule->rows),
              Decision<PersistentSchedule>::yes(decision.schedule->of_slice), weights),
      rows_(decision.schedule->rows) {}

PersistentSlices PersistentSlices::fork(StreamRef stream) const { return {engine_.fork(stream), rows_}; }

void PersistentSlices::execute(const Call& call) {
  const std::int64_t batch = call.x.extents[1];
  for (std::int64_t first = 0; first < batch; first += rows_) {
    engine_.execute(slice_of(call, first, std::min(rows_, batch - first)));
  }
}

}  // namespace gru::cuda
