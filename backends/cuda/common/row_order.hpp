// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The rows of a batch in the order of their lengths, made on the device within an execution: nobody waits for it on the host.

#include <cstdint>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/tensors/tensors.hpp"

namespace gru::cuda {

/// Integers that who sorts writes behind the rows: where each part of the lengths ends (device/live_rows.cuh).
inline constexpr std::int64_t kRowOrderEnds = 1024;

/// order[place] = row, longest first, for `batch` rows of the call's lengths; rows of one part of the lengths come in any order.
/// ends: kRowOrderEnds integers, or null. firsts: steps + 1 integers, or null: how many rows live in all times before each one,
/// those of a time rounded up to fours. One block, which reads the lengths twice.
void order_rows(StreamRef stream, const CallTensors& call, int steps, int batch, int* order, int* ends = nullptr,
                int* firsts = nullptr);

/// What kernels leave out that stop at a row's end.
struct RowEnds {
  const CallTensors* call = nullptr;                ///< device memory; null: the kernel's second argument
  int steps = 0, batch = 0, cells = 0, hidden = 0;  ///< cells: L*D
  int width = 0;                                    ///< D*H
};
/// With lengths: zeros in the output past each row's end, and h_n of rows without a step; float32. Without: nothing.
void write_row_ends(StreamRef stream, const RowEnds& ends, const CallTensors& inline_call);
/// Their kernels, to be loaded before the first execution.
const void* row_order_kernel();
const void* row_ends_kernel();

}  // namespace gru::cuda
