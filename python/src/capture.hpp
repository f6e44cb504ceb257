// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstdint>

namespace gru::python {

/// What is allocated during the life of this object is no part of a CUDA graph that this thread captures meanwhile.
class OutsideCapture {
 public:
  OutsideCapture();
  OutsideCapture(const OutsideCapture&) = delete;
  OutsideCapture& operator=(const OutsideCapture&) = delete;
  ~OutsideCapture();  // NOLINT(performance-trivially-destructible): with CUDA it is not

 private:
  int mode_ = 0;
};

/// The number of the capture that the stream is in, different for each capture of the process; 0 if it is in none.
std::uint64_t capture_id(std::uintptr_t stream);

/// This thread's current CUDA device; -1: there is none.
int current_device();

/// What was launched on the device's stream `before` comes before what will be launched on `after`; no thread waits.
/// Returns false if CUDA could not promise it, such as for a stream that is gone.
bool order_streams(int device, std::uintptr_t before, std::uintptr_t after);

}  // namespace gru::python
