// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/tensors/tensors.hpp"
#include "gru/call.hpp"

namespace gru::cuda {

/// A canonical call as kernels read it.
CallTensors call_tensors(const Call& call);

/// Writes a call into device memory, in the stream's order.
void store_call(StreamRef stream, CallTensors* to, const CallTensors& call);

}  // namespace gru::cuda
