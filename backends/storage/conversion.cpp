// SPDX-License-Identifier: Apache-2.0
#include "backends/storage/conversion.hpp"

namespace gru::storage {
namespace {

// As (planes, rows, columns).
template <class View>
View of_rank_3(View view) {
  for (; view.rank < 3; ++view.rank) {
    for (std::size_t d = 2; d > 0; --d) {
      view.extents[d] = view.extents[d - 1];
      view.strides[d] = view.strides[d - 1];
    }
    view.extents[0] = 1;
    view.strides[0] = 0;
  }
  return view;
}

// Whether an outer dimension goes on where the inner one of `extent` ends.
bool follows(std::int64_t outer, std::int64_t inner, std::int64_t extent) { return outer == inner * extent; }

}  // namespace

void Conversions::add(const ConstTensorView& from_any, const TensorView& to_any) {
  if (!from_any.given() || !to_any.given() || from_any.size() == 0) return;
  const ConstTensorView from = of_rank_3(from_any);
  const TensorView to = of_rank_3(to_any);
  Conversion c{from.data, to.data, from.extents[0], from.extents[1], from.extents[2], {}, {}};
  for (std::size_t d = 0; d < 3; ++d) {
    c.from_strides[d] = from.strides[d];
    c.to_strides[d] = to.strides[d];
  }
  const auto side_by_side = [&](int outer, std::int64_t extent) {
    return follows(c.from_strides[outer], c.from_strides[2], extent) &&
           follows(c.to_strides[outer], c.to_strides[2], extent);
  };
  if (c.rows == 1 || side_by_side(1, c.columns)) {
    c.columns *= c.rows;
    c.rows = 1;
    if (c.planes == 1 || side_by_side(0, c.columns)) {
      c.columns *= c.planes;
      c.planes = 1;
    }
  }
  list[count++] = c;
}

}  // namespace gru::storage
