// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The rows of a batch in the order of their lengths, made on the device within an execution: nobody waits for it on the host.

#include <cstdint>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/tensors/tensors.hpp"

namespace gru::cuda {

/// Lengths are told apart to a part in so many of T; rows of one part come in any order.
inline constexpr int kLengthParts = 1024;

/// order[place] = row, longest first, for `batch` rows of the call's lengths. One block, which reads the lengths twice.
void order_rows(StreamRef stream, const CallTensors& call, int steps, int batch, int* order);

}  // namespace gru::cuda
