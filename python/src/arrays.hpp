// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "gru/tensor.hpp"

namespace gru::python {

namespace nb = nanobind;

/// Somebody's array as the library sees it: where its elements lie, and on which device. No element is copied.
struct Array {
  TensorView view;       ///< rank 1 to 3
  bool is_cuda = false;  ///< false: memory that the host reads
  int device = 0;        ///< which CUDA device; 0 on the host
};

/// Reads arrays through DLPack or the buffer protocol: NumPy, CuPy, torch, JAX and others. torch tensors go through
/// DLPack's exchange functions, which take nanoseconds and look past requires_grad, as gru's own autograd does the rest.
/// Keeps what it read alive. Used with the GIL held; the views may be used without.
class ArrayReader {
 public:
  /// None gives a view of rank 0. `argument` is what the caller calls it. Throws gru::Error for what is no array, for an
  /// element type or a device that the library does not know, for a rank of 0 or more than 3, and, if it is to be
  /// written, for one that is read-only.
  Array read(nb::handle object, const char* argument, bool writable = false);

  /// The stream that the framework of the last CUDA array which has DLPack's exchange functions works on now.
  std::optional<std::uintptr_t> current_stream() const { return stream_; }

 private:
  std::vector<nb::ndarray<nb::ro>> kept_;
  std::optional<std::uintptr_t> stream_;
};

}  // namespace gru::python
