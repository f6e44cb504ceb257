// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>
#include <utility>

#include "format.hpp"
#include "gru/error.hpp"
#include "gru/tensor.hpp"
#include "overlap.hpp"

// What every entry of a plan asks of its tensors.

namespace gru {

/// The checks in the words of one entry, such as "gru::Plan::execute".
struct TensorChecks {
  std::string_view where;

  [[noreturn]] void refuse(std::string_view tensor, const std::string& problem) const {
    throw Error(fmt::format("{}: {}: {}", where, tensor, problem));
  }

  /// What every tensor must be: the right rank, the right dtype, a pointer unless it is empty.
  void require_tensor(std::string_view name, const ConstTensorView& view, int rank, DType dtype,
                      std::string_view shape) const {
    if (view.rank != rank) {
      refuse(name, fmt::format("expected rank {} {}, got rank {} {}", rank, shape, view.rank,
                               format_extents(view.rank, view.extents)));
    }
    if (view.dtype != dtype) {
      refuse(name, fmt::format("expected {} (the plan's dtype), got {}", name_of(dtype), name_of(view.dtype)));
    }
    for (int d = 0; d < rank; ++d) {
      if (view.extents[static_cast<std::size_t>(d)] < 0) {
        refuse(name, "negative extents " + format_extents(rank, view.extents));
      }
    }
    if (view.data == nullptr && view.size() > 0) refuse(name, "the data pointer is null");
  }

  void require_extents(std::string_view name, const ConstTensorView& view, const Dims& extents,
                       std::string_view meaning) const {
    if (!std::equal(extents.begin(), extents.begin() + view.rank, view.extents.begin())) {
      refuse(name, fmt::format("expected {} = {}, got {}", meaning, format_extents(view.rank, extents),
                               format_extents(view.rank, view.extents)));
    }
  }

  void require_distinct_elements(std::string_view name, const ConstTensorView& view) const {
    if (!overlaps_itself(view)) return;
    refuse(name, fmt::format(
                     "an output's elements must be distinct, but with extents {} and strides {} some share an address",
                     format_extents(view.rank, view.extents), format_extents(view.rank, view.strides)));
  }

  void require_apart(std::string_view a_name, const ConstTensorView& a, std::string_view b_name,
                     const ConstTensorView& b) const {
    if (surely_overlap(a, b)) {
      refuse(a_name, fmt::format("shares memory with {}; outputs need memory of their own", b_name));
    }
  }
};

/// The same memory with a batch dimension of extent 1 at `axis`.
template <class View>
View with_batch(const View& view, std::size_t axis) {
  View result = view;
  result.rank = 3;
  for (std::size_t from = 0, to = 0; to < 3; ++to) {
    result.extents[to] = to == axis ? 1 : view.extents[from];
    result.strides[to] = to == axis ? 0 : view.strides[from];
    if (to != axis) ++from;
  }
  return result;
}

template <class View>
void swap_time_and_batch(View& view) {
  std::swap(view.extents[0], view.extents[1]);
  std::swap(view.strides[0], view.strides[1]);
}

}  // namespace gru
