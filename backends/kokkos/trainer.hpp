// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <span>
#include <string>

#include "backends/kokkos/backward_sums.hpp"
#include "backends/kokkos/host_launch.hpp"
#include "backends/kokkos/packing/pack.hpp"
#include "backends/kokkos/recurrence.hpp"
#include "gru/call.hpp"
#include "gru/problem.hpp"

namespace gru::kokkos {

/// A dtype's view of a canonical tensor.
template <class U, class View>
Strided<U> strided(const View& view) {
  return {static_cast<U*>(view.data), {view.strides[0], view.strides[1], view.strides[2]}};
}

/// What a plan for training has beside its forward: weights as backward multiplies them, shared by forks, and a workspace.
template <class Space, class T, class Multiply>
class Trainer {
  using Memory = typename Space::memory_space;
  using Values = Kokkos::View<T*, Memory>;

 public:
  Trainer() = default;

  /// Packs the weights; those that are zeros are nothing until clear_weights() or new ones.
  Trainer(const Space& space, const Shape& shape, const Weights& weights) {
    weights_ = Values(Kokkos::view_alloc(space, Kokkos::WithoutInitializing, "gru::kokkos::back_weights"),
                      packed_back_size(shape));
    const auto host = Kokkos::create_mirror_view(Kokkos::WithoutInitializing, weights_);
    if (weights.are_zeros()) {
      if constexpr (HostSpace<Space>) return;
      std::fill_n(host.data(), weights_.extent(0), T(0));
    } else {
      pack_weights<T>(shape, weights, nullptr, host.data(), packing_threads(space));
    }
    Kokkos::deep_copy(space, weights_, host);
    space.fence("gru::kokkos::pack");
  }

  /// The workspace of the plan's largest call; `ranks` is how many take tasks, `tile_rows` the largest tile.
  void allocate(const Space& space, const Problem& problem, const Shape& shape, int tile_rows, int ranks) {
    const PlanOptions& o = problem.options;
    remakes_ = o.training == Training::remake_gates;
    dropout_ = o.dropout;
    place_ = back_workspace(shape, remakes_, o.seq_len, o.batch_size, tile_rows, ranks);
    largest_tile_ = tile_rows;
    memory_ = Values(Kokkos::view_alloc(space, Kokkos::WithoutInitializing, "gru::kokkos::back_workspace"),
                     static_cast<std::size_t>(place_.end));
    reserve_elements_ = remakes_ ? kept_outputs_begin(shape, shape.layers - 1, static_cast<int>(o.seq_len),
                                                      static_cast<int>(o.batch_size), 0)
                                 : kept_gates_begin(shape, shape.layers * shape.directions, static_cast<int>(o.seq_len),
                                                    static_cast<int>(o.batch_size), 0);
  }

  std::size_t reserve_bytes() const { return static_cast<std::size_t>(reserve_elements_) * sizeof(T); }
  std::size_t workspace_bytes() const { return memory_.extent(0) * sizeof(T); }
  T* weights() const { return weights_.data(); }
  void clear_weights() const {
    if constexpr (HostSpace<Space>) std::fill_n(weights_.data(), weights_.extent(0), T(0));
  }

  /// What a forward with a reserve keeps and drops.
  template <class Forward>
  void keep(Forward& forward, const Call& call) const {
    if (!call.reserve.given()) return;
    T* const kept = static_cast<T*>(call.reserve.data);
    (remakes_ ? forward.kept_outputs : forward.kept_gates) = kept;
    forward.dropout = Dropout::of(dropout_, call.dropout_seed, call.dropout_offset);
  }

  /// All layers, from the last. launch(label, functor) runs a functor on the plan's teams.
  template <class Launch>
  void backward(const BackwardCall& call, const Shape& shape, const Multiply& multiply, const T* weights,
                std::int32_t* lengths, int tile_rows, const Launch& launch) const {
    BackwardData<T, Multiply> data;
    data.shape = shape;
    data.multiply = multiply;
    data.place = place_;
    data.weights = weights;
    data.back_weights = weights_.data();
    data.memory = memory_.data();
    data.lengths = lengths;
    data.given = {call.lengths.data, call.lengths.strides[0], call.lengths.dtype == DType::int64};
    data.x = strided<const T>(call.x);
    data.h0 = strided<const T>(call.h0);
    data.output = strided<const T>(call.output);
    data.grad_output = strided<const T>(call.grad_output);
    data.grad_h_n = strided<const T>(call.grad_h_n);
    data.grad_x = strided<T>(call.grad_x);
    data.grad_h0 = strided<T>(call.grad_h0);
    (remakes_ ? data.kept_outputs : data.kept_gates) = static_cast<const T*>(call.reserve.data);
    data.dropout = Dropout::of(dropout_, call.dropout_seed, call.dropout_offset);
    data.accumulate = call.accumulate;
    data.steps = static_cast<int>(call.x.extents[0]);
    data.batch = static_cast<int>(call.x.extents[1]);
    data.tile_rows = std::max(1, tile_rows);
    data.largest_tile = largest_tile_;
    for (data.layer = shape.layers - 1; data.layer >= 0; --data.layer) {
      if (data.batch > 0) launch(recurrence_label_, BackwardRecurrence<T, Multiply>{data});
      const bool inputs = data.layer > 0 || call.grad_x.given();
      launch(sums_label_, BackwardSums<T, Multiply>{data, parameters(call, shape, data.layer), inputs});
    }
  }

 private:
  static Parameter<T> parameter(const TensorView& view) {
    return {static_cast<T*>(view.given() ? view.data : nullptr), view.strides[0], view.strides[1]};
  }
  static LayerParameters<T> parameters(const BackwardCall& call, const Shape& shape, int layer) {
    LayerParameters<T> all;
    for (int d = 0; !call.cells.empty() && d < shape.directions; ++d) {
      const CellGradients& cell = call.cells[static_cast<std::size_t>(layer * shape.directions + d)];
      all.cell[d] = {parameter(cell.weight_ih), parameter(cell.weight_hh), parameter(cell.bias_ih),
                     parameter(cell.bias_hh)};
    }
    return all;
  }

  Values weights_;  // packed, shared by forks
  Values memory_;
  BackWorkspace place_;
  bool remakes_ = false;
  double dropout_ = 0;
  int largest_tile_ = 1;
  std::ptrdiff_t reserve_elements_ = 0;
  // Members, as Kokkos' labels are copied on the heap.
  std::string recurrence_label_ = "gru::kokkos::backward_recurrence";
  std::string sums_label_ = "gru::kokkos::backward_sums";
};

/// New weights of a cell, from views in the plan's memory.
template <class T>
PackCell<T> pack_cell(const Shape& shape, int layer, int direction, const CellWeights& cell, T* weights, T* back) {
  const auto view = [](const ConstTensorView& v) {
    return ParameterView<T>{static_cast<const T*>(v.given() ? v.data : nullptr), v.strides[0], v.strides[1]};
  };
  return {shape,   layer, direction, view(cell.weight_ih), view(cell.weight_hh), view(cell.bias_ih), view(cell.bias_hh),
          weights, back};
}

}  // namespace gru::kokkos
