// SPDX-License-Identifier: Apache-2.0
#pragma once

/// What the packing kernel is told, as plain data.

#include <cstdint>

#include "backends/cuda/device/factors.hpp"
#include "backends/cuda/packing/forms.hpp"
#include "gru/tensor.hpp"

namespace gru::cuda {

/// What packed elements are stored as.
enum class Stored : std::uint8_t {
  float32,
  float64,
  tf32,    ///< float32 rounded to 10 bits of mantissa
  tf32x3,  ///< two such parts of a value in three places: [big | small | big] over the whole row of a RowsForm; of a
           ///< SlicedForm in two, eight rows of the one and eight of the other
  float16,
  bfloat16,
};

/// Of factors that are not TF32's.
constexpr Stored stored_as(Factors factors) {
  return factors == Factors::float16    ? Stored::float16
         : factors == Factors::bfloat16 ? Stored::bfloat16
                                        : Stored::float32;
}

/// One matrix, or the two biases of a cell: strides count elements.
struct PackTask {
  PackForm form;
  Stored stored = Stored::float32;
  DType dtype[2] = {};              ///< of what is read
  const void* from[2] = {};         ///< (3H, K); bias: bias_ih and bias_hh, (3H) each, null: zeros
  std::int64_t stride[2] = {1, 1};  ///< from row to row and from column to column; bias: of either
  void* to = nullptr;
  int hidden = 0;   ///< H
  int columns = 0;  ///< K
};

/// Those of one launch: blockIdx.y says which.
struct PackTasks {
  static constexpr int kMost = 46;
  PackTask task[kMost];
  bool reset_after = true;
};
static_assert(sizeof(PackTasks) <= 4096, "more than a kernel's arguments hold on every device");

inline constexpr int kPackThreads = 256;

/// void(PackTasks).
const void* pack_kernel();

}  // namespace gru::cuda
