// SPDX-License-Identifier: Apache-2.0
#pragma once

/// How the host starts the per-step kernels.

#include <cuda_runtime_api.h>

#include <cstdint>

#include "backends/cuda/common/stream_ref.hpp"
#include "backends/cuda/per_step/kernels.hpp"

namespace gru::cuda {

/// Rows up to whole tiles: what a kernel's blocks may read.
std::int64_t padded_rows(const Kernel& kernel, std::int64_t rows);

/// The blocks of a step.
dim3 step_grid(const Kernel& kernel, std::int64_t hidden, std::int64_t batch, std::int64_t directions);

/// Lets a kernel have the shared memory that its launches ask for. On the current device.
void allow_shared_memory(const Kernel& kernel);

/// Throws DeviceRefusal unless all blocks of a grid are on the stream's device at once, and so many more.
void require_resident(StreamRef stream, const Kernel& kernel, dim3 grid, std::int64_t reserved);

/// `early`: the kernel may start before its predecessor in the stream has ended, and waits for that itself.
void launch(StreamRef on, const Kernel& kernel, dim3 grid, const StepArgs& args, const CallTensors& inline_call,
            bool early);

}  // namespace gru::cuda
