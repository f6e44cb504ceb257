// SPDX-License-Identifier: Apache-2.0
#pragma once

#include "backends/storage/conversion.hpp"

namespace gru::cuda {

/// The kernel of a dtype of 16 bits and a way: void(Conversions, chunks as std::int64_t), a thread a chunk of eight elements.
const void* convert_kernel(DType half, storage::Way way);

/// Threads of its blocks.
inline constexpr int kConvertThreads = 256;

}  // namespace gru::cuda
