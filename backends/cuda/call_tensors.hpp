#pragma once

#include "backends/cuda/step_args.hpp"
#include "backends/cuda/stream_ref.hpp"
#include "gru/call.hpp"

namespace gru::cuda {

/// A canonical call as kernels read it.
CallTensors call_tensors(const Call& call);

/// Writes a call into device memory, in the stream's order.
void store_call(StreamRef stream, CallTensors* to, const CallTensors& call);

}  // namespace gru::cuda
