// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <algorithm>
#include <cstddef>
#include <exception>
#include <initializer_list>
#include <memory>
#include <string>
#include <vector>

#include "gru/detail/space.hpp"
#include "gru/error.hpp"
#include "gru/tensor.hpp"

namespace gru {

/// Memory where a plan on Space wants it: a row-major tensor of rank 1 to 3, zeroed. Movable; freed with the object.
template <class Space>
class Buffer {
 public:
  Buffer() = default;
  Buffer(Buffer&&) noexcept = default;             ///< the moved-from buffer is empty
  Buffer& operator=(Buffer&&) noexcept = default;  ///< likewise

  /// Throws gru::Error for extents out of range, if the space is not ready, or if its memory does not suffice.
  Buffer(const Space& space, DType dtype, std::initializer_list<std::int64_t> extents)
      : Buffer(space, tensor_view(static_cast<void*>(nullptr), dtype, extents)) {}

  /// The extents and dtype of a host tensor, and its elements.
  Buffer(const Space& space, const Tensor& host) : Buffer(space, shape_of(host)) { copy_in(host.bytes()); }

  TensorView view() { return view_; }             ///< the whole buffer
  ConstTensorView view() const { return view_; }  ///< the whole buffer
  /// Bytes of all elements.
  std::size_t size_bytes() const { return static_cast<std::size_t>(view_.size()) * size_of(view_.dtype); }

  /// From size_bytes() bytes of row-major host memory; done when it returns.
  void copy_in(const void* host) {
    if (size_bytes() > 0) SpaceTraits<Space>::copy_in(*space_, view_.data, host, size_bytes());
  }
  /// To size_bytes() bytes of host memory, after all that was launched on the space instance before.
  void copy_out(void* host) const {
    if (size_bytes() > 0) SpaceTraits<Space>::copy_out(*space_, host, view_.data, size_bytes());
  }
  /// A host tensor with this buffer's elements.
  Tensor to_host() const {
    Tensor host(view_.dtype, std::vector<std::int64_t>(view_.extents.begin(), view_.extents.begin() + view_.rank));
    copy_out(host.bytes());
    return host;
  }

 private:
  Buffer(const Space& space, const TensorView& shape) : view_(shape) {
    SpaceTraits<Space>::require_ready(space);
    space_ = std::make_shared<Space>(space);
    // One element at least: an empty tensor still has an address that is the space's.
    const std::size_t bytes = std::max(size_bytes_of(view_), size_of(view_.dtype));
    memory_ = allocate(space, bytes);
    view_.data = memory_.get();
    SpaceTraits<Space>::set_zero(space, view_.data, bytes);
    SpaceTraits<Space>::fence(space);  // the memory may be used on any instance from here on
  }

  // Whatever else than an Error comes out of the space is one: std::bad_alloc, or what Kokkos throws in its place.
  static std::shared_ptr<void> allocate(const Space& space, std::size_t bytes) {
    try {
      return SpaceTraits<Space>::allocate(space, "gru::Buffer", bytes);
    } catch (const Error&) {
      throw;
    } catch (const std::exception& error) {
      throw Error("gru::Buffer: " + std::to_string(bytes) + " bytes could not be allocated: " + error.what() +
                  "; free some memory, or use smaller extents");
    }
  }

  static TensorView shape_of(const Tensor& host) {
    ConstTensorView view = host.view();
    return {nullptr, view.dtype, view.rank, view.extents, view.strides};
  }

  std::shared_ptr<Space> space_;
  std::shared_ptr<void> memory_;
  TensorView view_;
};

}  // namespace gru
