// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <nanobind/nanobind.h>
#include <nanobind/ndarray.h>

#include <cstdint>
#include <optional>
#include <vector>

#include "gru/tensor.hpp"
#include "python/src/place.hpp"

namespace gru::python {

namespace nb = nanobind;

/// Somebody's array as the library sees it: where its elements lie, and on which device. No element is copied.
struct Array {
  TensorView view;  ///< rank 1 to 3; not given: None
  Place place;
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

  /// The same for an array that must lie where the plan computes; throws gru::Error if it does not.
  TensorView read_at(const Place& place, nb::handle object, const char* argument, bool writable = false);

  /// Asks no further array for its stream: for calls of one framework.
  void keep_stream() { asks_stream_ = false; }

  /// The stream of a call: the caller's word, or the one that the framework of the last CUDA array which has DLPack's
  /// exchange functions works on now, or the default stream.
  std::uintptr_t stream_of(std::optional<std::uintptr_t> named = {}) const {
    return named.value_or(stream_.value_or(0));
  }

 private:
  std::vector<nb::ndarray<nb::ro>> kept_;
  std::optional<std::uintptr_t> stream_;
  bool asks_stream_ = true;
};

}  // namespace gru::python
