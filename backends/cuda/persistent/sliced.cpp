// SPDX-License-Identifier: Apache-2.0
#include "backends/cuda/persistent/sliced.hpp"

#include <algorithm>
#include <cstddef>
#include <memory>
#include <type_traits>
#include <utility>

#include "backends/cuda/persistent/persistent.hpp"
#include "backends/cuda/persistent/schedule/schedule.hpp"

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

struct PersistentSlices::Impl final : Engine {
  Impl(StreamRef on, std::unique_ptr<Engine> made, std::int64_t rows_of_slice)
      : Engine(on), engine(std::move(made)), rows(rows_of_slice) {}

  void execute(const Call& call) override {
    const std::int64_t batch = call.x.extents[1];
    for (std::int64_t first = 0; first < batch; first += rows) {
      engine->execute(slice_of(call, first, std::min(rows, batch - first)));
    }
  }
  std::size_t workspace_bytes() const override { return engine->workspace_bytes(); }
  Status status() const override { return engine->status(); }
  std::unique_ptr<Engine> fork_on(StreamRef on) const override {
    return std::make_unique<Impl>(on, engine->fork(on), rows);
  }
  void rebound() override { engine->rebind(stream); }
  void load(std::span<const CellWeights> cells) override { engine->set_weights(cells); }

  std::unique_ptr<Engine> engine;  // of one slice
  std::int64_t rows;
};

Decision<SliceSchedule> PersistentSlices::decide(const Problem& problem) {
  return decide_slices(problem, this_build());
}

std::unique_ptr<Engine> PersistentSlices::make(StreamRef stream, const Problem& problem, SliceSchedule schedule,
                                               const Weights& weights) {
  const std::int64_t rows = schedule.rows;
  return std::make_unique<Impl>(
      stream, Persistent::make(stream, slice_problem(problem, rows), std::move(schedule.of_slice), weights), rows);
}

}  // namespace gru::cuda
