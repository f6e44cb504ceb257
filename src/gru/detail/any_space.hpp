// SPDX-License-Identifier: Apache-2.0
#pragma once

#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <typeindex>
#include <typeinfo>

#include "gru/detail/space.hpp"
#include "gru/error.hpp"

struct CUstream_st;  // cudaStream_t is a pointer to it

namespace gru {

/// An instance of an execution space whose type is known at run time only; SpaceTraits' functions as virtual ones.
class AnySpace {
 public:
  AnySpace() = default;
  AnySpace(const AnySpace&) = delete;
  AnySpace& operator=(const AnySpace&) = delete;
  virtual ~AnySpace() = default;

  virtual std::type_index type() const = 0;     ///< of the Space
  virtual std::string_view name() const = 0;    ///< the command line's name of the space
  virtual bool is_host() const = 0;             ///< whether host code may read its memory
  virtual std::string device_name() const = 0;  ///< of its Device: "cpu", "cuda:0"
  virtual int device_index() const = 0;         ///< the number of its device
  virtual void require_ready() const = 0;       ///< throws gru::Error, e.g. if Kokkos is not initialised
  virtual DeviceInfo device_info() const = 0;   ///< the figures that planning needs
  virtual void fence() const = 0;               ///< waits for this instance alone
  /// Memory of the space; throws if there is not enough.
  virtual std::shared_ptr<void> allocate(const std::string& label, std::size_t bytes) const = 0;
  virtual void copy_in(void* to, const void* host, std::size_t bytes) const = 0;     ///< done when it returns
  virtual void copy_out(void* host, const void* from, std::size_t bytes) const = 0;  ///< done when it returns
  virtual void set_zero(void* to, std::size_t bytes) const = 0;                      ///< queued on the instance
  /// The instance means another stream of the same device from now on, which stays the caller's; allocates nothing.
  /// Throws gru::Error unless the space is CudaStream.
  virtual void use_stream(CUstream_st* stream) = 0;
};

/// An AnySpace that holds an instance of Space.
template <class Space>
class SpaceInstance final : public AnySpace {
  using Traits = SpaceTraits<Space>;

 public:
  explicit SpaceInstance(const Space& space) : space_(space) {}  ///< holds a copy of the instance
  const Space& get() const { return space_; }                    ///< the instance

  std::type_index type() const override { return typeid(Space); }
  std::string_view name() const override { return Traits::name; }
  bool is_host() const override { return Traits::is_host; }
  std::string device_name() const override {
    return Traits::is_host ? Traits::device_kind
                           : Traits::device_kind + ":" + std::to_string(Traits::device_index(space_));
  }
  int device_index() const override { return Traits::device_index(space_); }
  void require_ready() const override { Traits::require_ready(space_); }
  DeviceInfo device_info() const override { return Traits::device_info(space_); }
  void fence() const override { Traits::fence(space_); }
  std::shared_ptr<void> allocate(const std::string& label, std::size_t bytes) const override {
    return Traits::allocate(space_, label, bytes);
  }
  void copy_in(void* to, const void* host, std::size_t bytes) const override {
    Traits::copy_in(space_, to, host, bytes);
  }
  void copy_out(void* host, const void* from, std::size_t bytes) const override {
    Traits::copy_out(space_, host, from, bytes);
  }
  void set_zero(void* to, std::size_t bytes) const override { Traits::set_zero(space_, to, bytes); }
  void use_stream(CUstream_st* stream) override {
    if constexpr (requires { Traits::use_stream(space_, stream); }) {
      Traits::use_stream(space_, stream);
    } else {
      throw Error("gru::Plan::use_stream: a plan on the space " + Traits::name +
                  " has no stream to change; only plans on CUDA devices have");
    }
  }

 private:
  Space space_;
};

}  // namespace gru
