// SPDX-License-Identifier: Apache-2.0
#pragma once

/// The caller's tensors as kernels read them: plain data, written by host code. Strides count elements.

#include <cstdint>

namespace gru::cuda {

/// A (T or L*D, B, features) tensor of the caller's, element type known to the kernel.
struct Operand {
  const void* data = nullptr;
  std::int64_t stride_t = 0;
  std::int64_t stride_b = 0;
  std::int64_t stride_k = 0;
  bool vectors = false;  ///< features are contiguous, rows aligned to and a multiple of 16 bytes (or padded with zeros)
};
struct Result {
  void* data = nullptr;
  std::int64_t stride_t = 0;
  std::int64_t stride_b = 0;
  std::int64_t stride_k = 0;
};

/// The caller's tensors of one execution. A plan's graph reads them from device memory, so that each execution may
/// bring its own; launches outside of that graph carry them as a kernel argument.
struct CallTensors {
  Operand x;                      ///< (T, B, I)
  Operand h0;                     ///< (L*D, B, H); data null: zeros
  Result output;                  ///< (T, B, D*H); data null: not wanted
  Result h_n;                     ///< (L*D, B, H); data null: not wanted
  const void* lengths = nullptr;  ///< (B), clamped to 0..T; null: all T
  std::int64_t lengths_stride = 0;
  bool lengths_are_64bit = false;
};

/// The kernel void(CallTensors from, CallTensors* to): one thread writes one struct.
const void* write_call_kernel();

}  // namespace gru::cuda
